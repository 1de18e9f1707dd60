"""The retrain job: collect, train, judge, publish. One at a time, on a thread of low priority."""

import logging
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from shoe_classifier.errors import AppError, Cancelled, NoNewData, NotCancellable, NotFound, RetrainRunning
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml import finetune
from shoe_classifier.ml.dataset import load
from shoe_classifier.ml.evaluation import gate
from shoe_classifier.ml.finetune import GateEvidence, Report, RetrainTask
from shoe_classifier.ml.live_model import LiveModelHolder
from shoe_classifier.ml.zip_reader import Picture
from shoe_classifier.services.model_registry import ModelRegistry
from shoe_classifier.services.training_process import (
    LOWEST_PRIORITY,
    finetune_in_process,
    require_tensorflow,
    tensorflow_installed,
)
from shoe_classifier.settings import Settings
from shoe_classifier.storage.file_lock import FileLock
from shoe_classifier.storage.model_files import ModelFiles
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import FINISHED, ModelVersion, RetrainJob, TrainingPicture, utc_now

logger = logging.getLogger(__name__)

Mode = Literal["auto", "quick", "full"]
_PHASES = {  # where each phase begins and ends in the progress of the job
    "collect": (0.0, 0.1),
    "features": (0.1, 0.3),
    "train": (0.3, 0.9),
    "compile": (0.9, 0.95),
    "judge": (0.95, 0.97),
    "publish": (0.97, 1.0),
}
_TELL_SECONDS = 0.5  # between two reports of progress to other workers of this machine
_TIME_TO_FINISH = 0.2  # share of the time that is kept for what follows the training


class Retrainer:
    """Runs retrain jobs and answers for their state."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        live_model: LiveModelHolder,
        registry: ModelFiles,
        model_registry: ModelRegistry,
    ):
        self._host_lock = FileLock(settings.dataset_dir / "retrain.lock")
        self._settings = settings
        self._store = store
        self._live_model = live_model
        self._registry = registry
        self._model_registry = model_registry
        self._lock = threading.Lock()
        self._job: RetrainJob | None = None
        self._thread: threading.Thread | None = None
        self._cancelled = threading.Event()

    @property
    def running(self) -> bool:
        """True from the start of a job to its end."""
        return self._thread is not None and self._thread.is_alive()

    def check_idle(self) -> None:
        """Raise `RetrainRunning` when a job is under way."""
        if self.running and self._job:
            raise RetrainRunning(f"Expected no running retrain; job {self._job.job_id} is {self._job.phase}.")
        if not self._host_lock.acquire():
            raise RetrainRunning("Expected no running retrain; another worker of this service runs one.")
        self._host_lock.release()

    def start(self, mode: Mode, max_seconds: int | None, force: bool) -> RetrainJob:
        """Start a job on what was uploaded since the last one.

        Raises:
            RetrainRunning: there is one already.
            NoNewData: every stored picture has been learnt.
            NotReady: there is no live model to start from.
        """
        with self._lock:
            self.check_idle()
            self._live_model.teachable  # noqa: B018 - raises when there is none
            if not self._store.count_unprocessed():
                raise NoNewData(
                    "Expected training pictures that were not learnt yet; there are none. Upload some first."
                )
            if not self._host_lock.acquire():
                raise RetrainRunning("Expected no running retrain; another worker of this service runs one.")
            job = RetrainJob(mode=mode, force=force)
            try:
                if not self._store.start_job(job):
                    raise RetrainRunning("Expected no running retrain; another machine of this service runs one.")
                seconds = max_seconds or self._settings.retrain_max_seconds
                self._cancelled.clear()
                self._job = job
                self._thread = threading.Thread(target=self._run, args=[job, seconds], name="retrain")
                self._thread.start()
            except BaseException:  # a full disk, no more threads: the next call must find the lock free
                self._host_lock.release()
                raise
            return job

    def job(self, job_id: str) -> RetrainJob:
        """One job, with its present progress. Raises `NotFound`."""
        if self._job and self._job.job_id == job_id:
            return self._job
        job = self._store.job(job_id)
        if job is None:
            raise NotFound(f"Expected the id of a retrain job; received {job_id[:80]!r}.")
        return job

    def jobs(self, limit: int, before: str | None) -> list[RetrainJob]:
        """Jobs, newest first."""
        return [
            self._job if self._job and self._job.job_id == row.job_id else row
            for row in self._store.jobs(limit, before)
        ]

    def cancel(self, job_id: str) -> RetrainJob:
        """Ask a running job to stop; its pictures stay unprocessed. Raises `NotFound` and `NotCancellable`."""
        with self._lock:
            job = self.job(job_id)
            if job.state in FINISHED or job.phase == "publish":
                raise NotCancellable(f"Expected a job that is still training; job {job_id} is {job.state}.")
            if job is self._job:
                self._cancelled.set()
            else:
                self._store.request_cancel(job_id)
            return job

    def fail_interrupted(self, message: str) -> None:
        """At the start, end the jobs that a killed process left; not those that another worker runs."""
        if self._host_lock.acquire():
            try:
                self._store.fail_unfinished_jobs(message)
            finally:
                self._host_lock.release()

    def activate(self, version: str) -> ModelVersion:
        """Make another version live while no job runs: a job is judged against the version that was live at its start.

        Raises:
            RetrainRunning, and what `ModelRegistry.activate` raises.
        """
        with self._lock:
            self.check_idle()
            latest = self._store.jobs(1, None) if self._store.shared else []
            if latest and not latest[0].finished:
                raise RetrainRunning("Expected no running retrain; another machine of this service runs one.")
            return self._model_registry.activate(version)

    def wait(self, job_id: str) -> RetrainJob:
        """Block until a job has ended."""
        thread = self._thread
        if thread and self._job and self._job.job_id == job_id:
            thread.join()
        return self.job(job_id)

    def request_stop(self) -> None:
        """Cancel what runs, without waiting."""
        self._cancelled.set()

    def stop(self) -> None:
        """Cancel what runs and wait for its end."""
        self.request_stop()
        if self._thread:
            self._thread.join(timeout=self._settings.shutdown_seconds)

    # ------------------------------------------------------------ the job, on its own thread

    def _run(self, job: RetrainJob, seconds: float) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST_PRIORITY)  # threads that it starts inherit it
        candidate = self._registry.candidate(job.job_id)
        job.state, job.started_at = "running", utc_now()
        try:
            if not self._store.report_job(job):
                raise Cancelled
            self._learn_and_publish(job, candidate, time.time() + seconds)
        except Cancelled:
            self._end(job, "cancelled", "Cancelled. The pictures stay for the next retrain.")
        except AppError as error:
            self._fail(job, error.detail)
        except Exception:  # whatever happens, the job must end and the lock be free; the traceback goes to the log
            logger.exception("Retrain %s failed.", job.job_id)
            self._fail(job, "The retrain failed inside the service; its log says why.")
        finally:
            candidate.unlink(missing_ok=True)
            self._host_lock.release()

    def _learn_and_publish(self, job: RetrainJob, candidate: Path, deadline: float) -> None:
        report = self._reporter(job)
        rows = _learnable(self._store.unprocessed(), self._live_model.live.bundle.labels)
        job.samples = len(rows)
        modes, why = self._modes(job.mode, len(rows))
        for mode in modes:
            job.mode = mode
            outcome, reasons = self._learn(job, rows, candidate, deadline, report)
            if not reasons or job.force or time.time() > deadline:
                break
            if mode != modes[-1]:
                why += f"{mode.capitalize()} failed, because {'; '.join(reasons)}; then {modes[-1]}. "
        job.metrics, job.baseline = outcome.metrics, outcome.baseline
        if reasons and not job.force:
            self._end(job, "rejected", f"{why}The live model stays: {'; '.join(reasons)}.")
            return
        with self._lock:  # from here on, `cancel` refuses
            report("judge", 1.0, "Publishing.")
            job.phase = "publish"
            self._tell_others(job)
        bundle = bundles.read(candidate)
        job.model_version = bundle.version
        message, learnt = why + _verdict(outcome, reasons), {row.id: row.shoe_class for row in rows}
        self._model_registry.publish(candidate, bundle, lambda: self._end(job, "published", message, learnt))

    def _modes(self, wanted: str, pictures: int) -> tuple[list[str], str]:
        """What to try, in this order, until the gate lets one pass; and why, when the user left the choice open."""
        if wanted != "auto":
            return [wanted], ""
        if not tensorflow_installed():
            return ["quick"], "Quick only, because TensorFlow is not installed yet. "
        limit = self._settings.full_from_images
        if pictures >= limit:
            return ["full", "quick"], f"Full first, for {pictures} new pictures (from {limit} on). "
        return ["quick", "full"], f"Quick first, for {pictures} new pictures (full from {limit} on). "

    def _learn(
        self, job: RetrainJob, rows: list[TrainingPicture], candidate: Path, deadline: float, report: Report
    ) -> tuple[GateEvidence, list[str]]:
        if job.mode == "full":
            require_tensorflow()
        pictures = [*self._store.processed(), *rows] if job.mode == "full" else rows
        lesson = self._lesson(pictures, candidate, deadline, report)
        job.labels = lesson.labels
        if job.mode == "quick":
            outcome = finetune.retrain_head(lesson, report)
        elif self._settings.retrain_in == "subprocess":
            outcome = finetune_in_process(lesson, report)
        else:
            outcome = finetune.finetune(lesson, report)
        report("judge", 0.0, "Comparing with the live model.")
        return outcome, gate(
            outcome.baseline,
            outcome.retained,
            outcome.lesson,
            contradictions=(outcome.sure, outcome.contradicted),
            label_disagreements=(outcome.label_disagreements, outcome.asked),
            distinct=outcome.distinct,
            background_false_accepts=outcome.background_false_accepts,
        )

    def _lesson(self, rows: list[TrainingPicture], candidate: Path, deadline: float, report: Report) -> RetrainTask:
        live = self._live_model.teachable
        labels = list(live.bundle.labels)
        done = 0

        def progress() -> None:
            nonlocal done
            report("collect", done / len(rows), f"Reading picture {done + 1} of {len(rows)}.")
            done += 1

        files = self._store.pictures([row.image_path for row in rows])
        pictures = load(
            (Picture(row.shoe_class, row.image_path, data) for row, data in zip(rows, files, strict=True)),
            live.engine.side,
            labels,
            progress=progress,
            max_pixels=self._settings.max_image_pixels,
        )
        end = deadline - (deadline - time.time()) * _TIME_TO_FINISH
        return RetrainTask(self._registry.live, candidate, pictures, labels, end)

    def _reporter(self, job: RetrainJob) -> Report:
        started = told = time.monotonic()

        def report(phase: str, progress: float, message: str) -> None:
            nonlocal told
            if self._cancelled.is_set():
                raise Cancelled
            begin, end = _PHASES[phase]
            job.progress = round(begin + (end - begin) * progress, 4)
            job.phase, job.message = phase, message
            if job.progress > 0.02:
                job.seconds_left = round((time.monotonic() - started) * (1 - job.progress) / job.progress, 1)
            if time.monotonic() - told > _TELL_SECONDS and not self._store.shared:  # that one hears by `beat`
                told = time.monotonic()
                self._tell_others(job)

        return report

    def _tell_others(self, job: RetrainJob) -> None:
        """Let other workers see the progress; one of them may have asked for the end."""
        alone = self._settings.uvicorn_workers == 1 and not self._store.shared
        if not alone and not self._store.report_job(job):
            raise Cancelled

    def beat(self) -> None:
        """Tell a shared store that the job is alive, and how far; another machine may have asked for its end."""
        job = self._job
        if self._store.shared and self.running and job and not job.finished and not self._store.report_job(job):
            self._cancelled.set()

    def _fail(self, job: RetrainJob, message: str) -> None:
        if job.finished:  # what came after the end, as the deleting of old files, concerns it no more
            logger.error("After the end of retrain %s: %s", job.job_id, message)
            return
        job.model_version = None
        self._end(job, "failed", message)

    def _end(self, job: RetrainJob, state: Any, message: str, learnt: dict[str, str] | None = None) -> None:
        """Write the end of a job down; the state changes last, so that whoever sees it sees all the rest."""
        job.phase, job.message, job.finished_at, job.seconds_left = state, message, utc_now(), 0.0
        job.progress = 1.0 if state in ("published", "rejected") else job.progress
        job.error = message if state in ("failed", "rejected") else None
        try:
            self._store.finish_job(RetrainJob(**{**asdict(job), "state": state}), learnt or {})
        except Exception:  # a store that is silent, or full: the job ends here all the same
            if state == "published":  # but then it was not; it is ended again, as failed
                raise
            logger.exception("The end of retrain %s could not be written down.", job.job_id)
        job.state = state
        logger.info("Retrain %s %s: %s", job.job_id, state, message)


def _learnable(rows: list[TrainingPicture], known: Sequence[str]) -> list[TrainingPicture]:
    """Leave pictures for a later retrain whose label is new, and all of whose pictures are held out.

    Raises:
        NoNewData: nothing else is there.
    """
    labels = {row.shoe_class for row in rows if row.split == "train"} | set(known)
    ready = [row for row in rows if row.shoe_class in labels]
    if not ready:
        waiting = sorted({row.shoe_class for row in rows})
        raise NoNewData(f"Expected more pictures of {', '.join(waiting)}; the few there are, are all held out.")
    return ready


def _verdict(outcome: GateEvidence, overruled: list[str]) -> str:
    new = [name for name in outcome.metrics["labels"] if name not in outcome.baseline["labels"]]
    text = f"Accuracy {outcome.metrics['accuracy']:.3f} on {outcome.metrics['samples']} held-out pictures"
    text += f"; on the {outcome.baseline['samples']} held out before, {outcome.retained['accuracy']:.3f}"
    text += f" after {outcome.baseline['accuracy']:.3f}."
    if new:
        recalls = [f"{name} {outcome.metrics['per_class'][name]['recall']:.2f}" for name in new]
        text += f" New labels, with their recall: {', '.join(recalls)}."
    return f"{text} Forced, although {'; '.join(overruled)}." if overruled else text
