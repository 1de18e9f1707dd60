"""The state of the retrain job that this process runs."""

import threading
import time
from dataclasses import replace
from typing import Any

from shoe_classifier.errors import Cancelled
from shoe_classifier.types import Ending, Phase, RetrainJob, TrainingEvent, utc_now

_PHASES: dict[Phase, tuple[float, float]] = {  # where each phase begins and ends in the progress of the job
    "collect": (0.0, 0.1),
    "features": (0.1, 0.3),
    "train": (0.3, 0.9),
    "compile": (0.9, 0.95),
    "judge": (0.95, 0.97),
    "publish": (0.97, 1.0),
}
_ESTIMATE_FROM = 0.02  # progress; before it, the time left is anybody's guess


class JobProgress:
    """Holds a job as a frozen row and replaces it in one assignment, so readers on other threads need no lock.

    Attributes:
        row: the job as it is now.
    """

    def __init__(self, row: RetrainJob):
        self.row = row
        self._started = time.monotonic()
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """Make the next `report` raise `Cancelled`."""
        self._cancelled.set()

    def update(self, **changes: Any) -> None:
        """Change fields of the job. Only the thread that works on the job may call it."""
        self.row = replace(self.row, **changes)

    def report(self, event: TrainingEvent) -> None:
        """Take over what a training reports: a `types.Report`.

        Raises:
            Cancelled: the job is to stop.
        """
        if self._cancelled.is_set():
            raise Cancelled
        begin, end = _PHASES[event.phase]
        progress = round(begin + (end - begin) * event.progress, 4)
        changes: dict[str, Any] = {"phase": event.phase, "progress": progress, "message": event.message}
        if event.epoch is not None:
            changes |= {"epoch": event.epoch, "epochs": event.epochs, "loss": event.loss}
        if progress > _ESTIMATE_FROM:
            elapsed = time.monotonic() - self._started
            changes["seconds_left"] = round(elapsed * (1 - progress) / progress, 1)
        self.update(**changes)

    def ended(self, state: Ending, message: str) -> RetrainJob:
        """Return the job as it is once it has ended with this state."""
        return replace(
            self.row,
            state=state,
            phase=state,
            message=message,
            error=message if state in ("failed", "rejected") else None,
            progress=1.0 if state in ("published", "rejected") else self.row.progress,
            model_version=self.row.model_version if state in ("published", "rejected") else None,
            seconds_left=0.0,
            finished_at=utc_now(),
        )
