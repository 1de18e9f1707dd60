"""Which version is live: the protocol of a model registry, and how it describes model files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from shoe_classifier.ml.live_model import ModelInfo
from shoe_classifier.types import VERSIONS_FOLDER, ModelVersion, RetrainJob


@dataclass(frozen=True)
class KeepPolicy:
    """Which model files are kept beside the live one.

    Attributes:
        versions: number of earlier versions.
        rejected: most rejected candidates.
        rejected_hours: how long these are kept.
    """

    versions: int = 5
    rejected: int = 3
    rejected_hours: float = 72.0


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

    def keep_rejected(self, candidate: Path, row: ModelVersion, learned: Mapping[str, str]) -> None:
        """Keep a candidate that the gate rejected, so that it can be activated all the same.

        Args and errors are those of `publish`. When it raises, the candidate is not kept.
        """

    def remove_unpublished(self) -> None:
        """Delete rejected candidates that are too old or too many, and what a killed process or others have left here.

        A failure is logged, and what is left is deleted the next time.
        """

    def check_publishable(self, row: ModelVersion) -> None:
        """Raise `Superseded` unless a rejected candidate knows what the live version has learned.

        It does when it was trained from the live version, or when the live version is an ancestor of that one.
        """

    def activate(self, version: str, job: RetrainJob | None = None) -> ModelVersion:
        """Make a kept version live.

        Args:
            job: the finished job that publishes a rejected candidate; it is kept in the same step.

        Raises:
            NotFound: there is no such version, or its file is not kept.
            InvalidModel, OSError, StoreUnavailable: as `publish`. The previous version is still live.
        """

    def was_published(self, job: RetrainJob) -> bool:
        """Whether a job whose process was killed while it published had already made its version live."""

    def file_of(self, version: str) -> Path:
        """Return the file of a version, on this machine. Raises `NotFound`."""

    def known(self, version: str) -> ModelVersion:
        """Return the row of a version. Raises `NotFound`."""

    def interrupt(self) -> None:
        """Give up waiting for a store that does not answer: the service is shutting down."""


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
        file_path=f"{VERSIONS_FOLDER}/{bundle.version}.h5",
        created_at=bundle.created_at,
    )


def identity_of(path: Path) -> tuple[int, int] | None:
    """Return what changes when a file is replaced, and stays when it is renamed; None when there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns
