import time
from pathlib import Path

import numpy as np
import pytest

from helpers.retraining import PICTURES, Machine
from shoe_classifier.errors import Cancelled
from shoe_classifier.ml.features import features_of
from shoe_classifier.ml.head import BACKGROUND
from shoe_classifier.ml.preprocessing import decode
from shoe_classifier.services import lesson as lesson_module
from shoe_classifier.services.lesson import Lesson, LessonCollector
from shoe_classifier.types import NONE_OF_THESE, TrainingEvent


def collect(machine: Machine, seconds: float = 100, events: list[TrainingEvent] | None = None) -> Lesson:
    collector = LessonCollector(machine.settings, machine.store, machine.holder, machine.features)
    report = (lambda event: None) if events is None else events.append
    return collector.collect(collector.waiting(), time.monotonic() + seconds, report)


def computed(events: list[TrainingEvent]) -> int:
    return sum(event.phase == "features" for event in events)


def test_features_are_in_the_order_of_the_rows(machine: Machine) -> None:
    lesson, live = collect(machine), machine.holder.teachable
    assert lesson.rows == machine.store.unprocessed()
    assert lesson.features.hashes == [row.sha256 for row in lesson.rows]
    for row, features in zip(lesson.rows, lesson.features.features, strict=True):
        picture = decode(next(machine.store.pictures([row.image_path])), live.backbone.image_size)
        assert np.array_equal(features, features_of(live.backbone, picture).features)
    assert set(lesson.features.labels) == {3}
    assert lesson.labels == ["Boot", "Sandal", "Shoe", "hat"]


def test_uploads_leave_nothing_to_compute(machine: Machine) -> None:
    events: list[TrainingEvent] = []
    collect(machine, events=events)
    assert computed(events) == 0


def test_what_is_not_kept_is_computed_and_kept(machine: Machine) -> None:
    rows, events = machine.store.unprocessed(), []
    whole = collect(machine)
    machine.features.forget([row.sha256 for row in rows[1:]])
    lesson = collect(machine, events=events)
    assert np.array_equal(lesson.features.features, whole.features.features)
    assert [(event.progress, event.message) for event in events if event.phase == "features"][-1] == (
        1.0, "Computed the features of picture 3 of 3."
    )  # fmt: skip
    assert len(machine.features.known(machine.holder.teachable, rows)) == PICTURES


def test_a_cancelled_retrain_keeps_what_it_computed(machine: Machine) -> None:
    rows = machine.store.unprocessed()
    machine.features.forget([row.sha256 for row in rows])

    def stop(event: TrainingEvent) -> None:
        if event.phase == "features":
            raise Cancelled

    collector = LessonCollector(machine.settings, machine.store, machine.holder, machine.features)
    with pytest.raises(Cancelled):
        collector.collect(rows, time.monotonic() + 100, stop)
    assert len(machine.features.known(machine.holder.teachable, rows)) == 1


def test_what_was_learned_before_takes_part(machine: Machine) -> None:
    machine.retrain()
    machine.upload("cap", 3, start=100)
    lesson = collect(machine)
    assert [row.shoe_class for row in lesson.rows] == ["hat"] * PICTURES + ["cap"] * 3
    assert lesson.new.tolist() == [False] * PICTURES + [True] * 3
    assert set(lesson.learned.values()) == {"cap"}


def test_what_was_learned_before_takes_no_more_than_half_of_the_time(machine: Machine) -> None:
    machine.retrain()
    machine.upload("cap", 3, start=100)
    machine.features.forget([row.sha256 for row in machine.store.training_data(10, None)])
    lesson = collect(machine, seconds=-1)
    assert lesson.new.tolist() == [False] + [True] * 3


def test_of_many_pictures_that_were_learned_before_the_newest_count(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.upload("Boot", 3, start=100)
    machine.retrain()
    boots = machine.store.training_data(3, None)[::-1]
    machine.upload("cap", 3, start=200)
    monkeypatch.setattr(lesson_module, "_MOST_EARLIER", 4)
    monkeypatch.setattr(lesson_module, "_PAGE", 2)
    rows = [row for row in collect(machine).rows if row.is_processed]
    assert [row.shoe_class for row in rows] == ["hat", "Boot", "Boot", "Boot"]
    assert [row.sha256 for row in rows[1:]] == [row.sha256 for row in boots]


def test_deleted_pictures_are_forgotten_here_too(machine: Machine) -> None:
    """Another machine deleted it: this one still has its features."""
    rows = machine.store.unprocessed()
    machine.store.delete_training(rows[0])
    assert collect(machine).forgotten == {rows[0].sha256}
    assert machine.features.known(machine.holder.teachable, rows).keys() == {row.sha256 for row in rows[1:]}


def test_none_of_these_is_no_label_but_the_background(machine: Machine, tmp_path: Path) -> None:
    machine.upload(NONE_OF_THESE, 3, start=100)
    lesson = collect(machine)
    nothing = [row.shoe_class == NONE_OF_THESE for row in lesson.rows]
    assert lesson.labels == ["Boot", "Sandal", "Shoe", "hat"]
    assert (lesson.features.labels == BACKGROUND).tolist() == nothing
    assert sum(nothing) == 3
    assert set(lesson.learned.values()) == {"hat", NONE_OF_THESE}
    collector = LessonCollector(machine.settings, machine.store, machine.holder, machine.features)
    pictures = collector.load_pictures(lesson, lambda event: None, tmp_path / "pictures")
    assert pictures.labels.tolist() == lesson.features.labels.tolist()


def test_what_was_none_of_these_stays_so(machine: Machine) -> None:
    machine.upload(NONE_OF_THESE, 3, start=100)
    assert machine.retrain().state == "published"
    assert machine.holder.live.bundle.labels == ("Boot", "Sandal", "Shoe", "hat")
    machine.upload("cap", 3, start=200)
    lesson = collect(machine)
    assert (lesson.features.labels == BACKGROUND).sum() == 3
    assert lesson.labels == ["Boot", "Sandal", "Shoe", "hat", "cap"]
