"""Brings the outbox to Supabase: one thread, oldest first, however long it takes."""

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from shoe_classifier.errors import StoreRefused, StoreUnavailable
from shoe_classifier.storage.file_lock import FileLock
from shoe_classifier.storage.supabase.outbox import Event, Outbox

logger = logging.getLogger(__name__)

_IDLE_SECONDS = 0.3  # between two looks into an outbox that was empty: what comes meanwhile goes together
_BATCH = 200  # rows
_TRANSFER_THREADS = 8  # pictures on their way at once
_LONGEST_WAIT = 15.0  # seconds between two tries


class Receiver(Protocol):
    """Where the outbox goes. Each call may be repeated without doing harm."""

    def send_picture(self, image_path: str, data: bytes) -> None:
        """Raises `StoreUnavailable`, and `StoreRefused`."""

    def send_rows(self, table: str, rows: Sequence[dict[str, Any]]) -> None:
        """Raises `StoreUnavailable`, and `StoreRefused`."""


class OutboxRelay:
    """Sends pictures, then their rows, and only then forgets them; so each arrives, and repeating changes nothing.

    Args:
        lock: of the workers of one machine, one sends.
    """

    def __init__(self, outbox: Outbox, receiver: Receiver, lock: FileLock):
        self._outbox = outbox
        self._receiver = receiver
        self._lock = lock
        self._stopping = threading.Event()
        self._deadline = 0.0
        self._thread = threading.Thread(target=self._run, name="courier", daemon=True)
        self.error: str | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Send what waits, for so many seconds at most; what is left stays for the next start."""
        self._deadline = time.monotonic() + seconds
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=seconds + 1)

    def _run(self) -> None:
        tries, mine = 0, False
        while True:
            last = self._stopping.is_set()
            try:
                mine = mine or self._lock.acquire()
                sent, tries = mine and self._deliver(), 0
            except StoreUnavailable as error:
                sent, tries, self.error = False, tries + 1, error.detail
                logger.warning("The outbox waits: %s", error.detail)
            except Exception:  # whatever it was, what waits must be tried again
                sent, tries, self.error = False, tries + 1, "Sending failed inside the service; its log says why."
                logger.exception("The outbox could not be sent.")
            if last and (not sent or time.monotonic() > self._deadline):
                break
            if not sent:
                self._stopping.wait(_pause(tries))
        if mine:
            self._lock.release()

    def _deliver(self) -> bool:
        """Send one batch; False when nothing waits."""
        self._outbox.trim()
        events = self._outbox.oldest(_BATCH)
        if not events:
            self.error = None
            return False
        given_up = self._send_pictures({event.image_path for event in events if event.image_path})
        for table, rows in _by_table(events, given_up).items():
            self._send_rows(table, rows)
        self._outbox.remove([event.id for event in events])
        self.error = None
        if len(events) < _BATCH:
            self._outbox.shrink()
        return True

    def _send_rows(self, table: str, rows: list[dict[str, Any]]) -> None:
        try:
            self._receiver.send_rows(table, rows)
        except StoreRefused as error:  # one bad row must not hold up the others
            if len(rows) > 1:
                for row in rows:
                    self._send_rows(table, [row])
                return
            logger.error("A row of %s is given up: %s %s", table, error.detail, rows[0])
            self._outbox.count_dropped_row()

    def _send_pictures(self, paths: set[str]) -> set[str]:
        """Returns those that were refused."""
        with ThreadPoolExecutor(_TRANSFER_THREADS) as hands:
            return {path for path, taken in zip(paths, hands.map(self._send_picture, paths), strict=True) if not taken}

    def _send_picture(self, path: str) -> bool:
        data = self._outbox.unsent(path)
        if data is None:  # sent with an earlier row
            return True
        try:
            self._receiver.send_picture(path, data)
        except StoreRefused as error:
            logger.error("A predicted picture is given up: %s", error.detail)
            self._outbox.drop_picture(path)
            return False
        self._outbox.mark_sent(path)
        return True


def _by_table(events: Sequence[Event], given_up: set[str]) -> dict[str, list[dict[str, Any]]]:
    tables: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        row = {**event.row, "image_path": None} if event.image_path in given_up else event.row
        tables.setdefault(event.table, []).append(row)
    return tables


def _pause(tries: int, random_share: Callable[[], float] = random.random) -> float:
    """Exponential backoff with jitter, so that many machines do not come back at once."""
    if not tries:
        return _IDLE_SECONDS
    return float(min(_LONGEST_WAIT, 0.5 * 2.0**tries) * (0.5 + random_share() / 2))
