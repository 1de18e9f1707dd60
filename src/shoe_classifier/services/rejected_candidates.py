"""Candidates that the gate has rejected: kept for a while, and published all the same when a person wants it."""

import logging
from dataclasses import replace
from pathlib import Path

from shoe_classifier.errors import RetrainRunning, Superseded
from shoe_classifier.files import sha256_of
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml.label_changes import LAST_CHANGE
from shoe_classifier.ml.live_model import LiveModelHolder
from shoe_classifier.services.candidate_trainer import TrainedCandidate
from shoe_classifier.services.job_endings import RECENT_JOBS, JobEndings
from shoe_classifier.services.job_progress import JobProgress
from shoe_classifier.services.model_registry import ModelRegistry, version_row
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import ModelVersion, RetrainJob, new_id, utc_now

logger = logging.getLogger(__name__)


class RejectedCandidates:
    """Keeps the candidates that the gate rejects, and publishes them by jobs of their own."""

    def __init__(self, store: Store, holder: LiveModelHolder, registry: ModelRegistry, endings: JobEndings, keep: int):
        """`keep` is how many candidates are kept; with none, they are deleted at once."""
        self._store = store
        self._holder = holder
        self._registry = registry
        self._endings = endings
        self._keep = keep

    def keep(self, candidate: TrainedCandidate, file: Path) -> str | None:
        """Keep a candidate; return its version, or None if it is not kept."""
        if not self._keep:
            return None
        row = version_row(bundles.read(file), sha256_of(file), "candidate")
        try:
            self._registry.keep_rejected(file, row, candidate.learned)
        except Exception:  # of any kind, such as a full disk: the verdict counts all the same
            logger.exception("The rejected version %s could not be kept.", row.version)
            return None
        return row.version

    def start_publishing(self, row: ModelVersion) -> JobProgress:
        """Start the job that `publish` ends. Raises as `Retrainer.activate` does."""
        self._holder.teachable  # noqa: B018 - raises if there is none
        self._registry.check_publishable(row)
        self._check_label_changes(row)
        progress = JobProgress(self._forced_job(row))
        if not self._store.start_job(progress.row):
            raise RetrainRunning("Expected no running retrain; another machine of this service runs one.")
        return progress

    def publish(self, progress: JobProgress, row: ModelVersion) -> ModelVersion:
        """Make a rejected candidate live. Raises as `Retrainer.activate` does."""
        done = progress.ended("published", progress.row.message)
        try:
            activated = self._registry.activate(row.version, done)
        except BaseException as error:  # of any kind: the job must end; it is raised again
            self._endings.fail(progress, error)
            raise
        self._endings.end_published(progress, done, row)
        return activated

    def _check_label_changes(self, row: ModelVersion) -> None:
        """Raise `Superseded` if a change of a label was undone that a rejected candidate has taken over."""
        last = (row.metrics or {}).get(LAST_CHANGE)
        if last and last not in {change.id for change in self._store.label_changes()}:
            raise Superseded(
                f"Expected a rejected version with the present labels; a change that {row.version!r} has learned was"
                " undone since. Retrain."
            )

    def _forced_job(self, row: ModelVersion) -> RetrainJob:
        """Return a job that publishes a rejected candidate. What it measured is that of the job that trained it."""
        jobs = self._store.jobs(RECENT_JOBS, None)
        trained = next((job for job in jobs if job.model_version == row.version), RetrainJob(labels=row.labels))
        now = utc_now()
        message = f"Forced: version {row.version} was published although it had been rejected."
        return replace(
            trained,
            job_id=new_id(),
            state="running",
            phase="publish",
            message=f"{message} {trained.error or ''}".strip(),
            model_version=row.version,
            error=None,
            force=True,
            created_at=now,
            started_at=now,
            finished_at=None,
        )
