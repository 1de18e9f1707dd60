"""One SQLite file, used by one thread at a time."""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from shoe_classifier.storage.sqlite.migrations import migrate

_PRAGMAS = """
pragma auto_vacuum = incremental; -- only takes effect before the first table exists
pragma journal_mode = wal;
pragma synchronous = normal;
pragma busy_timeout = 5000;
"""


class Database:
    """A connection with a write-ahead log, which keeps every committed row when the process is killed.

    Args:
        path: the file; its folder must exist.
        migrations: the schema (see `migrations.migrate`).

    Raises:
        ConfigurationError: a newer release has written the file.
    """

    def __init__(self, path: Path, migrations: Sequence[str]):
        self._path = path
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        try:
            self._connection.row_factory = sqlite3.Row
            self._connection.executescript(_PRAGMAS)
            migrate(self._connection, migrations)
        except BaseException:  # whatever it was, the caller never gets this object to close it
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the connection; closing it again does nothing."""
        with self._lock:
            self._connection.close()

    def execute(self, statement: str, values: Any = ()) -> sqlite3.Cursor:
        """Run a single statement, which is a transaction of its own."""
        with self._lock:
            return self._connection.execute(statement, values)

    def script(self, statements: str) -> None:
        """Run statements to their end, without results."""
        with self._lock:
            self._connection.executescript(statements)

    def select(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """Return all rows of a query."""
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    def stream(self, query: str) -> Iterator[sqlite3.Row]:
        """Yield the rows of a query as they are now, on a connection of its own, which holds up no other."""
        with closing(sqlite3.connect(self._path, check_same_thread=False)) as connection:
            connection.row_factory = sqlite3.Row
            yield from connection.execute(query)

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """Commit all of the block's changes, or none if it raises. `durable` changes also survive a power cut."""
        with self._lock:
            if durable:
                self._connection.execute("pragma synchronous=full")
            try:
                self._connection.execute("begin immediate")
                yield self._connection
                self._connection.execute("commit")
            except BaseException:  # whatever it was, none of the changes may stay
                if self._connection.in_transaction:  # a full disk has ended it already
                    self._connection.execute("rollback")
                raise
            finally:
                if durable:
                    self._connection.execute("pragma synchronous=normal")
