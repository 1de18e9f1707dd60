"""Another connection locks the file, as another process does."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from helpers.service import wait_for
from shoe_classifier.errors import StoreUnavailable
from shoe_classifier.storage.sqlite import backlog as backlogs
from shoe_classifier.storage.sqlite.backlog import Backlog
from shoe_classifier.storage.sqlite.database import Database

ADD = "insert into T values (?)"


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    db = Database(tmp_path / "records.sqlite3", ["create table T (x integer primary key);"])
    yield db
    db.close()


@contextmanager
def locked(tmp_path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(tmp_path / "records.sqlite3", isolation_level=None)) as other:
        other.execute("begin exclusive")
        yield


def rows(db: Database) -> list[int]:
    return [row["x"] for row in db.select("select x from T order by rowid")]


def test_without_a_lock_it_writes_at_once(db: Database) -> None:
    backlog = Backlog(db, 1000)
    backlog.execute(100, (ADD, [1]))
    assert (rows(db), backlog.waiting) == ([1], 0)
    with pytest.raises(sqlite3.IntegrityError):
        backlog.execute(100, (ADD, [1]))
    backlog.close()


def test_while_the_file_is_locked_rows_wait_in_their_order(db: Database, tmp_path: Path) -> None:
    backlog = Backlog(db, 1 << 20)
    with locked(tmp_path):
        began = time.monotonic()
        for number in range(20):
            backlog.execute(100, (ADD, [number]))
        assert time.monotonic() - began < 4  # SQLite alone would wait for 5 seconds
        assert backlog.waiting == 20
        assert rows(db) == []  # reading is not held up
    wait_for(lambda: backlog.waiting == 0)
    assert (rows(db), backlog.dropped) == (list(range(20)), 0)
    backlog.execute(100, (ADD, [20]))
    assert rows(db)[-1] == 20
    backlog.close()


def test_bytes_are_bounded(db: Database, tmp_path: Path) -> None:
    backlog = Backlog(db, 2500)
    with locked(tmp_path):
        for number in range(4):
            backlog.execute(100, (ADD, [number]))
        with pytest.raises(StoreUnavailable, match="locked the file for too long"):
            backlog.execute(100, (ADD, [4]))
        assert (backlog.waiting, backlog.dropped) == (4, 1)
    backlog.close()  # waits for those that wait
    assert rows(db) == [0, 1, 2, 3]
    assert (backlog.waiting, backlog.dropped) == (0, 1)


def test_a_row_that_fails_when_its_turn_comes_is_dropped(db: Database, tmp_path: Path) -> None:
    backlog = Backlog(db, 1 << 20)
    with locked(tmp_path):
        for number in (1, 1, 2):
            backlog.execute(100, (ADD, [number]))
    backlog.close()
    assert (rows(db), backlog.dropped) == ([1, 2], 1)


def test_closing_does_not_wait_for_ever(
    db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(backlogs, "_CLOSING_SECONDS", 0.1)
    backlog = Backlog(db, 1 << 20)
    with locked(tmp_path):
        backlog.execute(100, (ADD, [1]))
        backlog.close()
    assert "1 predictions are lost" in caplog.text
