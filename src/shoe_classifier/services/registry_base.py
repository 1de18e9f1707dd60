"""What local and shared registries do alike: publish, activate, keep and delete versions."""

import logging
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar, ParamSpec

from shoe_classifier.errors import NotFound, StoreUnavailable, Superseded
from shoe_classifier.files import replacing, sha256_of
from shoe_classifier.ml.live_model import LiveModelHolder, Model
from shoe_classifier.services.model_registry import KeepPolicy, identity_of
from shoe_classifier.storage.model_files import ModelFiles
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import ModelVersion, RetrainJob, to_iso

logger = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds between two attempts to write to a store; doubled each time
P = ParamSpec("P")


class RegistryBase(ABC):
    """What local and shared registries have in common. They differ in what is changed first, the files or the store.

    Args:
        keep: which model files are kept.
        patience_seconds: how long a publication waits for a store that is locked or does not answer.

    Attributes:
        default_patience: of each kind of registry.
    """

    default_patience: ClassVar[float]

    def __init__(
        self,
        files: ModelFiles,
        store: Store,
        holder: LiveModelHolder,
        keep: KeepPolicy,
        patience_seconds: float | None = None,
    ):
        self._files = files
        self._store = store
        self._holder = holder
        self._keep = keep
        self._patience = self.default_patience if patience_seconds is None else patience_seconds
        self._lock = threading.Lock()  # held while versions change; `refresh` and `follow` do not wait for it
        self._interrupted = threading.Event()
        self._serving: str | None = None
        self._identity: tuple[int, int] | None = None  # of the live file that serves, or that did not load

    @abstractmethod
    def _switch(self, candidate: Path, record: Callable[[], None]) -> None:
        """Make a candidate live in the files, the store (by `record`) and the holder; raise if it is not live then."""

    @abstractmethod
    def _on_replaced(self, identity: tuple[int, int]) -> None:
        """Another process has replaced the live file, which now has this identity."""

    def publish(self, candidate: Path, row: ModelVersion, job: RetrainJob, learned: Mapping[str, str]) -> None:
        """See `ModelRegistry`."""
        with self._lock:
            previous = self._holder.live.bundle.version
            try:
                self._retry(self._store.prepare_publication, row, candidate, learned)
                self._switch(candidate, lambda: self._record(job, self._retry_finish))
            except StoreUnavailable:  # a shared store may still carry out what it has not answered
                raise
            except BaseException:  # whatever it was, the candidate must not stay listed; it is raised again
                self._discard(row)
                raise
            self._prune(previous)

    def keep_rejected(self, candidate: Path, row: ModelVersion, learned: Mapping[str, str]) -> None:
        """See `ModelRegistry`. It counts as rejected once its file is in its place."""
        with self._lock:
            try:
                self._retry(self._store.prepare_publication, row, candidate, learned)
                self._files.archive_candidate(candidate, row.version)
                self._retry(self._store.save_version, replace(row, state="rejected"))
            except BaseException:  # whatever it was, the candidate must not stay listed; it is raised again
                self._discard(row)
                raise

    def remove_unpublished(self) -> None:
        """See `ModelRegistry`."""
        with self._lock:
            try:
                rows = self._store.versions()  # before the jobs: then none of them belongs to a job that starts now
                if all(job.finished for job in self._store.jobs(1, None)):
                    for row in _expired([row for row in rows if row.version != self._serving], self._keep):
                        self._drop(row)
                self._remove_deleted(rows)
            except Exception:  # of any kind, such as a store that does not answer: this is no reason not to serve
                logger.exception("Candidates that are not kept could not be deleted.")

    def check_publishable(self, row: ModelVersion) -> None:
        """See `ModelRegistry`."""
        parents = {known.version: known.parent for known in self._store.versions()}
        live, ancestor = self._store.live_version(), row.parent
        while ancestor and live and ancestor != live.version:
            ancestor = parents.get(ancestor)
        if live and not ancestor:
            raise Superseded(
                f"Expected a rejected version that was trained from the live one or its descendants; {row.version!r}"
                f" was trained from {row.parent!r}, and would lose what {live.version!r} has learned since. Retrain."
            )

    def activate(self, version: str, job: RetrainJob | None = None) -> ModelVersion:
        """See `ModelRegistry`."""
        with self._lock:
            self.known(version)
            previous = self._holder.live.bundle.version
            if version != previous:
                self._holder.teachable  # noqa: B018 - raises when the settings say which model is live
                self.file_of(version)
                candidate = self._files.copy_archived(version)
                try:
                    self._switch(candidate, lambda: self._note(version, job))
                finally:
                    candidate.unlink(missing_ok=True)
                if job:
                    self._prune(previous)
            return self.known(version)

    def refresh(self) -> None:
        """See `ModelRegistry`."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            current = identity_of(self._files.live)
            if current is None or current == self._identity:
                return
            self._identity = current  # taken before the file is read, so that a later replacement is noticed next time
            self._on_replaced(current)
        finally:
            self._lock.release()

    def file_of(self, version: str) -> Path:
        """See `ModelRegistry`."""
        row = self.known(version)
        if version == self._holder.live.bundle.version:
            return self._files.live
        if row.state == "deleted":  # even if this machine still has the file: others could not follow
            raise NotFound(f"Expected a version whose file is kept; that of {version!r} was deleted.")
        return self._fetch(row)

    def known(self, version: str) -> ModelVersion:
        """See `ModelRegistry`."""
        row = self._store.version(version)
        if row is None:
            raise NotFound(f"Expected a version that GET /models lists; received {version[:80]!r}.")
        return row

    def interrupt(self) -> None:
        """See `ModelRegistry`."""
        self._interrupted.set()

    def _fetch(self, row: ModelVersion) -> Path:
        """Return the archived file of a version, taken from the store if it is not here. Raises `NotFound`."""
        file = self._files.file_of(row.version)
        if not file.exists() or sha256_of(file) != row.sha256:
            file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(file) as part:
                self._store.fetch_model(row, part)
        return file

    def _serve(self, model: Model, identity: tuple[int, int] | None) -> None:
        self._holder.swap(model)
        self._identity, self._serving = identity, model.bundle.version
        logger.info("Version %s is live.", model.bundle.version)

    def _retry(self, write: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Write to the store; while it is locked or does not answer, again, for as long as the patience lasts."""
        deadline, pause = time.monotonic() + self._patience, _FIRST_PAUSE
        while True:
            try:
                write(*args, **kwargs)
            except (StoreUnavailable, sqlite3.OperationalError) as error:
                late = time.monotonic() + pause > deadline
                if late or not _may_pass(error) or self._interrupted.wait(pause):
                    raise
                logger.warning("The store did not accept a change, which is tried again: %s", error)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                return

    def _retry_finish(self, job: RetrainJob) -> None:
        self._retry(self._store.finish_job, job)

    def _note(self, version: str, job: RetrainJob | None) -> None:
        """Keep an activated version as live, with the job that publishes it. A person waits: there is one attempt."""
        if job:
            self._record(job, self._store.finish_job)
        else:
            self._store.set_live(version)

    def _record(self, job: RetrainJob, finish: Callable[[RetrainJob], None]) -> None:
        """Keep the finished job and its version as live."""
        try:
            finish(job)
        except Exception:  # of any kind, for it may have come after the change was made, as a lost answer does
            if not self._is_recorded(job):
                raise

    def _is_recorded(self, job: RetrainJob) -> bool:
        try:
            row = self._store.job(job.job_id)
        except Exception:  # the store still fails; the caller raises the first failure
            return False
        return row is not None and row.state == job.state

    def _discard(self, row: ModelVersion) -> None:
        """Mark a candidate that did not become live as deleted."""
        try:
            self._drop(row)
        except Exception:  # the store may be why it did not; the caller raises that failure
            logger.warning("Version %s was not published, but stays listed as a candidate.", row.version)

    def _drop(self, row: ModelVersion) -> None:
        """Delete a version that was never live. Its file goes first: a row without one is found again."""
        self._files.file_of(row.version).unlink(missing_ok=True)
        self._store.drop_model(row)

    def _remove_deleted(self, rows: list[ModelVersion]) -> None:
        """Remove this machine's files of deleted versions, whichever machine has deleted them."""
        for row in rows:
            if row.state == "deleted":
                self._files.file_of(row.version).unlink(missing_ok=True)

    def _prune(self, previous: str) -> None:
        """Delete the oldest archived files, but not that of the version that was live until now."""
        try:
            archived = [row for row in self._store.versions() if row.state == "archived" and row.version != previous]
            for row in archived[self._keep.versions - 1 :]:
                if self._store.drop_model(row):
                    self._files.file_of(row.version).unlink(missing_ok=True)
        except Exception:  # the new version is live all the same; the next publication prunes what is left
            logger.exception("Old versions could not be deleted.")


def _may_pass(error: Exception) -> bool:
    return isinstance(error, StoreUnavailable) or "locked" in str(error)


def _expired(rows: list[ModelVersion], keep: KeepPolicy) -> list[ModelVersion]:
    """Those of the versions, newest first, that were never live and are not kept."""
    rejected = [row for row in rows if row.state == "rejected"]
    oldest = to_iso(datetime.now(UTC) - timedelta(hours=keep.rejected_hours))
    # A candidate without metrics is a plain Keras model, which another machine serves.
    left = [row for row in rows if row.state == "candidate" and row.metrics]
    return [*left, *(row for n, row in enumerate(rejected) if n >= keep.rejected or row.created_at < oldest)]
