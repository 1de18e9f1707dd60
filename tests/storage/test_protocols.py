"""What both stores do with pictures and single rows; the files named as the tables have the rest."""

import hashlib
from pathlib import Path

import pytest

from helpers.rows import added, prediction, training
from helpers.service import wait_for
from shoe_classifier.errors import NotFound
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import new_id


def test_pictures_are_kept_once_under_their_hash(store: Store) -> None:
    rows = [prediction(picture=b"one"), prediction(picture=b"one")]
    for row in rows:
        store.add_prediction(row, b"one")
    sha256 = hashlib.sha256(b"one").hexdigest()
    path = f"images/{sha256[:2]}/{sha256}.jpg"
    assert store.find_picture(sha256) == (path, b"one")
    assert list(store.pictures([path, path])) == [b"one", b"one"]
    wait_for(lambda: set(store.urls([path])) == {path})
    with pytest.raises(NotFound):
        store.find_picture("f" * 64)
    with pytest.raises(NotFound):
        list(store.pictures(["images/none.jpg"]))


@pytest.mark.parametrize("damage", [b"", b"cut", b"picture X"])
def test_damaged_pictures_are_replaced(store: Store, tmp_path: Path, damage: bytes) -> None:
    (row, file), (whole, other) = training(tmp_path, b"picture 0"), training(tmp_path, b"picture 1")
    store.add_training([row, whole], [file, other])
    pictures = store._pictures  # type: ignore[attr-defined]
    if store.shared:
        broken = tmp_path / "broken"
        broken.write_bytes(damage)
        pictures.send(row.image_path, broken)
    else:
        (tmp_path / "dataset" / row.image_path).write_bytes(damage)
    copies = [training(tmp_path, b"picture 0")[1], training(tmp_path, b"picture 1")[1]]
    assert store.heal(list(zip([row.image_path, whole.image_path], copies, strict=True))) == {row.image_path}
    assert list(store.pictures([row.image_path, whole.image_path])) == [b"picture 0", b"picture 1"]


def test_one_row(store: Store, tmp_path: Path) -> None:
    row = prediction()
    store.add_prediction(row, None)
    assert (store.prediction(row.id), store.prediction("none"), store.prediction(new_id())) == (row, None, None)
    trained = added(store, tmp_path, 1)[0]
    assert store.training_picture(trained.id) == store.training_with(trained.sha256) == trained
    assert (store.training_picture("none"), store.training_with("none")) == (None, None)
