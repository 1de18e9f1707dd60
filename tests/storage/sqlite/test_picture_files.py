import os
from pathlib import Path

import pytest

from shoe_classifier.errors import NotFound
from shoe_classifier.storage.sqlite import picture_files
from shoe_classifier.storage.sqlite.picture_files import PictureFiles

PATH = "images/ab/ab01.jpg"


@pytest.fixture
def pictures(tmp_path: Path) -> PictureFiles:
    return PictureFiles(tmp_path / "dataset")


def test_pictures_are_added_from_memory_or_by_moving_a_file(pictures: PictureFiles, tmp_path: Path) -> None:
    pictures.add(PATH, b"one")
    file = tmp_path / "upload"
    file.write_bytes(b"two")
    pictures.add("images/cd/cd01.png", file)
    assert list(pictures.pictures(["images/cd/cd01.png", PATH])) == [b"two", b"one"]
    assert not file.exists()
    assert pictures.find_picture("cd01") == ("images/cd/cd01.png", b"two")


def test_a_picture_that_is_there_is_not_written_again(pictures: PictureFiles, tmp_path: Path) -> None:
    pictures.add(PATH, b"one")
    before = (tmp_path / "dataset" / PATH).stat().st_mtime_ns
    pictures.add(PATH, b"another")
    assert (tmp_path / "dataset" / PATH).stat().st_mtime_ns == before
    assert list(pictures.pictures([PATH])) == [b"one"]


def test_a_full_disk_leaves_no_half_picture(
    pictures: PictureFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_half(path: Path, data: bytes) -> None:
        with path.open("wb") as file:
            file.write(data[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_half)
    with pytest.raises(OSError, match="No space"):
        pictures.add(PATH, b"one")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_missing_pictures(pictures: PictureFiles) -> None:
    with pytest.raises(NotFound, match="ab01"):
        list(pictures.pictures([PATH]))
    with pytest.raises(NotFound, match="ab01"):
        pictures.find_picture("ab01")
    pictures.delete(PATH)


def test_deleted_pictures_are_gone(pictures: PictureFiles) -> None:
    pictures.add(PATH, b"one")
    pictures.delete(PATH)
    with pytest.raises(NotFound):
        pictures.find_picture("ab01")


@pytest.mark.parametrize(("count", "expected"), [(2, ["ab", "ab00.jpg", "ab01.jpg"]), (8, ["all"])])
def test_many_pictures_are_flushed_by_one_call(
    pictures: PictureFiles, monkeypatch: pytest.MonkeyPatch, count: int, expected: list[str]
) -> None:
    flushed: list[str] = []
    monkeypatch.setattr(picture_files, "fsync", lambda path: flushed.append(path.name))
    monkeypatch.setattr(picture_files.os, "sync", lambda: flushed.append("all"))
    paths = [f"images/ab/ab0{number}.jpg" for number in range(count)]
    for path in paths:
        pictures.add(path, b"one")
    pictures.flush(paths)
    assert sorted(flushed) == expected


def test_what_killed_processes_left_is_removed(pictures: PictureFiles, tmp_path: Path) -> None:
    pictures.add(PATH, b"one")
    folder = (tmp_path / "dataset" / PATH).parent
    left, being_written = folder / ".ab02.99999999.1.part.jpg", folder / f".ab03.{os.getpid()}.1.part.jpg"
    for file in (left, being_written):
        file.write_bytes(b"x")
    pictures.remove_leftovers()
    assert set(folder.iterdir()) == {folder / "ab01.jpg", being_written}
