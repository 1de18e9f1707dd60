"""Retrains that nobody asks for: when enough new pictures wait, or once a day. The gate decides as always.

What is due follows from the stored jobs and pictures alone, so it survives a restart and is the same for all machines.
"""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from shoe_classifier.errors import NoNewData, NotOffered, NotReady, RetrainRunning
from shoe_classifier.services.retraining import Retrainer
from shoe_classifier.settings import Settings
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import RetrainJob, to_iso

logger = logging.getLogger(__name__)

_DAY = timedelta(days=1)
_AFTER_FAILURE = timedelta(hours=1)  # before a retrain that failed or was cancelled is tried again


@dataclass(frozen=True)
class Due:
    """When the next retrain starts.

    Attributes:
        pictures_to_go: how many more pictures must come.
        at: the earliest time; None when it is only a matter of pictures.
    """

    pictures_to_go: int
    at: datetime | None

    @property
    def now(self) -> bool:
        return not self.pictures_to_go and (self.at is None or self.at <= datetime.now(UTC))


class AutoRetrain:
    """Starts a quick retrain when the setting AUTO_RETRAIN says so.

    A retrain that the gate rejects is not repeated until new pictures have come.
    """

    def __init__(self, settings: Settings, store: Store, retrainer: Retrainer):
        self._store = store
        self._retrainer = retrainer
        self._setting = settings.auto_retrain
        self.enabled = settings.auto_retrain != "off"

    def start_if_due(self) -> None:
        """Start a retrain if one is due; whoever else starts one at the same time goes first.

        Raises:
            StoreUnavailable: a shared store does not answer.
        """
        if not self._due().now:
            return
        try:
            job = self._retrainer.start("quick", None, force=False)
            logger.info("Retrain %s starts by itself (AUTO_RETRAIN=%s).", job.job_id, self._setting)
        except (RetrainRunning, NoNewData, NotReady, NotOffered) as error:
            logger.debug("No retrain starts by itself: %s", error.detail)

    def state(self) -> dict[str, Any] | None:
        """Describe for `/status` when the next one is due; None when the setting is off."""
        if not self.enabled:
            return None
        due = self._due()
        at = to_iso(due.at) if due.at else None
        return {"setting": self._setting, "pictures_to_go": due.pictures_to_go, "due_at": at}

    def _due(self) -> Due:
        jobs = self._store.jobs(1, None)
        last = jobs[0] if jobs else None
        rejected = last is not None and last.state == "rejected"
        new = self._store.count_unprocessed(last.job_id if last and rejected else None)
        return Due(max(0, self._wanted - new), self._earliest(last))

    @property
    def _wanted(self) -> int:
        """How many new pictures are enough."""
        return int(self._setting.partition(":")[2] or 1)

    def _earliest(self, last: RetrainJob | None) -> datetime | None:
        if last is None:
            return None
        if last.state in ("failed", "cancelled"):
            return datetime.fromisoformat(last.finished_at or last.created_at) + _AFTER_FAILURE
        return datetime.fromisoformat(last.created_at) + _DAY if self._setting == "daily" else None
