import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.pictures import draw
from helpers.retraining import Machine
from helpers.service import make_settings
from shoe_classifier.errors import InvalidLabel, NotFound, TooSmall
from shoe_classifier.ml.live_model import LiveModelHolder
from shoe_classifier.services.corrections import CorrectionService
from shoe_classifier.services.ingestion import IngestionService
from shoe_classifier.services.picture_features import FeatureExtractor
from shoe_classifier.storage.sqlite.store import SqliteStore
from shoe_classifier.types import PredictionRecord, new_id, picture_path, utc_now

KNOWN = ("Boot", "Sandal")


class Desk:
    def __init__(self, folder: Path):
        self.store = SqliteStore(folder / "dataset")
        settings = make_settings(folder)
        self.features = FeatureExtractor(settings, LiveModelHolder(settings.max_image_pixels))
        ingestion = IngestionService(settings, self.store, self.features)
        self.corrections = CorrectionService(self.store, ingestion, self.features)
        self.folder = folder / "private"
        self.folder.mkdir()

    def predicted(self, picture: bytes | None) -> str:
        path = picture_path(hashlib.sha256(picture).hexdigest(), ".jpg") if picture else None
        row = PredictionRecord(new_id(), path, "Boot", 0.9, "accepted", {"Boot": 0.9}, "v1", 1.0, utc_now())
        self.store.add_prediction(row, picture)
        return row.id

    def learn(self, prediction_id: str, label: str) -> str:
        return self.corrections.learn(prediction_id, label, self.folder, KNOWN).id


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    (tmp_path / "dataset").mkdir()
    desk = Desk(tmp_path)
    yield desk
    desk.features.close()
    desk.store.close()


def test_the_picture_of_a_prediction_becomes_training_data(desk: Desk) -> None:
    picture = draw("Boot", 1)
    row_id = desk.learn(desk.predicted(picture), "boot")
    row = desk.store.training_picture(row_id)
    assert row is not None
    assert (row.shoe_class, row.source, row.is_processed) == ("Boot", "feedback", False)
    assert next(desk.store.pictures([row.image_path])) == picture


def test_a_picture_that_is_there_gets_the_label(desk: Desk) -> None:
    prediction_id = desk.predicted(draw("Boot", 1))
    first = desk.learn(prediction_id, "Boot")
    assert desk.learn(prediction_id, "sandal") == first
    assert [row.shoe_class for row in desk.store.training_data(10, None)] == ["Sandal"]


def test_what_cannot_be_learned(desk: Desk) -> None:
    for prediction_id, error in (("x", NotFound), (desk.predicted(None), NotFound)):
        with pytest.raises(error, match="Expected"):
            desk.learn(prediction_id, "Boot")
    with pytest.raises(TooSmall):
        desk.learn(desk.predicted(draw("Boot", 1, (12, 12))), "Boot")
    with pytest.raises(InvalidLabel):
        desk.learn(desk.predicted(draw("Boot", 2)), "a/b")
    assert desk.store.training_data(10, None) == []


def test_relabel(desk: Desk) -> None:
    row_id = desk.learn(desk.predicted(draw("Boot", 1)), "Boot")
    row = desk.corrections.relabel(row_id, "HAT", KNOWN)
    assert (row.shoe_class, row.is_processed) == ("HAT", False)
    assert desk.store.training_picture(row_id) == row
    assert desk.corrections.relabel(row_id, "hat", KNOWN) == row  # the same label in another spelling
    with pytest.raises(NotFound):
        desk.corrections.relabel("x", "Boot", KNOWN)
    with pytest.raises(InvalidLabel):
        desk.corrections.relabel(row_id, "", KNOWN)


def test_the_same_label_does_not_touch_the_row(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    row_id = desk.learn(desk.predicted(draw("Boot", 1)), "Boot")
    monkeypatch.setattr(desk.store, "relabel", None)  # what is learned must not become unlearned
    assert desk.corrections.relabel(row_id, "boot", KNOWN).shoe_class == "Boot"


def test_delete(desk: Desk) -> None:
    row_id = desk.learn(desk.predicted(draw("Boot", 1)), "Boot")
    row = desk.store.training_picture(row_id)
    assert row is not None
    desk.corrections.delete(row_id)
    assert desk.store.training_picture(row_id) is None
    with pytest.raises(NotFound):
        desk.corrections.delete(row_id)


def test_many_deleted_pictures_are_forgotten(machine: Machine) -> None:
    rows = machine.store.unprocessed()
    ingestion = IngestionService(machine.settings, machine.store, machine.features)
    corrections = CorrectionService(machine.store, ingestion, machine.features)
    assert corrections.delete_all([row.id for row in rows[:2]]) == 2
    assert machine.features.known(machine.holder.teachable, rows).keys() == {row.sha256 for row in rows[2:]}
