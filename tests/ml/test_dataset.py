import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from helpers.pictures import draw, encode
from shoe_classifier.ml.dataset import (
    HOLDOUT_SHARE,
    extract_foreground,
    is_held_out,
    load,
    synthetic_negatives,
    without_lookalikes,
)
from shoe_classifier.ml.image_file import ImageFile
from shoe_classifier.ml.zip_reader import Picture


def pictures(count: int) -> list[Picture]:
    return [
        Picture("Boot" if i % 2 else "Shoe", f"{i}.jpg", draw("Boot" if i % 2 else "Shoe", i)) for i in range(count)
    ]


def test_load_appends_labels_and_leaves_out_duplicates_and_damage() -> None:
    labels = ["Sandal"]
    given = [*pictures(4), pictures(4)[0], Picture("Boot", "x.jpg", b"broken")]
    loaded = load(given, 16, labels)
    assert labels == ["Sandal", "Shoe", "Boot"]
    assert loaded.images.shape == (4, 16, 16, 3)
    assert loaded.labels.tolist() == [1, 2, 1, 2]
    assert loaded.hashes[0] == hashlib.sha256(given[0].data).hexdigest()


def test_pictures_in_a_file_are_those_in_memory(tmp_path: Path) -> None:
    held, stored = load(pictures(20), 16, []), load(pictures(20), 16, [], file=tmp_path / "images")
    assert isinstance(stored.images, ImageFile)
    assert stored.hashes == held.hashes
    for mine, theirs in zip(stored.split(), held.split(), strict=True):
        assert np.array_equal(mine.images[:], theirs.images)
    both, expected = (some.split()[0].joined(synthetic_negatives(16, 3)) for some in (stored, held))
    assert np.array_equal(both.images[:], expected.images)
    assert len(without_lookalikes(stored, held)) == 0


def test_load_leaves_out_the_excluded() -> None:
    given = pictures(3)
    excluded = frozenset([hashlib.sha256(given[1].data).hexdigest()])
    assert len(load(given, 16, [], exclude=excluded)) == 2


def test_split_is_by_hash_and_about_the_share() -> None:
    hashes = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(5000)]
    share = np.mean([is_held_out(value) for value in hashes])
    assert abs(share - HOLDOUT_SHARE) < 0.02
    train, held_out = load(pictures(60), 16, []).split()
    assert not set(train.hashes) & set(held_out.hashes)
    assert len(train) + len(held_out) == 60


def test_extract_foreground_keeps_the_object_and_its_white_inside() -> None:
    image = np.full((64, 64, 3), 255, np.uint8)
    image[16:48, 16:48] = (200, 0, 0)
    image[28:36, 28:36] = 255  # a hole that the background does not reach
    cut = extract_foreground(image[None])[0]
    assert cut[0, 0].tolist() == [0, 0, 0, 0]
    assert cut[22, 22].tolist() == [200, 0, 0, 255]
    assert cut[32, 32, 3] == 255


def test_lookalikes_are_left_out_though_saved_again() -> None:
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).resize((64, 64)) for _ in range(4)]
    first = load([Picture("a", "", encode(image, "PNG")) for image in images], 32, [])
    again = load([Picture("a", "", encode(image, "JPEG", quality=60)) for image in images[:2]], 32, [])
    assert without_lookalikes(first, again).hashes == first.hashes[2:]
    assert without_lookalikes(first, again[np.zeros(2, bool)]).hashes == first.hashes


def test_synthetic_negatives_are_of_many_kinds_and_always_the_same() -> None:
    negatives = synthetic_negatives(32)
    assert np.array_equal(negatives.images, synthetic_negatives(32).images)
    assert len(set(negatives.hashes)) == 60
    spread = negatives.images.reshape(60, -1, 3).std(axis=1).mean(axis=1)
    assert (spread == 0).sum() == 15
    assert (spread > 40).sum() > 15
