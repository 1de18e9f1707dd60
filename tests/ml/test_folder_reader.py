from pathlib import Path

import pytest

from helpers.pictures import draw, zip_of
from shoe_classifier.errors import InvalidRequest
from shoe_classifier.ml.folder_reader import read
from shoe_classifier.ml.zip_reader import ZipLimits

FILES = {"Shoe/2.jpg": draw("Shoe", 2), "Boot/1.png": draw("Boot", 1)}


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)


def test_a_folder_gives_its_pictures_by_name(tmp_path: Path) -> None:
    write(tmp_path, FILES | {"Boot/notes.txt": b"x", "Boot/.hidden.jpg": b"x"})
    (tmp_path / "outside.jpg").write_bytes(b"x")
    pictures = list(read(tmp_path, ZipLimits()))
    assert [(picture.label, picture.name) for picture in pictures] == [("Boot", "Boot/1.png"), ("Shoe", "Shoe/2.jpg")]
    assert pictures[0].data == FILES["Boot/1.png"]


def test_a_zip_gives_the_same(tmp_path: Path) -> None:
    write(tmp_path, FILES)
    (tmp_path / "pictures.zip").write_bytes(zip_of(FILES | {"Boot/notes.txt": b"x"}))
    zipped = [picture for picture in read(tmp_path / "pictures.zip", ZipLimits()) if picture.name != "Boot/notes.txt"]
    assert sorted(zipped, key=lambda picture: picture.name) == list(read(tmp_path, ZipLimits()))


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"Expected a folder or a ZIP.*nowhere"):
        list(read(tmp_path / "nowhere", ZipLimits()))
