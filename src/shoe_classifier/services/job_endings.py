"""How retrain jobs end: in the store, and for those who listen to webhooks."""

import logging

from shoe_classifier.errors import AppError, disk_error
from shoe_classifier.ml.label_changes import LAST_CHANGE
from shoe_classifier.services.job_progress import JobProgress
from shoe_classifier.services.model_registry import ModelRegistry
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import Ending, ModelVersion, Publish, RetrainJob

logger = logging.getLogger(__name__)

RECENT_JOBS = 20  # among which the jobs of killed processes are looked for
_FAILED = "The retrain failed inside the service; its log says why."


class JobEndings:
    """Ends jobs. Readers of a `JobProgress` see its end only once the store has it, or has refused it."""

    def __init__(self, store: Store, registry: ModelRegistry, publish: Publish):
        self._store = store
        self._registry = registry
        self._tell = publish
        self._unrecorded: JobProgress | None = None  # a job whose end the store has not accepted yet

    def end(self, progress: JobProgress, state: Ending, message: str) -> None:
        """End a job without a new version."""
        ended = progress.ended(state, message)
        recorded = self._is_recorded(ended)
        progress.row = ended
        if not recorded:
            self._unrecorded = progress
        if state == "rejected":
            self._tell("retrain.rejected", _described(ended))
        logger.info("Retrain %s %s: %s", ended.job_id, state, message)

    def fail(self, progress: JobProgress, error: BaseException) -> None:
        """End a job that raised an error, without the text of one that is internal."""
        told = error if isinstance(error, AppError) else disk_error(error)
        self.end(progress, "failed", told.detail if told else _FAILED)

    def end_published(self, progress: JobProgress, done: RetrainJob, version: ModelVersion) -> None:
        """End a job whose version is live; the registry has recorded it as `done`."""
        progress.row = done
        self._settle_label_changes(version)
        self._tell("retrain.published", _described(done))
        logger.info("Retrain %s published version %s.", done.job_id, version.version)

    def end_interrupted(self, message: str) -> None:
        """End the jobs of killed processes. No other process may be running one on this machine.

        Of a job that was killed while it published, the registry knows whether its version is live.
        """
        self.record_late()
        for job in self._store.jobs(RECENT_JOBS, None):
            if not job.finished and job.model_version and self._registry.was_published(job):
                logger.warning("Retrain %s was stopped after its version had become live.", job.job_id)
                done = JobProgress(job).ended("published", job.message)
                self._store.finish_job(done)
                self._tell("retrain.published", _described(done))
        self._store.fail_unfinished_jobs(message)

    def record_late(self) -> bool:
        """Record an end that the store has not accepted, or take over the one that it has by now.

        Returns:
            False if there is none.
        """
        progress = self._unrecorded
        if progress is None:
            return False
        row = self._store.job(progress.row.job_id)
        if row is None or not row.finished:
            self._store.finish_job(progress.row)
        else:
            progress.row = row
        if self._unrecorded is progress:  # the next job may have started and ended while the store was slow
            self._unrecorded = None
        return True

    def _is_recorded(self, ended: RetrainJob) -> bool:
        try:
            self._store.finish_job(ended)
        except Exception:  # of any kind: the job ends here all the same, and `record_late` tries again
            logger.exception("The end of retrain %s could not be recorded.", ended.job_id)
            return False
        return True

    def _settle_label_changes(self, version: ModelVersion) -> None:
        """Delete what only served to undo changes that a new version has taken over."""
        last = (version.metrics or {}).get(LAST_CHANGE)
        if last is None:
            return
        try:
            self._store.settle_changes(last)
        except Exception:  # of any kind, such as a store that does not answer: the next publication repeats it
            logger.exception("The pictures of removed labels could not be deleted yet.")


def _described(job: RetrainJob) -> dict[str, object]:
    """What a webhook says about a finished job."""
    metrics = job.metrics or {}
    figures = {name: metrics.get(name) for name in ("accuracy", "macro_f1")}
    names = ("job_id", "state", "mode", "message", "model_version", "samples", "labels", "created_at", "finished_at")
    return {**{name: getattr(job, name) for name in names}, **figures}
