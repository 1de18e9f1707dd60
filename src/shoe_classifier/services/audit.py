"""The audit log: who wrote what, and who was refused."""

import logging
import threading
import time
from dataclasses import replace

from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import AuditEntry

logger = logging.getLogger(__name__)

REFUSED = (401, 403)
_REFUSED_PER_MINUTE = 30  # refused calls that get a row of their own; one more row counts all others of the minute
_KEPT_REFUSED = 100_000  # rows; about 25 MB


class AuditLog:
    """Writes the rows of `Audit_Log`.

    Whoever holds no key can neither fill the disk with refused calls, nor push out the rows of others: only so many
    rows a minute are written for them, and only the newest `_KEPT_REFUSED` of those stay.
    """

    def __init__(self, store: Store):
        self._store = store
        self._lock = threading.Lock()
        self._minute, self._rows = 0, 0
        self._more: AuditEntry | None = None

    def admit(self, entry: AuditEntry) -> bool:
        """Return whether an entry is to be added; otherwise it has been counted. Never blocks for long."""
        if entry.status not in REFUSED:
            return True
        with self._lock:
            minute = int(time.monotonic() // 60)
            if minute != self._minute:
                self._minute, self._rows = minute, 0
            self._rows += 1
            if self._rows <= _REFUSED_PER_MINUTE:
                return True
            self._more = replace(self._more, calls=self._more.calls + 1) if self._more else entry
            return False

    def add(self, entry: AuditEntry) -> None:
        """Keep an entry. A failure to do so never fails the call."""
        try:
            self._store.add_audit(entry)
        except Exception:  # of any kind, such as a full disk: what was done is done, and the log says so instead
            logger.exception("Not recorded in Audit_Log: %s", entry)

    def tidy(self) -> None:
        """Write the row that counts refused calls, and delete the oldest rows of those. Called about once a minute."""
        with self._lock:
            more, self._more = self._more, None
        if more:
            self.add(more)
        self._store.trim_audit(_KEPT_REFUSED)
