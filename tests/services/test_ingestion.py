import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.pictures import draw, zip_of
from helpers.service import make_settings
from shoe_classifier.errors import InvalidImage, InvalidLabel, InvalidRequest, InvalidZip, NothingAccepted, TooLarge
from shoe_classifier.ml.dataset import is_held_out
from shoe_classifier.ml.live_model import LiveModelHolder
from shoe_classifier.services.ingestion import IngestionService, UploadReport, clean_label, clean_name
from shoe_classifier.services.picture_features import FeatureExtractor
from shoe_classifier.storage.sqlite.store import SqliteStore
from shoe_classifier.types import NONE_OF_THESE

KNOWN = ("Boot", "Sandal")


class Intake:
    def __init__(self, tmp_path: Path, **limits: int):
        self.store = SqliteStore(tmp_path / "dataset")
        settings = make_settings(tmp_path, **limits)
        self.holder = LiveModelHolder(settings.max_image_pixels)
        self.features = FeatureExtractor(settings, self.holder)
        self.ingestion = IngestionService(settings, self.store, self.features)
        self.folder = tmp_path / "private"
        self.folder.mkdir()

    def close(self) -> None:
        self.features.close()
        self.store.close()

    def zip(self, files: dict[str, bytes]) -> UploadReport:
        return self.take(zip_of(files))

    def take(self, data: bytes, name: str = "x.zip", label: str | None = None) -> UploadReport:
        path = self.folder / "part"
        path.write_bytes(data)
        return self.ingestion.ingest(path, name, label, self.folder, KNOWN)


@pytest.fixture
def intake(tmp_path: Path) -> Iterator[Intake]:
    intake = Intake(tmp_path)
    yield intake
    intake.close()


def reasons(report: UploadReport) -> list[str]:
    return [skipped.reason for skipped in report.skipped]


def test_zip_of_labelled_folders(intake: Intake) -> None:
    report = intake.zip({f"{label}/{i}.jpg": draw(label, i) for label in KNOWN for i in range(3)})
    assert (report.accepted, report.labels, report.skipped) == (6, {"Boot": 3, "Sandal": 3}, [])
    rows = intake.store.training_data(10, None)
    assert {row.upload_id for row in rows} == {report.upload_id}
    assert all(data[:2] == b"\xff\xd8" for data in intake.store.pictures([row.image_path for row in rows]))
    assert {row.split for row in rows} <= {"train", "holdout"}
    assert not any(row.is_processed for row in rows)


def test_every_file_left_out_is_named_with_its_reason(intake: Intake) -> None:
    report = intake.zip(
        {
            "Boot/good.jpg": draw("Boot", 1),
            "Boot/same.jpg": draw("Boot", 1),
            "Sandal/other-label.jpg": draw("Boot", 1),
            "Boot/broken.jpg": draw("Boot", 2)[:200],
            "Boot/tiny.png": draw("Boot", 3, (15, 40)),
            "Boot/notes.txt": b"text",
            "Boot/.DS_Store": b"x",
            "x" * 65 + "/a.jpg": draw("Boot", 4),
        }
    )
    assert report.accepted == 1
    assert reasons(report) == ["duplicate", "conflict", "corrupt", "too_small", "unsupported", "ignored", "unsupported"]


def test_what_is_in_the_store_counts_once(intake: Intake) -> None:
    intake.zip({"Boot/a.jpg": draw("Boot", 1)})
    report = intake.zip({"boot/a.jpg": draw("Boot", 1), "Sandal/a.jpg": draw("Boot", 1), "Boot/b.jpg": draw("Boot", 2)})
    assert sorted(reasons(report)) == ["conflict", "duplicate"]
    assert report.accepted == 1


def test_labels_that_differ_in_case_are_one(intake: Intake) -> None:
    report = intake.zip({"boot/a.jpg": draw("Boot", 1), "HAT/a.jpg": draw("hat", 1), "hat/b.jpg": draw("hat", 2)})
    assert report.labels == {"Boot": 1, "HAT": 2}


def test_none_of_these_is_spelled_as_reserved(intake: Intake) -> None:
    assert intake.zip({"None of These/a.jpg": draw("hat", 1)}).labels == {NONE_OF_THESE: 1}


def test_nothing_accepted_comes_with_the_report(intake: Intake) -> None:
    with pytest.raises(NothingAccepted, match="1 unsupported") as error:
        intake.zip({"a.jpg": draw("Boot", 1)})
    report = error.value.extra["report"]
    assert report["accepted"] == 0
    assert report["skipped"][0]["name"] == "a.jpg"
    assert not list((intake.folder.parent / "dataset/images").rglob("*.jpg"))


def test_a_zip_that_is_refused_halfway_leaves_nothing(tmp_path: Path) -> None:
    intake = Intake(tmp_path, max_zip_files=3)
    with pytest.raises(TooLarge):
        intake.zip({f"Boot/{i}.jpg": draw("Boot", i) for i in range(4)})
    assert intake.store.training_data(10, None) == []
    assert not list((tmp_path / "dataset/images").rglob("*.jpg"))
    intake.close()


def test_uploads_at_once_agree_on_one_spelling(intake: Intake, tmp_path: Path) -> None:
    def upload(spelling: str, first: int) -> None:
        folder = tmp_path / spelling
        folder.mkdir()
        (folder / "part").write_bytes(
            zip_of({f"{spelling}/{i}.jpg": draw("Kilt", i) for i in range(first, first + 30)})
        )
        intake.ingestion.ingest(folder / "part", "x.zip", None, folder, KNOWN)

    threads = [threading.Thread(target=upload, args=values) for values in (("Kilt", 0), ("kilt", 20), ("KILT", 40))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(intake.store.training_labels().values()) == [70]


def test_single_picture_with_its_label(intake: Intake) -> None:
    report = intake.take(draw("hat", 1), "hat.jpg", " hat ")
    assert (report.accepted, report.labels) == (1, {"hat": 1})
    with pytest.raises(NothingAccepted, match="1 duplicate"):
        intake.take(draw("hat", 1), "hat.jpg", "hat")


@pytest.mark.parametrize(
    ("data", "label", "error"),
    [
        (draw("Boot", 1), None, InvalidRequest),
        (draw("Boot", 1), "", InvalidLabel),
        (draw("Boot", 1), "x" * 300, InvalidLabel),
        (draw("Boot", 1), "a/b", InvalidLabel),
        (b"text", "Boot", InvalidImage),
        (b"", "Boot", InvalidImage),
        (b"", None, InvalidZip),
        (b"text", None, InvalidZip),
        (b"PK\3\4 cut", None, InvalidZip),
    ],
)
def test_single_bad_things(intake: Intake, data: bytes, label: str | None, error: type[Exception]) -> None:
    with pytest.raises(error, match="Expected"):
        intake.take(data, "x.jpg", label)
    assert intake.store.training_data(10, None) == []


@pytest.mark.parametrize("raw", ["", "  ", "a\0b", "a\nb\x07", "\u202eevil", "..", "a\\b", "x" * 65, "\ud800"])
def test_bad_labels(raw: str) -> None:
    with pytest.raises(InvalidLabel, match="Expected a label"):
        clean_label(raw)


@pytest.mark.parametrize(
    "character", "\u3164\u115f\u1160\uffa0\u2800\ufe0f\ufe00\u034f\u180b\u17b4\u200b\u2060\U000e0101\U000e0061"
)
def test_labels_with_characters_that_nobody_sees(character: str) -> None:
    for raw in (character, f"Boot{character}"):
        with pytest.raises(InvalidLabel, match="Expected a label"):
            clean_label(raw)


@pytest.mark.parametrize(
    ("raw", "label"), [(" hiking   boot ", "hiking boot"), ("Stövel", "Stövel"), ("靴", "靴"), ("x" * 64, "x" * 64)]
)
def test_good_labels(raw: str, label: str) -> None:
    assert clean_label(raw) == label


def test_names_in_reports_are_inert() -> None:
    assert clean_name("a\x1b[31m\u202eb" + "c" * 300) == "a\ufffd[31m\ufffdb" + "c" * 192


def test_a_stored_picture_under_another_label_is_a_conflict(intake: Intake) -> None:
    intake.zip({"Boot/a.jpg": draw("Boot", 1)})
    with pytest.raises(NothingAccepted, match="1 conflict"):
        intake.zip({"Sandal/a.jpg": draw("Boot", 1)})


def test_the_split_follows_the_hash(intake: Intake) -> None:
    intake.zip({f"Boot/{i}.jpg": draw("Boot", i) for i in range(40)})
    rows = intake.store.training_data(50, None)
    assert {row.split for row in rows} == {"train", "holdout"}
    assert all(row.split == ("holdout" if is_held_out(row.sha256) else "train") for row in rows)


def test_a_single_picture_that_is_too_large(tmp_path: Path) -> None:
    intake = Intake(tmp_path, max_image_bytes=100)
    with pytest.raises(TooLarge, match="at most 100 bytes"):
        intake.take(draw("Boot", 1), "x.jpg", "Boot")
    intake.close()


def test_labels_that_look_the_same_are_one(intake: Intake) -> None:
    composed, decomposed, wide = "St\u00f6vel", "Sto\u0308vel", "\uff33\u0074\u00f6vel"
    report = intake.zip({f"{label}/a.jpg": draw("hat", i) for i, label in enumerate((composed, decomposed, wide))})
    assert report.labels == {composed: 3}
    assert clean_label(decomposed) == composed


@pytest.mark.parametrize("damage", [None, b"", b"another picture"])
def test_an_upload_replaces_a_damaged_file(intake: Intake, damage: bytes | None) -> None:
    picture = draw("Boot", 1)
    intake.take(picture, "a.jpg", "Boot")
    path = intake.store.training_data(1, None)[0].image_path
    stored = intake.folder.parent / "dataset" / path
    stored.unlink() if damage is None else stored.write_bytes(damage)
    with pytest.raises(NothingAccepted, match="damaged files of 1 stored pictures") as error:
        intake.take(picture, "a.jpg", "Boot")
    skipped = error.value.extra["report"]["skipped"][0]
    assert skipped["reason"] == "duplicate" and "has been replaced" in skipped["detail"]
    assert next(intake.store.pictures([path])) == picture
    report = intake.zip({"Boot/a.jpg": picture, "Boot/b.jpg": draw("Boot", 2)})  # whole by now
    assert [skipped.detail for skipped in report.skipped] == ["The same picture is already stored as 'Boot'."]


def test_a_manifest_is_data_from_a_stranger(intake: Intake) -> None:
    good, other = draw("hat", 1), draw("hat", 2)
    lines = [
        f"1.jpg,hat,{hashlib.sha256(good).hexdigest()},holdout,feedback,2026-01-02T03:04:05.000Z",
        f"2.jpg,hat,{hashlib.sha256(good).hexdigest()},train,zip,2026-01-02T03:04:05.000Z",
        "3.jpg,../hat,,train,zip,",
    ]
    text = "\n".join(["path,label,sha256,split,source,uploaded_at", *lines])
    report = intake.zip({"1.jpg": good, "2.jpg": other, "3.jpg": draw("hat", 3), "manifest.csv": text.encode()})
    assert reasons(report) == ["corrupt", "unsupported"]
    [row] = intake.store.training_data(10, None)
    assert (row.source, row.uploaded_at) == ("feedback", "2026-01-02T03:04:05.000Z")
    assert row.split == ("holdout" if is_held_out(row.sha256) else "train")


def test_an_upload_is_told(intake: Intake, tmp_path: Path) -> None:
    told: list[tuple[str, Any]] = []
    settings = make_settings(tmp_path)
    intake.ingestion = IngestionService(
        settings, intake.store, intake.features, lambda event, data: told.append((event, data))
    )
    report = intake.zip({"hat/1.jpg": draw("hat", 1), "hat/2.txt": b"text"})
    with pytest.raises(NothingAccepted):
        intake.zip({"hat/1.jpg": draw("hat", 1)})
    assert told == [
        ("upload.accepted", {"upload_id": report.upload_id, "accepted": 1, "labels": {"hat": 1}, "skipped": 1})
    ]
