"""What the service writes down: the rows, and what a store must be able to do with them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol

import uuid_utils

JobState = Literal["queued", "running", "published", "rejected", "failed", "cancelled"]
CANCELLING = "cancelling"  # the phase of a job whose cancellation another process asked for
FINISHED: tuple[JobState, ...] = ("published", "rejected", "failed", "cancelled")


def new_id() -> str:
    """A UUIDv7: sorts by time, also within one millisecond of this process."""
    return str(uuid_utils.uuid7())


def now() -> str:
    """The time in UTC, ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class Prediction:
    """A row of `Predict`. `response_time` in milliseconds; `image_path` is None when the picture was not kept."""

    id: str
    image_path: str | None
    predicted_class: str
    confidence_score: float
    decision: str
    probabilities: dict[str, float]
    model_version: str
    response_time: float
    created_at: str


@dataclass(frozen=True)
class TrainingPicture:
    """A row of `Training_Data`."""

    id: str
    image_path: str
    sha256: str
    shoe_class: str
    is_processed: bool
    split: str
    source: str
    upload_id: str
    uploaded_at: str


@dataclass(frozen=True)
class ModelVersion:
    """A row of `Model_Versions`. `state` is `live`, `archived`, or `deleted` when its file was pruned."""

    version: str
    sha256: str
    labels: list[str]
    metrics: dict[str, Any] | None
    parent: str | None
    state: str
    file_path: str
    created_at: str


@dataclass
class RetrainJob:
    """A row of `Retrain_Jobs`, changed by the thread that works on it and read by others."""

    job_id: str = field(default_factory=new_id)
    state: JobState = "queued"
    mode: str = "auto"
    phase: str = "queued"
    progress: float = 0.0
    message: str = "Waiting to start."
    samples: int = 0
    labels: list[str] = field(default_factory=list)
    metrics: dict[str, Any] | None = None
    baseline: dict[str, Any] | None = None
    model_version: str | None = None
    error: str | None = None
    force: bool = False
    seconds_left: float | None = None
    created_at: str = field(default_factory=now)
    started_at: str | None = None
    finished_at: str | None = None

    @property
    def finished(self) -> bool:
        return self.state in FINISHED


@dataclass(frozen=True)
class Minute:
    """A row of `System_Metrics`: one minute with traffic. `avg_response_time` in milliseconds."""

    timestamp: str
    request_count: int
    avg_response_time: float
    model_uptime_status: str


class Store(Protocol):
    """Rows and pictures. All methods block and may be called from any thread."""

    kind: str

    def save_picture(self, sha256: str, extension: str, data: bytes | Path) -> str:
        """Keep a picture under its hash, once, from memory or by moving a file; returns its `image_path`."""

    def picture_file(self, image_path: str) -> Path:
        """The picture as a local file; raises `NotFound`."""

    def find_picture(self, sha256: str) -> Path:
        """The picture with this hash as a local file; raises `NotFound`."""

    def add_prediction(self, row: Prediction) -> None: ...

    def predictions(self, limit: int, before: str | None) -> list[Prediction]: ...

    def add_training(self, rows: Sequence[TrainingPicture]) -> set[str]:
        """Keep rows durably, with the pictures saved before. Returns the ids of those that were new by their hash."""

    def training_data(self, limit: int, before: str | None) -> list[TrainingPicture]: ...

    def labels_of(self, hashes: Iterable[str]) -> dict[str, str]:
        """The labels of those hashes that are known."""

    def training_labels(self) -> dict[str, int]:
        """The number of training pictures of each label."""

    def unprocessed(self) -> list[TrainingPicture]: ...

    def processed(self) -> list[TrainingPicture]: ...

    def count_unprocessed(self) -> int: ...

    def mark_processed(self, ids: Sequence[str], job: RetrainJob) -> None:
        """Mark rows as learnt and keep the finished job, both or neither."""

    def save_version(self, row: ModelVersion) -> None: ...

    def versions(self) -> list[ModelVersion]: ...

    def version(self, version: str) -> ModelVersion | None: ...

    def version_with(self, sha256: str) -> ModelVersion | None: ...

    def set_live(self, version: str) -> None:
        """Mark one version `live`; the one that was becomes `archived`."""

    def save_job(self, job: RetrainJob) -> None: ...

    def report_job(self, job: RetrainJob) -> bool:
        """Keep the progress of a running job; False when its cancellation was asked for, and nothing was kept."""

    def request_cancel(self, job_id: str) -> None:
        """Ask whoever runs a job, perhaps another process, to cancel it."""

    def jobs(self, limit: int, before: str | None) -> list[RetrainJob]: ...

    def job(self, job_id: str) -> RetrainJob | None: ...

    def fail_unfinished_jobs(self, error: str) -> None: ...

    def add_minute(self, row: Minute) -> None: ...

    def close(self) -> None: ...
