"""Changes that wait in memory while another process locks the SQLite file."""

import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from shoe_classifier.errors import AppError, StoreUnavailable
from shoe_classifier.storage.sqlite.database import Database, Statement

logger = logging.getLogger(__name__)

_PATIENCE_SECONDS = 0.2  # for the file, before a change waits here
_PAUSE_SECONDS = 0.1  # between two attempts
_CLOSING_SECONDS = 5.0
_OVERHEAD = 500  # bytes of a change beside its size


@dataclass(frozen=True)
class _Change:
    statements: Sequence[Statement]
    bytes: int


class Backlog:
    """Makes changes at once or, while the file is locked, a little later on a thread; `execute` hardly waits.

    What waits is lost when the process is killed. Beyond `max_bytes`, further changes are refused.

    Attributes:
        dropped: number of changes that were refused, or failed when their turn came.
    """

    def __init__(self, db: Database, max_bytes: int):
        self._db = db
        self._max_bytes = max_bytes
        self._waiting: deque[_Change] = deque()
        self._bytes = 0
        self._lock = threading.Lock()  # never held while the file is used
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self.dropped = 0

    @property
    def waiting(self) -> int:
        """Number of changes that wait."""
        return len(self._waiting)

    def execute(self, size: int, *statements: Statement) -> None:
        """Run statements as one transaction now or later, after those that wait already.

        Args:
            size: of their values, in bytes, about.

        Raises:
            StoreUnavailable: the file is locked, and too many bytes wait already.
            sqlite3.Error: a statement fails, at once.
        """
        if not self._waiting and self._db.execute_within(_PATIENCE_SECONDS, statements):
            return
        with self._lock:
            if self._bytes + size + _OVERHEAD > self._max_bytes:
                self.dropped += 1
                raise StoreUnavailable("Expected to write a row; another program has locked the file for too long.")
            self._waiting.append(_Change(statements, size + _OVERHEAD))
            self._bytes += size + _OVERHEAD
            if self._thread is None:
                logger.warning("Another program has locked the records; new predictions wait in memory.")
                self._thread = threading.Thread(target=self._run, name="backlog", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Run what waits, for a few seconds at most."""
        thread = self._thread
        if thread:
            thread.join(_CLOSING_SECONDS)
            self._stopping.set()
            thread.join()
        if self._waiting:
            logger.error("%d predictions are lost, because another program has locked the records.", self.waiting)

    def _run(self) -> None:
        while not self._stopping.is_set():
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    logger.info("The predictions that waited are recorded.")
                    return
                change = self._waiting[0]
            if self._is_done(change):
                with self._lock:
                    self._waiting.popleft()
                    self._bytes -= change.bytes
            else:
                self._stopping.wait(_PAUSE_SECONDS)

    def _is_done(self, change: _Change) -> bool:
        """Whether the change is made, or failed for good."""
        try:
            return self._db.execute_within(_PATIENCE_SECONDS, change.statements)
        except (AppError, sqlite3.Error):  # such as a full disk
            self.dropped += 1
            logger.exception("A prediction that waited could not be recorded.")
            return True
