import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from shoe_classifier.ml.batches import Share
from shoe_classifier.ml.image_file import ImageCollector, ImageFile

SIZE = 16


def pictures(count: int, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


def stored(path: Path, images: np.ndarray) -> ImageFile:
    with ImageCollector(images.shape[1], path) as collector:
        for image in images:
            collector.add(image)
    collected = collector.collected()
    assert isinstance(collected, ImageFile)
    return collected


def test_a_file_reads_like_an_array(tmp_path: Path) -> None:
    images = pictures(7)
    file = stored(tmp_path / "images", images)
    assert (len(file), file.shape) == (7, images.shape)
    for keep in (3, slice(1, 6, 2), np.array([5, 0, 5]), slice(None)):
        assert np.array_equal(file[keep], images[keep])
    assert np.array_equal(np.stack(list(file)), images)
    chosen = file.select(np.array([6, 2, 4]))
    assert np.array_equal(pickle.loads(pickle.dumps(chosen))[1:], images[[2, 4]])


def test_more_pictures_go_to_the_end(tmp_path: Path) -> None:
    images, more = pictures(4), pictures(2)[:, ::-1]
    both = stored(tmp_path / "images", images).select(np.array([1, 3])).extended(more)
    assert np.array_equal(both[:], np.concatenate([images[[1, 3]], more]))


def test_no_pictures_are_read_from_an_empty_file(tmp_path: Path) -> None:
    assert stored(tmp_path / "images", pictures(0)).shape == (0, SIZE, SIZE, 3)
    assert stored(tmp_path / "images", pictures(0))[:].shape == (0, SIZE, SIZE, 3)


@pytest.mark.parametrize("count", [200, 800])
def test_batches_take_the_memory_of_one_however_many_pictures_there_are(tmp_path: Path, count: int) -> None:
    one = pictures(1, 128)[0]
    with ImageCollector(128, tmp_path / "images") as collector:
        for _ in range(count):
            collector.add(one)  # 49 KB
    share = Share(collector.collected(), np.zeros(count, np.int64), count)
    tracemalloc.start()
    for step in range(20):
        share.batch(step, 32, seed=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 32 * one.nbytes < peak < 3 * 32 * one.nbytes
