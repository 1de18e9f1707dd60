"""One SQLite file, used by one thread at a time."""

import contextlib
import errno
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from shoe_classifier.errors import ConfigurationError, StoreUnavailable
from shoe_classifier.storage.sqlite.migrations import migrate

_PRAGMAS = """
pragma auto_vacuum = incremental; -- only takes effect before the first table exists
pragma journal_mode = wal;
pragma synchronous = normal;
"""
_OPEN_SECONDS = 0.2  # for a lock of another process; whoever needs the file tries again
_BUSY_MS = 5000

Statement = tuple[str, Any]  # with its values


class Database:
    """A connection with a write-ahead log, which keeps every committed row when the process is killed.

    A file that cannot be opened is tried again at each use, which raises `StoreUnavailable` until it succeeds.

    Args:
        path: the file; its folder is created.
        migrations: the schema (see `migrations.migrate`).

    Raises:
        ConfigurationError: a newer release has written the file.
    """

    def __init__(self, path: Path, migrations: Sequence[str]):
        self._lock = threading.Lock()
        self._path = path
        self._migrations = migrations
        self._connection: sqlite3.Connection | None = None
        self._busy_ms = round(_OPEN_SECONDS * 1e3)
        with contextlib.suppress(StoreUnavailable):
            self._opened()

    def problem(self) -> str | None:
        """Open the file, if it is not open; return why that fails and what to do."""
        try:
            with self._lock:
                self._opened()
        except StoreUnavailable as error:
            return error.detail
        except ConfigurationError as error:
            return str(error)
        return None

    def close(self) -> None:
        """Close the connection; closing it again does nothing."""
        with self._lock:
            if self._connection:
                self._connection.close()

    def execute(self, statement: str, values: Any = ()) -> sqlite3.Cursor:
        """Run a single statement, which is a transaction of its own."""
        with self._lock:
            return self._opened().execute(statement, values)

    def execute_within(self, seconds: float, statements: Sequence[Statement]) -> bool:
        """Run statements as one transaction; return False when the file is in use for longer than that.

        Another thread and another process may each take the time.
        """
        if not self._lock.acquire(timeout=seconds):
            return False
        try:
            connection = self._opened(round(seconds * 1e3))
            if len(statements) == 1:
                connection.execute(*statements[0])
                return True
            with _changes(connection):
                for text, values in statements:
                    connection.execute(text, values)
        except sqlite3.OperationalError as error:
            if not _is_locked(error):
                raise
            return False
        finally:
            self._lock.release()
        return True

    def script(self, statements: str) -> None:
        """Run statements to their end, without results."""
        with self._lock:
            self._opened().executescript(statements)

    def select(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """Return all rows of a query."""
        with self._lock:
            return self._opened().execute(query, values).fetchall()

    def stream(self, query: str) -> Iterator[sqlite3.Row]:
        """Yield the rows of a query as they are now, on a connection of its own, which holds up no other."""
        with closing(sqlite3.connect(self._path, check_same_thread=False)) as connection:
            connection.row_factory = sqlite3.Row
            yield from connection.execute(query)

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """Commit all of the block's changes, or none if it raises. `durable` changes also survive a power cut."""
        with self._lock:
            connection = self._opened()
            if durable:
                connection.execute("pragma synchronous=full")
            try:
                with _changes(connection):
                    yield connection
            finally:
                if durable:
                    connection.execute("pragma synchronous=normal")

    def _opened(self, busy_ms: int = _BUSY_MS) -> sqlite3.Connection:
        """Return the connection, which is opened if need be, and waits so long for another process.

        The lock must be held. Raises `StoreUnavailable`.
        """
        if self._connection is None:
            try:
                self._connection = self._open()
            except (OSError, sqlite3.Error) as error:
                raise StoreUnavailable(_advice(self._path.name, error), again=True) from error
        if busy_ms != self._busy_ms:  # in each prediction, it would take a tenth of the time of its row
            self._connection.execute(f"pragma busy_timeout = {busy_ms}")
            self._busy_ms = busy_ms
        return self._connection

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._path, timeout=_OPEN_SECONDS, check_same_thread=False, isolation_level=None)
        try:
            connection.row_factory = sqlite3.Row
            connection.executescript(_PRAGMAS)
            migrate(connection, self._migrations)
        except BaseException:  # whatever it was, nobody else has this connection to close it
            connection.close()
            raise
        return connection


@contextmanager
def _changes(connection: sqlite3.Connection) -> Iterator[None]:
    try:
        connection.execute("begin immediate")
        yield
        connection.execute("commit")
    except BaseException:  # whatever it was, none of the changes may stay
        if connection.in_transaction:  # a full disk has ended it already
            connection.execute("rollback")
        raise


def _is_locked(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _advice(name: str, error: OSError | sqlite3.Error) -> str:
    """Say why a file does not open, and what to do about it."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without the bits that say more
    number = getattr(error, "errno", None)
    if code == sqlite3.SQLITE_FULL or number in (errno.ENOSPC, errno.EDQUOT):
        return f"Expected room for {name}; the disk is full. Free some space: the service then goes on by itself."
    if _is_locked(error):
        return f"Expected to open {name}; another program has locked it. Close that program, such as a database viewer."
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return (
            f"Expected {name} to be a SQLite file; it is damaged. Stop the service, move {name}, {name}-wal and"
            f" {name}-shm away, and restore a backup; without one, the service begins with an empty file."
        )
    return (
        f"Expected to read and write {name} in its folder; received: {error}. Check the folder, its owner and its mode,"
        " or start the service in another folder."
    )
