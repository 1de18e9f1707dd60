"""What only this store does; the tests of `tests/storage` hold for both."""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.rows import training
from shoe_classifier.storage.sqlite.store import SqliteStore
from shoe_classifier.types import (
    LabelChange,
    MinuteMetrics,
    ModelVersion,
    PredictionRecord,
    RetrainJob,
    new_id,
    utc_now,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path)
    yield store
    store.close()


def test_failed_transaction_leaves_nothing(store: SqliteStore, tmp_path: Path) -> None:
    row, file = training(tmp_path, b"1")
    broken, other = training(tmp_path, b"2")
    with pytest.raises(sqlite3.IntegrityError):
        store.add_training([row, replace(broken, shoe_class=None)], [file, other])  # type: ignore[arg-type]
    assert store.training_data(10, None) == []


def test_what_is_acknowledged_waits_for_the_disk_and_predictions_do_not(store: SqliteStore, tmp_path: Path) -> None:
    statements: list[str] = []
    store.training_labels()  # opens the connection
    store._db._connection.set_trace_callback(statements.append)  # type: ignore[union-attr]

    def is_durable(call: Callable[[], object]) -> bool:
        statements.clear()
        call()
        return "pragma synchronous=full" in statements

    row, file = training(tmp_path, b"1")
    version = ModelVersion("v1", "sha", ["Boot"], None, None, "candidate", "versions/v1.h5", utc_now())
    change = LabelChange(new_id(), "Shoe", "Sandal", utc_now())
    prediction = PredictionRecord(new_id(), None, "Boot", 0.9, "accepted", {"Boot": 0.9}, "v1", 1.0, utc_now())
    job = RetrainJob(state="published", model_version="v1")
    assert not is_durable(lambda: store.add_prediction(prediction, None))
    for call in (
        lambda: store.add_training([row], [file]),
        lambda: store.relabel(row.id, "Shoe"),
        lambda: store.prepare_publication(version, file, {row.id: "Shoe"}),
        lambda: store.finish_job(job),
        lambda: store.set_live("v1"),
        lambda: store.review_prediction(prediction.id, "Boot", None, utc_now()),
        lambda: store.change_label(change),
        lambda: store.undo_change(change.id),
        lambda: store.delete_all([row]),
        lambda: store.save_version(replace(version, state="archived")),
        lambda: store.drop_model(version),
    ):
        assert is_durable(call)


def test_rows_outlive_the_connection(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    row, file = training(tmp_path, b"1")
    store.add_training([row], [file])
    store.add_minute(MinuteMetrics(utc_now(), 5, 1.5, "ready"))
    store.close()
    again = SqliteStore(tmp_path)
    assert again.training_data(1, None) == [row]
    again.close()
