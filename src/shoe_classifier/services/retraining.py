"""Retrain jobs, one at a time: starting, observing, cancelling and ending them."""

import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from shoe_classifier.errors import (
    AppError,
    Cancelled,
    InvalidLabel,
    NoNewData,
    NotCancellable,
    NotFound,
    RetrainRunning,
)
from shoe_classifier.files import sha256_of
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml.finetune import tune_here
from shoe_classifier.ml.live_model import LiveModelHolder
from shoe_classifier.ml.tuning import Tune
from shoe_classifier.services.candidate_trainer import CandidateTrainer, TrainedCandidate, verdict
from shoe_classifier.services.job_endings import JobEndings
from shoe_classifier.services.job_progress import JobProgress
from shoe_classifier.services.labels import pending_changes
from shoe_classifier.services.model_registry import ModelRegistry, version_row
from shoe_classifier.services.picture_features import FeatureExtractor
from shoe_classifier.services.rejected_candidates import RejectedCandidates
from shoe_classifier.services.training_process import LOWEST_PRIORITY
from shoe_classifier.settings import Settings
from shoe_classifier.storage.file_lock import FileLock
from shoe_classifier.storage.model_files import ModelFiles
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import (
    ModelVersion,
    Publish,
    RetrainJob,
    RetrainMode,
    TrainingEvent,
    publish_nothing,
    utc_now,
)

logger = logging.getLogger(__name__)

_INTERRUPTED = "The process that ran this retrain was stopped. Its pictures stay for the next one."
_CANCELLED = "Cancelled. The pictures stay for the next retrain."


class Retrainer:
    """Runs retrain jobs, each on a thread of low priority, and answers for their state."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        holder: LiveModelHolder,
        files: ModelFiles,
        registry: ModelRegistry,
        features: FeatureExtractor,
        publish: Publish = publish_nothing,
        tune: Tune = tune_here,
    ):
        """`tune` is what full retrains tune with."""
        self._host_lock = FileLock(settings.dataset_dir / "retrain.lock")  # between the workers of this machine
        self._settings = settings
        self._store = store
        self._holder = holder
        self._files = files
        self._registry = registry
        self._endings = JobEndings(store, registry, publish)
        self._rejected = RejectedCandidates(store, holder, registry, self._endings, settings.keep_rejected)
        self._trainer = CandidateTrainer(settings, store, holder, files.live, features, tune)
        self._lock = threading.Lock()
        self._progress: JobProgress | None = None
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """True from the start of a job to its end."""
        return self._thread is not None and self._thread.is_alive()

    def check_idle(self) -> None:
        """Raise `RetrainRunning` if a job is running on this machine."""
        self._acquire_host_lock()
        self._host_lock.release()

    @contextmanager
    def idle(self) -> Iterator[None]:
        """Hold off all retrains for a moment. Raises `RetrainRunning` if one runs, on whichever machine."""
        with self._lock:
            self._acquire_host_lock()
            try:
                self._endings.end_interrupted(_INTERRUPTED)
                latest = self._store.jobs(1, None)
                if latest and not latest[0].finished:
                    raise RetrainRunning("Expected no running retrain; another machine of this service runs one.")
                yield
            finally:
                self._host_lock.release()

    def start(self, mode: RetrainMode, max_seconds: int | None, force: bool, without: Sequence[str] = ()) -> RetrainJob:
        """Start a job on what was uploaded since the last one.

        Args:
            max_seconds: limit for the training; None for the one in the settings.
            force: publish even if the gate rejects the candidate.
            without: labels whose pictures go on waiting.

        Raises:
            RetrainRunning: another job is running.
            NoNewData: every stored picture has been learned, or is to go on waiting, and no label was changed.
            InvalidLabel: no picture with a label of `without` is waiting.
            NotReady, NotOffered: there is no live model to start from.
        """
        with self._lock:
            self._acquire_host_lock()
            try:
                live = self._holder.teachable.bundle
                self._endings.end_interrupted(_INTERRUPTED)
                self._check_waiting(without, live)
                progress = JobProgress(RetrainJob(mode=mode, force=force))
                if not self._store.start_job(progress.row):
                    raise RetrainRunning("Expected no running retrain; another machine of this service runs one.")
                seconds = max_seconds or self._settings.retrain_max_seconds
                self._progress = progress
                self._thread = threading.Thread(target=self._run, args=[progress, seconds, without], name="retrain")
                self._thread.start()
            except BaseException:  # of any kind, such as a full disk: the next call must find the lock free
                self._host_lock.release()
                raise
            return progress.row

    def job(self, job_id: str) -> RetrainJob:
        """Return a job with its current progress. Raises `NotFound`."""
        own = self._progress
        if own and own.row.job_id == job_id:
            return own.row
        job = self._store.job(job_id)
        if job is None:
            raise NotFound(f"Expected the id of a retrain job; received {job_id[:80]!r}.")
        return job

    def jobs(self, limit: int, before: str | None) -> list[RetrainJob]:
        """Return at most `limit` jobs whose id is smaller than `before`, newest first."""
        rows, own = self._store.jobs(limit, before), self._progress
        return [own.row if own and own.row.job_id == row.job_id else row for row in rows]

    def cancel(self, job_id: str) -> RetrainJob:
        """Ask a running job to stop; its pictures stay unprocessed. Raises `NotFound` and `NotCancellable`."""
        with self._lock:
            job, own = self.job(job_id), self._progress
            if job.finished or job.phase == "publish":
                raise NotCancellable(f"Expected a job that is still training; job {job_id} is {job.state}.")
            if own and own.row.job_id == job_id:
                own.cancel()
            else:
                self._store.request_cancel(job_id)
            return job

    def fail_interrupted(self, message: str) -> None:
        """End the jobs that a killed process left; not those that another worker runs. Call it at the start."""
        if self._host_lock.acquire():
            try:
                self._endings.end_interrupted(message)
            finally:
                self._host_lock.release()

    def activate(self, version: str) -> ModelVersion:
        """Make another version live, unless a job runs: its gate compares with the version that was live at its start.

        A rejected candidate is published by a job of its own, which says that it was forced.

        Raises:
            RetrainRunning: a job is running.
            Superseded: the rejected candidate does not know what was learned since, or knows a change that was undone.
            NotFound, InvalidModel, OSError, StoreUnavailable: see `ModelRegistry.activate`.
        """
        with self.idle():
            row = self._registry.known(version)
            if row.state != "rejected":
                return self._registry.activate(version)
            self._progress = progress = self._rejected.start_publishing(row)
            return self._rejected.publish(progress, row)

    def wait(self, job_id: str) -> RetrainJob:
        """Block until a job of this process has ended. Raises `NotFound`."""
        thread, own = self._thread, self._progress
        if thread and own and own.row.job_id == job_id:
            thread.join()
        return self.job(job_id)

    def request_stop(self) -> None:
        """Cancel the running job, without waiting for its end."""
        if self._progress:
            self._progress.cancel()
        self._registry.interrupt()

    def stop(self) -> None:
        """Cancel the running job and wait for its end."""
        self.request_stop()
        if self._thread:
            self._thread.join(timeout=self._settings.shutdown_seconds)

    def beat(self) -> None:
        """Report to the store that the job is alive, and how far it is. Call it every few seconds.

        Another process may have asked for its cancellation. An end that the store did not accept is sent again.
        """
        if self._endings.record_late():
            return
        own = self._progress
        if own and self.running and not own.row.finished and not self._store.report_job(own.row):
            own.cancel()

    def _check_waiting(self, without: Sequence[str], live: bundles.Bundle) -> None:
        """Raise `InvalidLabel` and `NoNewData` as `start` does."""
        counts = self._store.label_counts() if without else {}
        waiting = {label for label, count in counts.items() if count.learnt < count.pictures}
        if unknown := sorted(set(without) - waiting):
            raise InvalidLabel(f"Expected labels of waiting pictures in 'without'; received {unknown[0][:80]!r}.")
        there_are = waiting - set(without) if without else self._store.count_unprocessed()
        if not there_are and not pending_changes(self._store, live).waiting:
            others = " with other labels" if without else ""
            raise NoNewData(
                f"Expected training pictures{others} that were not learned yet; there are none. Upload some first."
            )

    def _acquire_host_lock(self) -> None:
        if not self._host_lock.acquire():
            own = self._progress
            running = f"job {own.row.job_id} is {own.row.phase}" if own and self.running else "another worker runs one"
            raise RetrainRunning(f"Expected no running retrain; {running}.")

    # ------------------------------------------------------------ the job, on its own thread

    def _run(self, progress: JobProgress, seconds: float, without: Sequence[str]) -> None:
        try:
            self._train_and_publish(progress, time.monotonic() + seconds, without)
        except Cancelled:
            self._endings.end(progress, "cancelled", _CANCELLED)
        except AppError as error:
            self._endings.fail(progress, error)
        except Exception as error:  # of any kind: the job must end, and the traceback belongs into the log only
            logger.exception("Retrain %s failed.", progress.row.job_id)
            self._endings.fail(progress, error)
        finally:
            self._registry.remove_unpublished()
            self._host_lock.release()

    def _train_and_publish(self, progress: JobProgress, deadline: float, without: Sequence[str]) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST_PRIORITY)  # its own threads inherit it
        progress.update(state="running", started_at=utc_now())
        if not self._store.report_job(progress.row):
            raise Cancelled
        target = self._files.candidate(progress.row.job_id)
        try:
            candidate = self._trainer.train(target, deadline, progress, without)
            progress.update(metrics=candidate.metrics, baseline=candidate.evidence.baseline)
            if candidate.reasons and not progress.row.force:
                message = f"{candidate.note}The live model stays: {'; '.join(candidate.reasons)}."
                progress.update(model_version=self._rejected.keep(candidate, target))
                self._endings.end(progress, "rejected", message)
            else:
                self._publish(progress, candidate, target)
        finally:
            _remove(target)

    def _publish(self, progress: JobProgress, candidate: TrainedCandidate, target: Path) -> None:
        row = version_row(bundles.read(target), sha256_of(target), "candidate")
        with self._lock:  # from here on, `cancel` refuses
            progress.report(TrainingEvent("judge", 1.0, verdict(candidate)))
            progress.update(phase="publish", model_version=row.version)
        if not self._store.report_job(progress.row):  # also so that a restart knows what was being published
            raise Cancelled
        done = progress.ended("published", verdict(candidate))
        self._registry.publish(target, row, done, candidate.learned)
        self._endings.end_published(progress, done, row)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:  # such as a read-only folder: the next start removes it
        logger.warning("The candidate %s could not be removed: %s", path.name, error)
