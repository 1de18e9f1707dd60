"""One SQLite file, used by one thread at a time."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_PRAGMAS = """
pragma auto_vacuum = incremental;
pragma journal_mode = wal;
pragma synchronous = normal;
pragma busy_timeout = 5000;
"""


class Database:
    """A connection with a write-ahead log, which keeps every committed row through a killed process."""

    def __init__(self, path: Path, schema: str):
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        self._connection.executescript(_PRAGMAS + schema)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def execute(self, statement: str, values: Any = ()) -> sqlite3.Cursor:
        """Run a single statement, which is a transaction of its own."""
        with self._lock:
            return self._connection.execute(statement, values)

    def script(self, statements: str) -> None:
        """Run statements that give nothing, each to its end."""
        with self._lock:
            self._connection.executescript(statements)

    def select(self, question: str, *values: Any) -> list[sqlite3.Row]:
        with self._lock:
            return self._connection.execute(question, values).fetchall()

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """All of it or nothing; `durable` also survives a power cut."""
        with self._lock:
            if durable:
                self._connection.execute("pragma synchronous=full")
            self._connection.execute("begin immediate")
            try:
                yield self._connection
            except BaseException:  # whatever it was, nothing of it stays; it is raised again
                if self._connection.in_transaction:  # a full disk has ended it already
                    self._connection.execute("rollback")
                raise
            else:
                self._connection.execute("commit")
            finally:
                if durable:
                    self._connection.execute("pragma synchronous=normal")
