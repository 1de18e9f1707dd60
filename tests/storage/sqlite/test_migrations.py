"""Files of every release are brought to the newest schema, without losing a row, or not touched at all."""

import multiprocessing
import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from helpers.rows import learned_rows
from shoe_classifier.errors import ConfigurationError
from shoe_classifier.storage.sqlite.database import Database
from shoe_classifier.storage.sqlite.migrations import RECORDS, _apply, migrate
from shoe_classifier.storage.sqlite.store import SqliteStore
from shoe_classifier.storage.tables import TABLES
from shoe_classifier.types import (
    EVERY_PREDICTION,
    MinuteMetrics,
    ModelVersion,
    PredictionRecord,
    RetrainJob,
    TrainingPicture,
)

RECORDS_0_1_0 = (Path(__file__).parent / "records_0_1_0.sql").read_text()
FIRST = "create table A (x integer);"
ID = "019a0000-0000-7000-8000-0000000000"


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "file.sqlite3", isolation_level=None)) as connection:
        yield connection


def write_0_1_0(folder: Path, *, then: str = "") -> None:
    """Write records as 0.1.0 left them, with its pragmas."""
    with closing(sqlite3.connect(folder / "records.sqlite3", isolation_level=None)) as connection:
        connection.executescript("pragma auto_vacuum = incremental; pragma journal_mode = wal;" + RECORDS_0_1_0 + then)


def user_version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("pragma user_version").fetchone()[0])


def schema(connection: sqlite3.Connection) -> dict[str, str]:
    rows = connection.execute("select name, sql from sqlite_schema where sql is not null")
    return {name: " ".join(sql.replace(" if not exists", "").split()) for name, sql in rows}


def test_the_first_migration_is_the_schema_of_0_1_0(connection: sqlite3.Connection, tmp_path: Path) -> None:
    migrate(connection, RECORDS[:1])
    write_0_1_0(tmp_path)
    with closing(sqlite3.connect(tmp_path / "records.sqlite3")) as old:
        assert schema(connection) == schema(old)


def test_a_file_of_0_1_0_keeps_all_its_rows(tmp_path: Path) -> None:
    write_0_1_0(tmp_path)
    with closing(SqliteStore(tmp_path)) as store:
        assert store.predictions(10, None) == [
            PredictionRecord(
                f"{ID}02", None, "Shoe", 0.5, "uncertain", {"Shoe": 0.5, "Boot": 0.5}, "v2", 2.5,
                "2026-11-20T10:01:00.000Z",
            ),
            PredictionRecord(
                f"{ID}01", "images/ab/ab01.jpg", "Boot", 0.9, "accepted", {"Shoe": 0.1, "Boot": 0.9}, "v2", 1.5,
                "2026-11-20T10:00:00.000Z",
            ),
        ]  # fmt: skip
        assert learned_rows(store) == [
            TrainingPicture(
                f"{ID}11", "images/cd/cd01.jpg", "cd01", "Boot", True, "train", "zip", f"{ID}20",
                "2026-11-19T10:00:00.000Z",
            ),
            TrainingPicture(
                f"{ID}12", "images/cd/cd02.png", "cd02", "Shoe", True, "holdout", "feedback", f"{ID}21",
                "2026-11-19T10:01:00.000Z",
            ),
        ]  # fmt: skip
        assert store.unprocessed() == [
            TrainingPicture(
                f"{ID}13", "images/cd/cd03.jpg", "cd03", "Hat", False, "train", "zip", f"{ID}22",
                "2026-11-20T10:02:00.000Z",
            )
        ]  # fmt: skip
        labels = ["Boot", "Shoe"]
        assert store.versions() == [
            ModelVersion("v2", "sha-v2", labels, {"accuracy": 0.9}, "v1", "live", "versions/v2.h5",
                         "2026-11-19T11:00:00.000Z"),
            ModelVersion("v1", "sha-v1", labels, None, None, "archived", "versions/v1.h5", "2026-11-18T10:00:00.000Z"),
        ]  # fmt: skip
        assert store.jobs(10, None) == [
            RetrainJob(
                job_id=f"{ID}31", state="published", mode="quick", phase="published", progress=1.0,
                message="Published.", samples=2, labels=labels, metrics={"accuracy": 0.9}, baseline={"accuracy": 0.8},
                model_version="v2", force=True, created_at="2026-11-19T10:59:00.000Z",
                started_at="2026-11-19T10:59:01.000Z", finished_at="2026-11-19T11:00:00.000Z",
            )
        ]  # fmt: skip
        assert store.minutes(10) == [MinuteMetrics("2026-11-20T10:00:00.000Z", 5, 1.5, "ready")]
        assert store.count_matching(EVERY_PREDICTION) == len(store.predictions(10, None)) > 0
        assert store.training_labels() == {"Boot": 1, "Shoe": 1, "Hat": 1}


def test_the_live_version_knows_what_0_1_0_had_processed(tmp_path: Path) -> None:
    write_0_1_0(tmp_path)
    with closing(SqliteStore(tmp_path)) as store:
        store.set_live("v1")
        assert (learned_rows(store), store.count_unprocessed()) == ([], 3)
        store.set_live("v2")
        assert ([row.sha256 for row in learned_rows(store)], store.count_unprocessed()) == (["cd01", "cd02"], 1)


def test_after_a_rollback_it_is_still_the_live_one(tmp_path: Path) -> None:
    states = "case version when 'v1' then 'live' else 'archived' end"
    write_0_1_0(tmp_path, then=f"update Model_Versions set state = {states};")
    with closing(SqliteStore(tmp_path)) as store:
        store.set_live("v1")
        assert len(learned_rows(store)) == 2


def test_without_a_live_version_the_newest_one_knows_it(tmp_path: Path) -> None:
    write_0_1_0(tmp_path, then="update Model_Versions set state = 'archived';")
    with closing(SqliteStore(tmp_path)) as store:
        assert len(learned_rows(store)) == 2
        store.set_live("v2")
        assert len(learned_rows(store)) == 2


def test_without_any_version_it_is_learned_again(tmp_path: Path) -> None:
    write_0_1_0(tmp_path, then="delete from Model_Versions;")
    with closing(SqliteStore(tmp_path)) as store:
        row = ModelVersion("v9", "sha", [], None, None, "candidate", "v9.h5", "2026-11-24T00:00:00.000Z")
        store.save_version(row)
        store.set_live("v9")
        assert store.count_unprocessed() == 3


def test_an_upgraded_file_has_the_schema_of_a_new_one(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    write_0_1_0(tmp_path / "old")
    schemas = []
    for name in ("old", "new"):
        with closing(Database(tmp_path / name / "records.sqlite3", RECORDS)) as database:
            schemas.append(schema(database._connection))
            assert user_version(database._connection) == len(RECORDS)
            assert database.select("pragma auto_vacuum")[0][0] == 2  # incremental
            assert database.select("pragma journal_mode")[0][0] == "wal"
    assert schemas[0] == schemas[1]


def test_the_columns_are_the_fields_of_the_dataclasses(connection: sqlite3.Connection) -> None:
    migrate(connection, RECORDS)
    for table in TABLES:
        columns = {row[1] for row in connection.execute(f"pragma table_info({table.name})")}
        assert columns == set(table.columns), table.name


def test_migrations_are_applied_once_and_in_order(connection: sqlite3.Connection) -> None:
    migrate(connection, [FIRST])
    second = "insert into A values (1);\ninsert into A values (2);"
    for _ in range(2):
        migrate(connection, [FIRST, second])
    assert [row[0] for row in connection.execute("select x from A order by x")] == [1, 2]
    assert user_version(connection) == 2


def test_a_file_of_a_newer_release_is_refused_and_not_changed(tmp_path: Path) -> None:
    with closing(Database(tmp_path / "file.sqlite3", [FIRST, "create table B (x);"])):
        pass
    with pytest.raises(ConfigurationError, match=r"version 1 or older; received version 2 in .*file\.sqlite3"):
        Database(tmp_path / "file.sqlite3", [FIRST])
    with closing(sqlite3.connect(tmp_path / "file.sqlite3")) as connection:
        assert user_version(connection) == 2


def test_a_failed_migration_leaves_the_version_before(connection: sqlite3.Connection) -> None:
    migrate(connection, [FIRST])
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        migrate(connection, [FIRST, "create table B (x);\ninsert into Nowhere values (1);"])
    assert (set(schema(connection)), user_version(connection)) == ({"A"}, 1)
    migrate(connection, [FIRST, "create table C (x);"])
    assert (set(schema(connection)), user_version(connection)) == ({"A", "C"}, 2)


def test_a_kill_during_a_migration_leaves_the_version_before(tmp_path: Path) -> None:
    path = tmp_path / "file.sqlite3"
    with closing(Database(path, [FIRST])):
        pass
    process = multiprocessing.get_context("spawn").Process(target=_migrate_and_die, args=(path,))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    with closing(Database(path, [FIRST])) as database:
        assert set(schema(database._connection)) == {"A"}


def _migrate_and_die(path: Path) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.create_function("die", 0, lambda: os.kill(os.getpid(), signal.SIGKILL))
    migrate(connection, [FIRST, "create table B (x);\ncreate table C (x);\nselect die();"])


def test_a_process_that_lost_the_race_changes_nothing(connection: sqlite3.Connection) -> None:
    migrate(connection, [FIRST])
    _apply(connection, 0, FIRST)  # the other one has committed since this one read version 0
    assert (set(schema(connection)), user_version(connection)) == ({"A"}, 1)
