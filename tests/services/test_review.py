import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from helpers.pictures import draw
from helpers.service import make_settings
from shoe_classifier.errors import AppError, InvalidRequest, NotFound
from shoe_classifier.ml.live_model import LiveModelHolder
from shoe_classifier.services.corrections import CorrectionService
from shoe_classifier.services.ingestion import IngestionService
from shoe_classifier.services.picture_features import FeatureExtractor
from shoe_classifier.services.review import Answer, ReviewReport, ReviewService
from shoe_classifier.storage.sqlite.store import SqliteStore
from shoe_classifier.types import PredictionRecord, new_id, picture_path, utc_now

KNOWN = ("Boot", "Sandal")


class Desk:
    """Answers about predictions, of which some have drifted."""

    def __init__(self, folder: Path):
        settings = make_settings(folder)
        settings.dataset_dir.mkdir()
        self.store = SqliteStore(settings.dataset_dir)
        self.features = FeatureExtractor(settings, LiveModelHolder(settings.max_image_pixels))
        ingestion = IngestionService(settings, self.store, self.features)
        corrections = CorrectionService(self.store, ingestion, self.features)
        self.drifted: list[str] = []
        monitor = cast(Any, SimpleNamespace(drifted=self.drifted))  # all that is asked of it
        self.service = ReviewService(self.store, ingestion, corrections, monitor)
        self.folder = folder / "private"
        self.folder.mkdir()

    def predicted(self, seed: int, **changes: Any) -> str:
        picture = draw("Boot", seed)
        path = picture_path(hashlib.sha256(picture).hexdigest(), ".jpg")
        row = PredictionRecord(new_id(), path, "Boot", 0.9, "accepted", {"Boot": 0.9}, "v1", 1.0, utc_now())
        self.store.add_prediction(replace(row, **changes), picture)
        return row.id

    def answer(self, *answers: Answer) -> ReviewReport:
        return self.service.answer(answers, self.folder, KNOWN)

    def kind(self, row_id: str) -> str | None:
        row = self.store.prediction(row_id)
        assert row
        return row.review_kind


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.features.close()
    desk.store.close()


def test_each_answer_keeps_why_the_person_was_asked(desk: Desk) -> None:
    sure, drifted, strange = desk.predicted(1), desk.predicted(2), desk.predicted(3, decision="unknown")
    drawn = desk.predicted(4, review_kind="random")
    desk.drifted.append(drifted)
    rows = (sure, drifted, strange, drawn)
    desk.answer(*(Answer(row_id, skip=True) for row_id in rows))
    assert [desk.kind(row_id) for row_id in rows] == [None, "drifted", "unknown", "random"]
    desk.answer(*(Answer(row_id, undo=True) for row_id in rows))
    assert [desk.kind(row_id) for row_id in rows] == [None, None, None, "random"]  # the draw was made before any answer


def test_an_answer_may_be_repeated(desk: Desk) -> None:
    row_id = desk.predicted(1)
    for _ in range(2):
        assert desk.answer(Answer(row_id, "boot")).as_json() == {
            "answered": 1, "labels": {"Boot": 1}, "none": 0, "skipped": 0, "undone": 0
        }  # fmt: skip
    assert [row.shoe_class for row in desk.store.training_data(10, None)] == ["Boot"]


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        ([Answer(f"none {i}", skip=True) for i in range(5)], NotFound),
        ([Answer(f"none {i % 4}", skip=True) for i in range(8)], InvalidRequest),
    ],
    ids=["unknown", "twice"],
)
def test_all_are_to_blame_and_the_first_are_named(desk: Desk, answers: list[Answer], kind: type[AppError]) -> None:
    with pytest.raises(kind, match=r": none 0, none 1, none 2 and \d more\. Nothing was changed") as caught:
        desk.answer(*answers)
    assert caught.value.extra == {"prediction_ids": list(dict.fromkeys(answer.prediction_id for answer in answers))}
