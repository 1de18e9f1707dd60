import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from shoe_classifier.storage.filters import conditions_of
from shoe_classifier.storage.sqlite.migrations import RECORDS, migrate
from shoe_classifier.storage.sqlite.records import _where, decode, insert
from shoe_classifier.storage.tables import RETRAIN_JOBS
from shoe_classifier.types import PredictionFilter, RetrainJob, TrainingFilter

TIME = "2026-11-25T10:00:00.000Z"


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, RECORDS)
        yield connection


@pytest.mark.parametrize(
    "which",
    [
        PredictionFilter(label="Boot"),
        PredictionFilter(decision="unknown"),
        PredictionFilter(version="v1"),
        PredictionFilter(since=TIME),
        PredictionFilter(until=TIME),
        TrainingFilter(label="Boot"),
        TrainingFilter(learnt=False),
        TrainingFilter(split="holdout"),
        TrainingFilter(until=TIME),
    ],
    ids=str,
)
def test_filters_are_searched_by_an_index(
    connection: sqlite3.Connection, which: PredictionFilter | TrainingFilter
) -> None:
    table = "Predict" if isinstance(which, PredictionFilter) else "Training_Data"
    where, values = _where(conditions_of(which))
    for query in (f"select * from {table} {where} order by id desc limit 50", f"select count(*) from {table} {where}"):
        plan = " ".join(str(row[3]) for row in connection.execute(f"explain query plan {query}", values))
        assert "TEMP B-TREE" not in plan and ("SEARCH" in plan or "unprocessed" in plan), plan


def test_a_million_rows_page_as_a_search_not_a_scan(connection: sqlite3.Connection) -> None:
    query = "explain query plan select * from Predict where id < 'f' order by id desc limit 5"
    plan = " ".join(str(row[3]) for row in connection.execute(query))
    assert "SEARCH" in plan and "TEMP B-TREE" not in plan


def test_a_row_is_read_as_it_was_inserted(connection: sqlite3.Connection) -> None:
    connection.row_factory = sqlite3.Row
    job = RetrainJob(labels=["b", "a"], metrics={"accuracy": 0.5}, force=True)
    assert insert(connection, RETRAIN_JOBS, job)
    assert not insert(connection, RETRAIN_JOBS, job, then="on conflict do nothing")
    assert decode(RETRAIN_JOBS, connection.execute("select * from Retrain_Jobs").fetchone()) == job
