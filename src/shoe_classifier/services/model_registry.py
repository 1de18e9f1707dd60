"""Which version is live: the protocol of a model registry, and what both kinds of registry do alike."""

import logging
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ParamSpec, Protocol

from shoe_classifier.errors import NotFound, StoreUnavailable
from shoe_classifier.files import replacing, sha256_of
from shoe_classifier.ml.live_model import LiveModelHolder, Model, ModelInfo
from shoe_classifier.storage.model_files import ModelFiles
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import ModelVersion, RetrainJob

logger = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds between two attempts to write to a store; doubled each time
P = ParamSpec("P")


class ModelRegistry(Protocol):
    """Joins the model files, their rows in the store, and the model that serves."""

    def restore(self) -> None:
        """Make a model serve when the service starts.

        Raises:
            StoreUnavailable: a shared store does not answer, and the live file is not known to be its live version.
            InvalidModel, NotFound: the live version of a shared store has no file that loads.
        """

    def follow(self) -> None:
        """Serve the version that is live in a shared store. Raises as `restore` does."""

    def refresh(self) -> None:
        """Serve the live file if another process has replaced it; a file that does not load changes nothing."""

    def publish(self, candidate: Path, row: ModelVersion, job: RetrainJob, learned: Mapping[str, str]) -> None:
        """Make a candidate live, and keep the job that trained it as finished.

        When it raises, the previous version is still live, and the job is not kept.

        Args:
            candidate: the model file, in the folder of the live one.
            row: describes it.
            job: the finished job, with the state `published`.
            learned: the ids of the training rows that it learned, with their labels.

        Raises:
            InvalidModel: the candidate does not load or does not predict.
            StoreUnavailable, sqlite3.OperationalError: the store did not take it in the time allowed.
            RetrainRunning: another machine considers the job lost.
            OSError: the files could not be replaced.
        """

    def activate(self, version: str) -> ModelVersion:
        """Make a kept version live again. Raises `NotFound`: there is no such version, or its file is not kept."""

    def was_published(self, job: RetrainJob) -> bool:
        """Whether a job whose process was killed while it published had already made its version live."""

    def file_of(self, version: str) -> Path:
        """Return the file of a version, on this machine. Raises `NotFound`."""

    def known(self, version: str) -> ModelVersion:
        """Return the row of a version. Raises `NotFound`."""

    def interrupt(self) -> None:
        """Give up waiting for a store that does not answer: the service is shutting down."""


class RegistryBase(ABC):
    """What local and shared registries have in common. They differ in what is changed first, the files or the store.

    Args:
        keep_versions: number of earlier versions whose files are kept.
        patience_seconds: how long a publication waits for a store that is locked or does not answer.
    """

    def __init__(
        self, files: ModelFiles, store: Store, holder: LiveModelHolder, keep_versions: int, patience_seconds: float
    ):
        self._files = files
        self._store = store
        self._holder = holder
        self._keep = keep_versions
        self._patience = patience_seconds
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
                self._switch(candidate, lambda: self._record(job))
            except StoreUnavailable:  # a shared store may still carry out what it has not answered
                raise
            except BaseException:  # whatever it was, the candidate must not stay listed; it is raised again
                self._discard(row)
                raise
            self._prune(previous)

    def activate(self, version: str) -> ModelVersion:
        """See `ModelRegistry`."""
        with self._lock:
            self.known(version)
            if version != self._holder.live.bundle.version:
                self._holder.teachable  # noqa: B018 - raises when the settings say which model is live
                self.file_of(version)
                candidate = self._files.copy_archived(version)
                try:
                    self._switch(candidate, lambda: self._store.set_live(version))
                finally:
                    candidate.unlink(missing_ok=True)
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

    def _record(self, job: RetrainJob) -> None:
        """Keep the finished job and its version as live."""
        try:
            self._retry(self._store.finish_job, job)
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
            self._store.drop_model(row)
        except Exception:  # the store may be why it did not; the caller raises that failure
            logger.warning("Version %s was not published, but stays listed as a candidate.", row.version)

    def _prune(self, previous: str) -> None:
        """Delete the oldest archived files, but not that of the version that was live until now."""
        try:
            archived = [row for row in self._store.versions() if row.state == "archived" and row.version != previous]
            for row in archived[self._keep - 1 :]:
                if self._store.drop_model(row):
                    self._files.file_of(row.version).unlink(missing_ok=True)
        except Exception:  # the new version is live all the same; the next publication prunes what is left
            logger.exception("Old versions could not be deleted.")


def version_row(bundle: ModelInfo, sha256: str, state: str) -> ModelVersion:
    """Describe a model file.

    Args:
        sha256: of the file, hexadecimal.
        state: see `ModelVersion`.
    """
    return ModelVersion(
        version=bundle.version,
        sha256=sha256,
        labels=list(bundle.labels),
        metrics=bundle.metrics,
        parent=bundle.parent,
        state=state,
        file_path=f"versions/{bundle.version}.h5",
        created_at=bundle.created_at,
    )


def identity_of(path: Path) -> tuple[int, int] | None:
    """Return what changes when a file is replaced, and stays when it is renamed; None when there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _may_pass(error: Exception) -> bool:
    return isinstance(error, StoreUnavailable) or "locked" in str(error)
