import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from shoe_classifier.errors import StoreUnavailable
from shoe_classifier.storage.sqlite.database import Database

MIGRATIONS = ["create table A (x integer not null unique);"]
ADD_AND_DIE = """
import os, signal, sys
from pathlib import Path
from shoe_classifier.storage.sqlite.database import Database
database = Database(Path(sys.argv[1]), ["create table A (x integer not null unique);"])
database.execute("insert into A values (1)")
with database.transaction() as db:
    db.execute("insert into A values (2)")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(tmp_path / "file.sqlite3", MIGRATIONS)) as database:
        yield database


def rows(database: Database) -> list[int]:
    return [row["x"] for row in database.select("select x from A order by x")]


def test_a_transaction_is_kept_whole(database: Database) -> None:
    with database.transaction() as db:
        db.execute("insert into A values (1)")
        db.execute("insert into A values (2)")
    assert rows(database) == [1, 2]


def test_or_not_at_all(database: Database) -> None:
    with pytest.raises(sqlite3.IntegrityError), database.transaction(durable=True) as db:
        db.execute("insert into A values (1)")
        db.execute("insert into A values (1)")
    assert rows(database) == []
    database.execute("insert into A values (3)")  # and the connection can be used on
    assert rows(database) == [3]


def test_only_durable_transactions_wait_for_the_disk(database: Database) -> None:
    def synchronous(db: sqlite3.Connection) -> int:
        return int(db.execute("pragma synchronous").fetchone()[0])

    normal, full = 1, 2
    with database.transaction() as db:
        assert synchronous(db) == normal
    with database.transaction(durable=True) as db:
        assert synchronous(db) == full
    with pytest.raises(KeyError), database.transaction(durable=True):
        raise KeyError
    assert database.select("pragma synchronous")[0][0] == normal


def test_threads_take_turns(database: Database) -> None:
    def add(start: int) -> None:
        for x in range(start, start + 50):
            with database.transaction() as db:
                db.execute("insert into A values (?)", [x])

    threads = [threading.Thread(target=add, args=(50 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rows(database) == list(range(200))


def test_a_killed_process_leaves_what_it_committed(tmp_path: Path) -> None:
    path = tmp_path / "file.sqlite3"
    subprocess.run([sys.executable, "-c", ADD_AND_DIE, str(path)], check=False)
    with closing(Database(path, MIGRATIONS)) as database:
        assert rows(database) == [1]


def test_a_file_that_is_no_database_is_not_kept_open(tmp_path: Path) -> None:
    path = tmp_path / "file.sqlite3"
    path.write_bytes(b"something else" * 100)
    database = Database(path, MIGRATIONS)
    with pytest.raises(StoreUnavailable, match="it is damaged") as caught:  # holds the traceback, and what it refers to
        database.select("select x from A")
    assert str(path) not in open_files()
    assert caught.tb
    path.unlink()
    assert database.problem() is None
    database.close()


def test_a_file_that_is_damaged_behind_its_header_is_told(tmp_path: Path) -> None:
    path = tmp_path / "file.sqlite3"
    Database(path, MIGRATIONS).close()
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + b"\xff" * (len(whole) - 100))
    with closing(Database(path, MIGRATIONS)) as database:
        assert "it is damaged" in (database.problem() or "")
        path.write_bytes(whole)
        assert rows(database) == []


def open_files() -> set[str]:
    files = set()
    for handle in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the handle of this walk itself
            files.add(str(handle.readlink()))
    return files


def test_closing_twice_does_nothing(database: Database) -> None:
    database.close()
    database.close()
