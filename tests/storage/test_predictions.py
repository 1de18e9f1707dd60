"""The rows of `Predict`, in both stores."""

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from helpers.rows import added, drained, gone, prediction
from helpers.service import wait_for
from shoe_classifier.errors import NotFound
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import (
    QUEUED_KINDS,
    SKIPPED,
    Decision,
    DecisionCount,
    KeptPredictions,
    PredictionFilter,
    PredictionRecord,
    QueuedKind,
    TrainingFilter,
    new_id,
    to_iso,
    utc_now,
)

YESTERDAY = datetime.now(UTC) - timedelta(days=1)


def test_rows_come_back_as_they_were(store: Store) -> None:
    row = prediction()
    store.add_prediction(row, None)
    assert store.predictions(10, None) == [row]
    assert list(store.predictions(10, None)[0].probabilities) == ["Shoe", "Boot"]


def test_pages_walk_through_all_rows_newest_first(store: Store) -> None:
    rows = [prediction() for _ in range(25)]
    for row in rows:
        store.add_prediction(row, None)
    found: list[PredictionRecord] = []
    while page := store.predictions(10, found[-1].id if found else None):
        found += page
    assert found == rows[::-1]


def test_several_predictions_at_once(store: Store) -> None:
    rows = [prediction() for _ in range(3)]
    for row in rows:
        store.add_prediction(row, None)
    assert store.predictions_with([rows[0].id, rows[2].id, "none", new_id()]) == {r.id: r for r in (rows[0], rows[2])}
    assert store.predictions_with([]) == {}


def test_a_review_is_kept_wherever_the_row_is(store: Store) -> None:
    """For Supabase, the row may be in the outbox, on its way, or stored."""
    rows = [prediction(), prediction()]
    for row in rows:
        store.add_prediction(row, None)
    reviewed = [replace(rows[0], reviewed_label="Shoe"), rows[1]]
    reviewed = [replace(row, review_kind="random", reviewed_at="2026-11-25T10:00:00.000Z") for row in reviewed]
    for row in [*reviewed, *reviewed]:
        store.review_prediction(row.id, row.reviewed_label, "random", "2026-11-25T10:00:00.000Z")
        assert store.prediction(row.id) == row
    wait_for(lambda: drained(store))
    assert store.predictions(10, None) == reviewed[::-1]
    store.review_prediction(rows[0].id, "Boot", "uncertain", "2026-11-26T10:00:00.000Z")
    found = store.prediction(rows[0].id)
    assert found and (found.reviewed_label, found.review_kind) == ("Boot", "uncertain")
    for unknown in (new_id(), "none"):
        with pytest.raises(NotFound, match=unknown):
            store.review_prediction(unknown, "Shoe", "random", "2026-11-25T10:00:00.000Z")


@pytest.mark.parametrize("queued", [True, False])
def test_a_deleted_prediction_takes_its_picture_along(store: Store, queued: bool) -> None:
    row, other = prediction(picture=b"one"), prediction(picture=b"two")
    store.add_prediction(row, b"one")
    store.add_prediction(other, b"two")
    if not queued:
        wait_for(lambda: drained(store))
    store.delete_predictions([row])
    wait_for(lambda: drained(store) and store.prediction(row.id) is None)
    assert store.predictions(10, None) == [other]
    assert row.image_path and other.image_path and gone(store, row.image_path) and not gone(store, other.image_path)


def test_a_picture_stays_as_long_as_a_row_uses_it(store: Store, tmp_path: Path) -> None:
    rows = [prediction(picture=b"one"), prediction(picture=b"one"), prediction(picture=b"picture 0")]
    for row, picture in zip(rows, (b"one", b"one", b"picture 0"), strict=True):
        store.add_prediction(row, picture)
    learned = added(store, tmp_path, 1)[0]
    wait_for(lambda: drained(store))
    store.delete_predictions([rows[0], rows[2]])
    wait_for(lambda: drained(store))
    assert rows[0].image_path and not gone(store, rows[0].image_path) and not gone(store, learned.image_path)
    store.drop_pictures([rows[1]])
    wait_for(lambda: drained(store))
    assert gone(store, rows[0].image_path)
    assert store.predictions(10, None) == [replace(rows[1], image_path=None, image_bytes=None)]


def test_what_is_reviewed_or_training_data_is_not_expendable(store: Store, tmp_path: Path) -> None:
    pictures = [b"reviewed", b"picture 0", b"old", b"new"]
    rows = [replace(prediction(picture=data), image_bytes=len(data)) for data in pictures] + [prediction()]
    for row, picture in zip(rows, [*pictures, None], strict=True):
        store.add_prediction(row, picture)
    store.review_prediction(rows[0].id, "Boot", "random", utc_now())
    added(store, tmp_path, 1)
    wait_for(lambda: drained(store))
    first, last = "0" * 8 + "-0000-0000-0000-" + "0" * 12, "f" * 8 + "-ffff-ffff-ffff-" + "f" * 12

    def expendable(after: str = first, before: str = last, with_picture: bool = False, limit: int = 10) -> list[str]:
        found = store.expendable_predictions(after, before, with_picture=with_picture, limit=limit)
        return [row.id for row in found]

    assert expendable() == [row.id for row in rows[2:]]
    assert expendable(with_picture=True) == [row.id for row in rows[2:4]]
    assert expendable(after=rows[2].id, before=rows[4].id) == [rows[3].id]
    assert expendable(limit=1) == [rows[2].id]
    kept = store.count_predictions()
    assert kept == KeptPredictions(rows=5, oldest=rows[0].created_at, pictures=2, picture_bytes=6)


def test_an_empty_store_keeps_nothing(store: Store) -> None:
    assert store.count_predictions() == KeptPredictions(0, None, 0, 0)
    store.delete_predictions([])
    store.forget_unused()


def test_threads_share_the_store(store: Store) -> None:
    threads = [
        threading.Thread(target=lambda: [store.add_prediction(prediction(), None) for _ in range(50)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.predictions(1000, None)) == 200


def sent(store: Store, count: int) -> None:
    """Wait until an outbox has sent all predictions."""
    wait_for(lambda: sum(group.count for group in store.decision_counts(YESTERDAY)) == count)


def test_filters_choose_predictions_by_what_they_say_and_when(store: Store) -> None:
    old = replace(prediction(), id="01800000-0000-7000-8000-000000000000", created_at="2022-04-06T17:50:41.664Z")
    rows = [
        old,
        prediction("Shoe"),
        replace(prediction(), decision="unknown"),
        replace(prediction(), model_version="v2"),
    ]
    for row in rows:
        store.add_prediction(row, None)
    chosen = {
        PredictionFilter(): rows,
        PredictionFilter(label="Shoe"): rows[1:2],
        PredictionFilter(decision="unknown"): rows[2:3],
        PredictionFilter(version="v2", label="Boot"): rows[3:],
        PredictionFilter(until="2023-01-01T00:00:00.000Z"): rows[:1],
        PredictionFilter(since="2023-01-01T00:00:00.000Z"): rows[1:],
        PredictionFilter(since=rows[1].created_at, until=rows[1].created_at): [],
        PredictionFilter(since=old.created_at, until="2022-04-06T17:50:41.665Z"): rows[:1],
        PredictionFilter(label="it's, (odd)"): [],
    }
    for which, expected in chosen.items():
        assert store.predictions(10, None, which) == expected[::-1], which
    sent(store, 3)  # of the last days
    for which, expected in chosen.items():
        wait_for(lambda: store.count_matching(which) == len(expected))  # noqa: B023 - it ends within the round
        assert store.predictions(10, None, which) == expected[::-1], which


def test_pages_of_rare_predictions_walk_through_the_days(store: Store) -> None:
    """Some ids were made the day before their rows' times."""
    midnights = [datetime(2026, 3, day, tzinfo=UTC) for day in (1, 2, 3, 9)]
    moments = [day + timedelta(seconds=seconds) for day in midnights for seconds in (-1, 0, 1, 40_000)]
    rows = []
    for number, moment in enumerate(moments):
        digits = f"{int(moment.timestamp() * 1000):012x}"
        row_id = f"{digits[:8]}-{digits[8:]}-7000-8000-{number:012x}"
        decision: Decision = "unknown" if number % 3 else "accepted"
        row = replace(prediction("Boot" if number % 2 else "Shoe"), id=row_id, decision=decision)
        later = to_iso(moment + timedelta(seconds=1))
        rows.append(replace(row, model_version=f"v{number // 6}", created_at=later))
        store.add_prediction(rows[-1], None)
    wait_for(lambda: drained(store))
    since, until = rows[3].created_at, rows[12].created_at
    for which in (
        PredictionFilter(version="v1"),
        PredictionFilter(label="Boot", decision="unknown"),
        PredictionFilter(label="Shoe", version="v2"),
        PredictionFilter(label="Boot", decision="unknown", since=since, until=until),
        PredictionFilter(label="Shoe", decision="accepted", version="v0"),
        PredictionFilter(label="Hat", decision="unknown"),
    ):
        expected = [
            row
            for row in reversed(rows)
            if which.label in (None, row.predicted_class)
            and which.decision in (None, row.decision)
            and which.version in (None, row.model_version)
            and (which.since is None or since <= row.created_at < until)
        ]
        found: list[PredictionRecord] = []
        while page := store.predictions(2, found[-1].id if found else None, which):
            found += page
        assert found == expected, which


def predicted(store: Store, decision: Decision, kind: str | None = None, picture: bytes | None = b"1") -> str:
    row = replace(prediction(picture=picture), decision=decision, review_kind=kind)
    store.add_prediction(row, picture)
    return row.id


def waiting(store: Store, kind: QueuedKind) -> list[str]:
    return [row.id for row in store.to_review(kind, 10)]


def test_predictions_wait_for_a_review_until_they_have_one(store: Store) -> None:
    first, second = predicted(store, "uncertain"), predicted(store, "uncertain")
    unknown, drawn = predicted(store, "unknown"), predicted(store, "uncertain", "random")
    predicted(store, "accepted")
    predicted(store, "unknown", picture=None)
    sent(store, 6)
    assert waiting(store, "uncertain") == [second, first]
    assert [row.id for row in store.to_review("uncertain", 1)] == [second]
    assert (waiting(store, "unknown"), waiting(store, "random")) == ([unknown], [drawn])
    assert [store.count_to_review(kind) for kind in QUEUED_KINDS] == [2, 1, 1]
    store.review_prediction(first, SKIPPED, "uncertain", utc_now())
    assert waiting(store, "uncertain") == [second]
    store.review_prediction(first, None, None, None)
    assert waiting(store, "uncertain") == [second, first]


def test_what_was_drawn_at_random_and_reviewed(store: Store) -> None:
    ids = [predicted(store, decision, "random") for decision in ("accepted", "unknown", "accepted")]
    other = predicted(store, "uncertain")
    sent(store, 4)
    for row_id, kind in ((ids[2], "random"), (ids[0], "random"), (other, "uncertain")):
        store.review_prediction(row_id, "Boot", kind, utc_now())
    assert [row.id for row in store.reviewed_at_random(YESTERDAY)] == [ids[0], ids[2]]
    assert store.reviewed_at_random(datetime.now(UTC) + timedelta(minutes=1)) == []


def test_decisions_are_counted_by_day_and_version(store: Store) -> None:
    for decision in ("accepted", "accepted", "unknown"):
        predicted(store, decision)
    sent(store, 3)
    today = utc_now()[:10]
    counts = sorted(store.decision_counts(YESTERDAY), key=lambda group: group.decision)
    assert counts == [DecisionCount(today, "v1", "accepted", 2), DecisionCount(today, "v1", "unknown", 1)]
    assert store.decision_counts(datetime.now(UTC) + timedelta(days=1)) == []


def test_counts_follow_what_is_deleted_and_changed(store: Store, tmp_path: Path) -> None:
    ids = [predicted(store, decision) for decision in ("accepted", "unknown", "unknown")]
    sent(store, 3)
    store.delete_predictions([*store.predictions_with(ids[1:2]).values()])
    wait_for(lambda: store.count_matching(PredictionFilter(decision="unknown")) == 1)
    sent(store, 2)
    assert store.count_predictions().rows == store.count_matching(PredictionFilter()) == 2
    rows = added(store, tmp_path, 3)
    store.relabel(rows[0].id, "Hat")
    store.delete_training(rows[1])
    assert [store.count_training(TrainingFilter(label=label)) for label in ("Hat", "Boot", "Shoe")] == [1, 1, 0]
    assert [*store.training_labels().items()] == [("Hat", 1), ("Boot", 1)]  # as they first appeared
