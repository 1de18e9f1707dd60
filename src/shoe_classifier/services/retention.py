"""Retention: bounds what is kept of predictions, in the background and in small steps."""

import logging
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from shoe_classifier.errors import StoreUnavailable
from shoe_classifier.services.audit import AuditLog
from shoe_classifier.settings import Settings
from shoe_classifier.storage.file_lock import FileLock
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import KeptPredictions, PredictionRecord, first_id

logger = logging.getLogger(__name__)

_PAUSE_SECONDS = 60.0  # between two passes
_PAUSE_SHARE = 30  # or this many times what the last one took, so that passes take three percent of the time at most
# Rows deleted at once, or rows that lose their picture, each of which touches more of the file. Predictions wait for as
# long as a step takes, and not for the pause after it.
_ROWS, _PICTURES, _REST_SECONDS = 50, 10, 0.005
_UNKNOWN_BYTES = 100_000  # taken for the size of a picture of 0.1.0, whose rows do not say it
_FIRST_ID, _LAST_ID = "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"


class Retention:
    """Deletes old predictions and, beyond a number of bytes, the oldest of their pictures.

    What people have reviewed stays, and so does what shows a training picture.

    Attributes:
        kept: what was left after the last pass; None before the first.
    """

    def __init__(self, settings: Settings, store: Store, audit: AuditLog):
        self._days = settings.keep_predictions_days
        self._bytes = settings.keep_prediction_images_bytes
        self._store = store
        self._audit = audit
        self._lock = FileLock(settings.dataset_dir / "retention.lock")
        self.kept: KeptPredictions | None = None

    def run(self, stopping: threading.Event) -> None:
        """Make a pass about once a minute, until the service stops. One worker of a machine deletes, all count."""
        deletes = False
        while not stopping.is_set():
            started = time.monotonic()
            deletes = deletes or self._lock.acquire()
            try:
                self.make_pass(stopping, delete=deletes)
            except StoreUnavailable as error:
                logger.info("Retention waits: %s", error.detail)
            except Exception:  # a busy or full disk now must not end retention for good
                logger.exception("A pass of retention failed; the next one tries again.")
            stopping.wait(max(_PAUSE_SECONDS, _PAUSE_SHARE * (time.monotonic() - started)))
        self._lock.release()

    def make_pass(self, stopping: threading.Event, *, delete: bool = True) -> None:
        """Count what is kept and, with `delete`, delete what is too old or too much."""
        self._audit.tidy()
        if delete:
            self._delete_old(stopping)
            self._store.forget_unused()
        kept = self._store.count_predictions()
        if delete and kept.picture_bytes > self._bytes:
            self._drop_pictures(kept.picture_bytes - self._bytes, stopping)
            kept = self._store.count_predictions()
        self.kept = kept

    def _delete_old(self, stopping: threading.Event) -> None:
        if self._days is None:
            return
        end = first_id(datetime.now(UTC) - timedelta(days=self._days))
        for rows in self._expendable(end, with_picture=False, stopping=stopping):
            self._store.delete_predictions(rows)

    def _drop_pictures(self, excess: int, stopping: threading.Event) -> None:
        for rows in self._expendable(_LAST_ID, with_picture=True, stopping=stopping):
            self._store.drop_pictures(rows)
            excess -= sum({row.image_path: row.image_bytes or _UNKNOWN_BYTES for row in rows}.values())
            if excess <= 0:
                return

    def _expendable(
        self, end: str, *, with_picture: bool, stopping: threading.Event
    ) -> Iterator[list[PredictionRecord]]:
        last, limit = _FIRST_ID, _PICTURES if with_picture else _ROWS
        while not stopping.is_set():
            rows = self._store.expendable_predictions(last, end, with_picture=with_picture, limit=limit)
            if not rows:
                return
            yield rows
            last = rows[-1].id
            stopping.wait(_REST_SECONDS)
