"""Sends the outbox to Supabase: one thread, oldest rows first, for as long as it takes."""

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from shoe_classifier.errors import StoreRefused, StoreUnavailable
from shoe_classifier.storage.file_lock import FileLock
from shoe_classifier.storage.supabase.outbox import RELEASED, Event, Outbox

logger = logging.getLogger(__name__)

_IDLE_SECONDS = 0.3  # before an empty outbox is read again; rows added meanwhile share a batch
_BATCH = 200  # rows
_TRANSFER_THREADS = 8  # pictures sent at once
_LONGEST_WAIT = 15.0  # seconds between two attempts


class Receiver(Protocol):
    """The destination. Both calls are idempotent, and raise `StoreUnavailable` or `StoreRefused`."""

    def send_picture(self, image_path: str, data: bytes) -> None: ...

    def send_rows(self, table: str, rows: Sequence[dict[str, Any]]) -> None: ...


class OutboxRelay:
    """Sends pictures, then their rows, and only then removes them from the outbox, so that none is ever lost.

    Args:
        lock: held while sending, so that only one worker of this machine does.

    Attributes:
        error: why the last attempt failed; None if it succeeded.
    """

    def __init__(self, outbox: Outbox, receiver: Receiver, lock: FileLock):
        self._outbox = outbox
        self._receiver = receiver
        self._lock = lock
        self._stopping = threading.Event()
        self._deadline = 0.0
        self._thread = threading.Thread(target=self._run, name="outbox-relay", daemon=True)
        self.error: str | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Send what is queued, for at most `seconds`; the rest stays for the next start."""
        self._deadline = time.monotonic() + seconds
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=seconds + 1)

    def _run(self) -> None:
        attempts, locked = 0, False
        while True:
            last = self._stopping.is_set()
            try:
                locked = locked or self._lock.acquire()
                sent, attempts = locked and self._deliver(), 0
            except StoreUnavailable as error:
                sent, attempts, self.error = False, attempts + 1, error.detail
                logger.warning("The outbox cannot be sent yet: %s", error.detail)
            except Exception:  # whatever it was, the thread must live on and try again
                sent, attempts, self.error = False, attempts + 1, "Sending failed inside the service; see its log."
                logger.exception("Failed to send the outbox.")
            if last and (not sent or time.monotonic() > self._deadline):
                break
            if not sent:
                self._stopping.wait(_pause(attempts))
        if locked:
            self._lock.release()

    def _deliver(self) -> bool:
        """Send one batch; return False when nothing is queued."""
        self._outbox.trim()
        events = self._outbox.oldest(_BATCH)
        if not events:
            self.error = None
            return False
        refused = self._send_pictures({event.image_path for event in events if event.image_path})
        # Deletions come last: a picture that a new row shows must not be deleted before that row has arrived.
        for table, rows in sorted(_by_table(events, refused).items(), key=lambda item: item[0] == RELEASED):
            self._send_rows(table, rows)
        self._outbox.remove([event.id for event in events])
        self.error = None
        if len(events) < _BATCH:
            self._outbox.shrink()
        return True

    def _send_rows(self, table: str, rows: list[dict[str, Any]]) -> None:
        try:
            self._receiver.send_rows(table, rows)
        except StoreRefused as error:  # one bad row must not block the others
            if len(rows) > 1:
                for row in rows:
                    self._send_rows(table, [row])
                return
            logger.error("Dropped a row of %s: %s %s", table, error.detail, rows[0])
            self._outbox.count_dropped_row()

    def _send_pictures(self, paths: set[str]) -> set[str]:
        """Return the paths of the pictures that were refused."""
        with ThreadPoolExecutor(_TRANSFER_THREADS) as executor:
            accepted = executor.map(self._send_picture, paths)
            return {path for path, taken in zip(paths, accepted, strict=True) if not taken}

    def _send_picture(self, path: str) -> bool:
        data = self._outbox.unsent(path)
        if data is None:  # sent with an earlier row
            return True
        try:
            self._receiver.send_picture(path, data)
        except StoreRefused as error:
            logger.error("Dropped the picture %s: %s", path, error.detail)
            self._outbox.drop_picture(path)
            return False
        self._outbox.mark_sent(path)
        return True


def _by_table(events: Sequence[Event], refused: set[str]) -> dict[str, list[dict[str, Any]]]:
    tables: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        row = {**event.row, "image_path": None} if event.image_path in refused else event.row
        tables.setdefault(event.table, []).append(row)
    return tables


def _pause(attempts: int, random_share: Callable[[], float] = random.random) -> float:
    """Seconds to wait after so many failed attempts: exponential backoff, with jitter to spread out many machines."""
    if not attempts:
        return _IDLE_SECONDS
    return min(_LONGEST_WAIT, 0.5 * 2.0 ** min(attempts, 10)) * (0.5 + random_share() / 2)
