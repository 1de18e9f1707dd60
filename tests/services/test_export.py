import csv
import io
import json
import tracemalloc
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers.pictures import draw, zip_of
from helpers.service import make_settings
from shoe_classifier.ml.live_model import LiveModelHolder
from shoe_classifier.services.export import ExportFormat, TrainingExport
from shoe_classifier.services.ingestion import IngestionService, UploadReport
from shoe_classifier.services.picture_features import FeatureExtractor
from shoe_classifier.storage.sqlite.store import SqliteStore
from shoe_classifier.types import TrainingPicture


class Shop:
    """A store with what fills it and what exports it."""

    def __init__(self, folder: Path):
        settings = make_settings(folder)
        settings.dataset_dir.mkdir(parents=True)
        self.store = SqliteStore(settings.dataset_dir)
        self.features = FeatureExtractor(settings, LiveModelHolder(settings.max_image_pixels))
        self.ingestion = IngestionService(settings, self.store, self.features)
        self.export = TrainingExport(settings, self.store)
        self.folder = folder / "private"
        self.folder.mkdir()

    def take(self, data: bytes, label: str | None = None, source: str = "image") -> UploadReport:
        path = self.folder / "part"
        path.write_bytes(data)
        return self.ingestion.ingest(path, "x", label, self.folder, (), source)

    def stream(self, kind: ExportFormat = "zip") -> bytes:
        return b"".join(self.export.open(kind))

    def rows(self, *without: str) -> list[dict[str, Any]]:
        return [
            {name: value for name, value in vars(row).items() if name not in without}
            for row in self.store.training_rows()
        ]

    def close(self) -> None:
        self.features.close()
        self.store.close()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path / "one")
    shop.take(zip_of({f"{label}/{i}.jpg": draw(label, i) for label in ("Boot", "so: why?") for i in range(12)}))
    shop.take(draw("hat", 1), "hat", "feedback")
    yield shop
    shop.close()


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path / "two")
    yield shop
    shop.close()


def manifest(data: bytes) -> list[dict[str, str]]:
    text = zipfile.ZipFile(io.BytesIO(data)).read("manifest.csv").decode()
    return list(csv.DictReader(io.StringIO(text)))


def test_an_empty_service_becomes_the_same(shop: Shop, empty: Shop) -> None:
    shop.store.relabel(shop.rows()[0]["id"], "a:Böot")  # a folder of this name would be an absolute path
    report = empty.take(shop.stream())
    assert (report.accepted, report.skipped) == (25, [])
    ours = ("id", "upload_id")  # made by each service
    assert empty.rows(*ours) == shop.rows(*ours)
    assert {row["split"] for row in empty.rows()} == {"train", "holdout"}
    assert {row["source"] for row in empty.rows()} == {"zip", "feedback"}
    for row in shop.rows():
        assert empty.store.find_picture(row["sha256"]) == shop.store.find_picture(row["sha256"])


def test_its_own_service_takes_nothing_twice(shop: Shop) -> None:
    before = shop.rows()
    with pytest.raises(Exception, match="25 duplicate"):
        shop.take(shop.stream())
    assert shop.rows() == before


def test_the_zip_is_one_that_any_program_reads(shop: Shop) -> None:
    with zipfile.ZipFile(io.BytesIO(shop.stream())) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert all(info.flag_bits & 0x8 == 0 for info in archive.infolist())  # some programs need sizes up front
    assert {name.split("/")[0] for name in names} == {"Boot", "so_ why_", "hat", "manifest.csv"}


def test_a_picture_deleted_meanwhile_is_left_out_and_named(shop: Shop, empty: Shop) -> None:
    stream = shop.export.open("zip")
    gone = next(shop.store.training_rows())
    shop.store.delete_training(gone)
    data = b"".join(stream)
    [line] = [line for line in manifest(data) if line["omitted"]]
    assert (line["sha256"], line["omitted"]) == (gone.sha256, "deleted meanwhile")
    report = empty.take(data)
    assert report.accepted == 24
    [skipped] = report.skipped
    assert (skipped.reason, skipped.detail) == ("ignored", "Left out of the export: deleted meanwhile.")


def test_what_changes_during_the_export_does_not_show(shop: Shop) -> None:
    before, stream = shop.rows(), shop.export.open("csv")
    shop.take(draw("hat", 2), "hat")
    shop.store.relabel(before[3]["id"], "other")
    lines = list(csv.DictReader(io.StringIO(b"".join(stream).decode())))
    assert [(line["id"], line["label"]) for line in lines] == [(row["id"], row["shoe_class"]) for row in before]


def test_csv_is_the_manifest(shop: Shop) -> None:
    data = shop.stream()
    assert zipfile.ZipFile(io.BytesIO(data)).read("manifest.csv") == shop.stream("csv")
    assert list(manifest(data)[0]) == [
        "path", "label", "sha256", "split", "source", "uploaded_at", "id", "upload_id", "is_processed", "omitted",
    ]  # fmt: skip


def test_coco_names_the_pictures_of_the_zip(shop: Shop, empty: Shop) -> None:
    coco = shop.stream("coco")
    content = json.loads(coco)
    assert len(content["images"]) == len(content["annotations"]) == 25
    assert (content["images"][0]["width"], content["images"][0]["height"]) == (48, 40)
    assert [category["name"] for category in content["categories"]] == ["Boot", "so: why?", "hat"]
    with zipfile.ZipFile(io.BytesIO(shop.stream())) as archive:
        pictures = {name: archive.read(name) for name in archive.namelist() if name != "manifest.csv"}
    assert {image["file_name"] for image in content["images"]} == set(pictures)
    empty.take(zip_of({"instances.json": coco, **pictures}))
    assert empty.rows("id", "upload_id") == shop.rows("id", "upload_id")


def test_coco_leaves_out_what_is_missing_or_damaged(shop: Shop) -> None:
    first, second = [row.image_path for row in shop.store.training_rows()][:2]
    dataset = shop.folder.parent / "dataset"
    (dataset / first).unlink()
    (dataset / second).write_bytes(b"damaged")
    content = json.loads(shop.stream("coco"))
    assert (len(content["images"]), len(content["omitted"])) == (23, 2)


@pytest.mark.parametrize("kind", ["zip", "csv", "coco"])
def test_nothing_to_export(empty: Shop, kind: ExportFormat) -> None:
    data = empty.stream(kind)
    if kind == "zip":
        assert manifest(data) == []
    elif kind == "coco":
        assert json.loads(data)["images"] == []


def test_temporary_files_are_gone_when_a_client_goes(shop: Shop) -> None:
    stream = shop.export.open("zip")
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert list((shop.folder.parent / "temp_uploads").iterdir()) == []


def test_memory_does_not_grow_with_the_number_of_pictures(empty: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    row = TrainingPicture("", "images/ab/{}.jpg", "ab", "Boot", True, "train", "zip", "", "")

    def peak(count: int) -> int:
        rows = (replace(row, image_path=f"images/ab/{number:064}.jpg") for number in range(count))
        monkeypatch.setattr(empty.store, "training_rows", lambda: rows)
        monkeypatch.setattr(empty.store, "pictures", lambda paths: (b"a picture" for _ in paths))
        tracemalloc.start()
        try:
            for _ in empty.export.open("zip"):
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10)
    assert peak(2500) - peak(500) < 100_000
