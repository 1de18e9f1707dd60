import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from helpers.pictures import draw, lesson_zip, zip_of
from shoe_classifier.errors import InvalidImage
from shoe_classifier.ml.features import features_of
from shoe_classifier.ml.live_model import LiveModelHolder, open_model_file
from shoe_classifier.ml.preprocessing import decode
from shoe_classifier.ml.zip_reader import Picture
from shoe_classifier.services import picture_features
from shoe_classifier.services.corrections import CorrectionService
from shoe_classifier.services.ingestion import IngestionService, UploadReport
from shoe_classifier.services.picture_features import FeatureExtractor
from shoe_classifier.settings import Settings
from shoe_classifier.storage.sqlite.store import SqliteStore


class Intake:
    """The upload of a service whose live model can be taught."""

    def __init__(self, settings: Settings):
        settings.dataset_dir.mkdir()
        self.folder = settings.temp_uploads_dir
        self.folder.mkdir()
        self.holder = LiveModelHolder(settings.max_image_pixels)
        self.holder.swap(open_model_file(settings.live_model, trusted=True))
        self.store = SqliteStore(settings.dataset_dir)
        self.features = FeatureExtractor(settings, self.holder)
        self.ingestion = IngestionService(settings, self.store, self.features)

    def take(self, data: bytes, label: str | None = None, part: str = "part") -> UploadReport:
        folder = self.folder / part
        folder.mkdir(exist_ok=True)
        (folder / "upload").write_bytes(data)
        return self.ingestion.ingest(folder / "upload", "x", label, folder, ())

    def known(self) -> set[str]:
        return set(self.features.known(self.holder.teachable, self.store.training_data(1000, None)))

    def stored(self) -> set[str]:
        return {row.sha256 for row in self.store.training_data(1000, None)}


@pytest.fixture
def intake(settings: Settings) -> Iterator[Intake]:
    intake = Intake(settings)
    yield intake
    intake.features.close()
    intake.store.close()


def test_an_upload_leaves_the_features_of_what_it_added(intake: Intake) -> None:
    intake.take(lesson_zip("hat", 5))
    intake.take(draw("hat", 1), "hat")
    assert intake.known() == intake.stored()
    assert len(intake.known()) == 6
    live = intake.holder.teachable
    row = intake.store.training_data(1, None)[0]
    expected = features_of(live.backbone, decode(draw("hat", 1), live.backbone.image_size))
    found = intake.features.known(live, [row])[row.sha256]
    assert np.array_equal(found.features, expected.features)
    assert np.array_equal(found.thumbnail, expected.thumbnail)


def test_the_report_stays_in_the_order_of_the_zip(intake: Intake) -> None:
    files = {f"hat/{i:02}.jpg": draw("hat", i) if i % 3 else b"\xff\xd8\xffbroken" for i in range(12)}
    report = intake.take(zip_of({**files, "hat/99.jpg": draw("hat", 1)}))
    assert [skipped.name for skipped in report.skipped] == [*sorted(files)[::3], "hat/99.jpg"]
    assert [skipped.reason for skipped in report.skipped] == ["corrupt"] * 4 + ["duplicate"]


def test_an_upload_succeeds_without_features(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("bug")

    monkeypatch.setattr(picture_features, "features_of", fail)
    assert intake.take(lesson_zip("hat", 3)).accepted == 3
    assert intake.known() == set()


def test_an_upload_succeeds_when_features_cannot_be_kept(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(intake.features._cache, "put", fail)
    assert intake.take(lesson_zip("hat", 3)).accepted == 3
    assert intake.known() == set()


def test_without_a_model_pictures_are_checked_all_the_same(settings: Settings) -> None:
    settings.dataset_dir.mkdir()
    features = FeatureExtractor(settings, LiveModelHolder(settings.max_image_pixels))
    assert features.check(Picture("hat", "a.jpg", draw("hat", 1))).result() is None
    with pytest.raises(InvalidImage):
        features.check(Picture("hat", "a.jpg", draw("hat", 1)[:200])).result()
    features.close()


def test_few_pictures_are_decoded_at_once(intake: Intake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lock, now, most = threading.Lock(), 0, 0

    def slow(*arguments: object, **options: object) -> np.ndarray:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.005)
        with lock:
            now -= 1
        return np.zeros((32, 32, 3), np.uint8)

    monkeypatch.setattr(picture_features, "decode", slow)
    uploads = [
        threading.Thread(target=intake.take, args=(lesson_zip("hat", 8, 100 * n), None, f"part{n}")) for n in range(10)
    ]
    for upload in uploads:
        upload.start()
    for upload in uploads:
        upload.join()
    assert len(intake.stored()) == 80
    assert most <= picture_features._THREADS


def test_a_deleted_picture_leaves_no_features(intake: Intake) -> None:
    intake.take(lesson_zip("hat", 3))
    row = intake.store.training_data(1, None)[0]
    CorrectionService(intake.store, intake.ingestion, intake.features).delete(row.id)
    assert intake.features.known(intake.holder.teachable, [row]) == {}
    assert intake.known() == intake.stored()
    assert intake.store.deleted_pictures() == {row.sha256}


def test_features_of_another_backbone_are_dropped(intake: Intake) -> None:
    intake.take(lesson_zip("hat", 3))
    features = intake.features.known(intake.holder.teachable, intake.store.training_data(3, None))
    intake.features._cache.put("another", features)
    intake.features.keep_only(intake.holder.teachable)
    assert intake.features._cache.get("another", features) == {}
    assert intake.known() == intake.stored()
