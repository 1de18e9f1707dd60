import csv
import os
import pickle
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers.bulk import folder_of, predict
from helpers.pictures import draw, zip_of
from shoe_classifier.errors import AppError, InvalidImage, InvalidRequest, NotFound, StoreUnavailable, TooLarge
from shoe_classifier.scale.manifest import Entry, Source, open_source
from shoe_classifier.settings import Settings
from shoe_classifier.storage.sqlite.store import SqliteStore
from shoe_classifier.types import PredictionRecord, TrainingPicture, new_id, picture_path, utc_now


def opened(name: object, settings: Settings) -> Source:
    """A source as a worker gets it: sent to another process, after this one has listed it."""
    source = open_source(str(name), settings)
    source.check()
    list(source.entries())
    sent: Source = pickle.loads(pickle.dumps(source))
    return sent


def test_a_folder(tmp_path: Path, settings: Settings) -> None:
    folder = folder_of(tmp_path / "pictures", 4)
    (folder / "notes.txt").write_text("x")
    (folder / "Boot" / ".hidden.jpg").write_bytes(b"x")
    (folder / "top.PNG").write_bytes(b"y")
    source = opened(folder, settings)
    assert list(source.entries()) == [
        Entry("top.PNG", None),
        Entry("Boot/00000.jpg", "Boot"),
        Entry("Boot/00003.jpg", "Boot"),
        Entry("Sandal/00001.jpg", "Sandal"),
        Entry("Shoe/00002.jpg", "Shoe"),
    ]
    assert source.fetch("Boot/00003.jpg") == draw("Boot", 3)


def test_a_picture_that_is_gone_is_not_a_source_that_is_gone(tmp_path: Path, settings: Settings) -> None:
    folder = folder_of(tmp_path / "pictures", 4)
    source = opened(folder, settings)
    (folder / "Boot" / "00000.jpg").unlink()
    with pytest.raises(NotFound, match="No such file"):
        source.fetch("Boot/00000.jpg")
    shutil.rmtree(folder)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="not any more"):
            source.fetch("Boot/00003.jpg")
        folder.mkdir(exist_ok=True)  # as of a disk that is not mounted any more


def test_a_zip(tmp_path: Path, settings: Settings) -> None:
    archive = tmp_path / "pictures.zip"
    files = {"all/Boot/1.jpg": draw("Boot", 1), "all/Shoe/2.jpg": b"", "all/readme.txt": b"x"}
    archive.write_bytes(zip_of(files))
    source = opened(archive, settings)
    assert list(source.entries()) == [Entry("Boot/1.jpg", "Boot"), Entry("Shoe/2.jpg", "Shoe")]
    assert source.fetch("Boot/1.jpg") == draw("Boot", 1)
    with pytest.raises(InvalidImage, match="empty"):
        source.fetch("Shoe/2.jpg")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_list(kind: str, tmp_path: Path, settings: Settings) -> None:
    folder = folder_of(tmp_path / "pictures", 2)
    paths, labels = ["pictures/Boot/00000.jpg", str(folder / "Sandal" / "00001.jpg")], ["", "Sandal"]
    listed = tmp_path / f"list.{kind}"
    if kind == "csv":
        with listed.open("w", newline="") as file:
            csv.writer(file).writerows([("label", "path"), *zip(labels, paths, strict=True)])
    else:
        pq.write_table(pa.table({"path": paths, "label": labels}), listed)
    source = opened(listed, settings)
    assert list(source.entries()) == [Entry(paths[0], None), Entry(paths[1], "Sandal")]
    assert [source.fetch(path) for path in paths] == [draw("Boot", 0), draw("Sandal", 1)]
    with pytest.raises(NotFound):
        source.fetch("pictures/none.jpg")


@pytest.mark.parametrize(("name", "content"), [("a.csv", b"file\n1.jpg\n"), ("a.csv", b"\xff"), ("a.parquet", b"x")])
def test_a_list_that_is_none(name: str, content: bytes, tmp_path: Path, settings: Settings) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidRequest):
        list(open_source(str(tmp_path / name), settings).entries())


def test_what_is_stored(settings: Settings) -> None:
    store = SqliteStore(settings.dataset_dir)
    taught, predicted = (picture_path(digit * 64, ".jpg") for digit in "ab")
    for path in (taught, predicted):
        (settings.dataset_dir / path).parent.mkdir(parents=True)
        (settings.dataset_dir / path).write_bytes(path.encode())
    store.add_training(
        [TrainingPicture(new_id(), taught, "a" * 64, "Boot", False, "train", "upload", new_id(), utc_now())],
        [settings.dataset_dir / taught],
    )
    for path in (taught, predicted, None):
        store.add_prediction(
            PredictionRecord(new_id(), path, "Boot", 0.9, "accepted", {"Boot": 0.9}, "v", 1.0, utc_now()), None
        )
    store.close()
    source = opened("stored", settings)
    assert list(source.entries()) == [Entry(taught, "Boot"), Entry(predicted, None)]
    assert source.fetch(predicted) == predicted.encode()
    with pytest.raises(NotFound):
        source.fetch(picture_path("c" * 64, ".jpg"))


def test_a_picture_above_the_limit_is_not_read(tmp_path: Path, settings: Settings) -> None:
    folder = folder_of(tmp_path / "pictures", 1)
    source = open_source(str(folder), settings.model_copy(update={"max_image_bytes": 100}))
    with pytest.raises(TooLarge, match="at most 100 bytes"):
        source.fetch("Boot/00000.jpg")


@pytest.mark.parametrize("name", ["none", "text.txt", "s3://", "list.csv"])
def test_what_is_no_source(name: str, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("x")
    with pytest.raises(InvalidRequest, match="received"):
        open_source(name, settings)


def test_a_name_that_is_not_utf_8_is_refused(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / os.fsdecode(b"\xff.jpg")).write_bytes(b"x")
    with pytest.raises(AppError, match="UTF-8"):
        predict(settings, tmp_path / "pictures", tmp_path / "out")
