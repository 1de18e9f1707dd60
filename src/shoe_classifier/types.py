"""What several layers speak of: ids and times, picture formats, rows, and the events of a training."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, get_args

import uuid_utils

Decision = Literal["accepted", "uncertain", "unknown"]
Split = Literal["train", "holdout"]
RetrainMode = Literal["auto", "quick", "full"]
JobState = Literal["queued", "running", "published", "rejected", "failed", "cancelled"]
Phase = Literal[  # in the order of a job; one that has ended is in the phase of its state
    "queued", "collect", "features", "train", "compile", "judge", "publish",
    "cancelling", "published", "rejected", "failed", "cancelled",
]  # fmt: skip

DECISIONS: tuple[Decision, ...] = get_args(Decision)
FINISHED: tuple[JobState, ...] = ("published", "rejected", "failed", "cancelled")
CANCELLING: Phase = "cancelling"  # somebody asked for the end of a job that another process runs

EXTENSIONS = {  # of the picture formats that are accepted
    "JPEG": ".jpg",
    "PNG": ".png",
    "WebP": ".webp",
    "HEIC": ".heic",
    "AVIF": ".avif",
    "BMP": ".bmp",
    "GIF": ".gif",
}
MEDIA_TYPES = {kind: f"image/{kind.lower()}" for kind in EXTENSIONS}
ACCEPTED_FORMATS = f"{', '.join([*EXTENSIONS][:-1])} or {[*EXTENSIONS][-1]}"  # for messages and documentation
TYPE_OF_EXTENSION = {extension: MEDIA_TYPES[kind] for kind, extension in EXTENSIONS.items()}


def new_id() -> str:
    """A UUIDv7: sorts by time, also within one millisecond of this process."""
    return str(uuid_utils.uuid7())


def utc_now() -> str:
    """The time in UTC, ISO 8601 with milliseconds, as all rows have it."""
    return to_iso(datetime.now(UTC))


def to_iso(time: datetime) -> str:
    """A time as all rows have it: ISO 8601 in UTC, with milliseconds and a `Z`."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def picture_path(sha256: str, extension: str) -> str:
    """Where a picture is stored, below the folder of the records or in the bucket: once, under its hash."""
    return f"images/{sha256[:2]}/{sha256}{extension}"


@dataclass(frozen=True)
class PredictionRecord:
    """A row of `Predict`. `response_time` in milliseconds; `image_path` is None when the picture was not kept."""

    id: str
    image_path: str | None
    predicted_class: str
    confidence_score: float
    decision: Decision
    probabilities: dict[str, float]
    model_version: str
    response_time: float
    created_at: str


@dataclass(frozen=True)
class TrainingPicture:
    """A row of `Training_Data`. `is_processed`: known to the live version, or to one that it descends from."""

    id: str
    image_path: str
    sha256: str
    shoe_class: str
    is_processed: bool
    split: Split
    source: str
    upload_id: str
    uploaded_at: str


@dataclass(frozen=True)
class ModelVersion:
    """A row of `Model_Versions`.

    `state` is `candidate` until the version has been live, then `live` or `archived`, and `deleted` when its file was
    pruned.
    """

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
    created_at: str = field(default_factory=utc_now)
    started_at: str | None = None
    finished_at: str | None = None

    @property
    def finished(self) -> bool:
        return self.state in FINISHED


@dataclass(frozen=True)
class MinuteMetrics:
    """A row of `System_Metrics`: one minute with traffic. `avg_response_time` in milliseconds."""

    timestamp: str
    request_count: int
    avg_response_time: float
    model_uptime_status: str


@dataclass(frozen=True)
class TrainingEvent:
    """What a training says of its progress.

    Attributes:
        phase: what it is doing.
        progress: 0..1 within that phase.
        message: the same for people.
        epoch, epochs, loss: of a training in epochs; `epoch` counts from 1, `loss` is the mean since the last event.
    """

    phase: Phase
    progress: float
    message: str
    epoch: int | None = None
    epochs: int | None = None
    loss: float | None = None


Report = Callable[[TrainingEvent], None]  # may raise `errors.Cancelled` to stop the training
