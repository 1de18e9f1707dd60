"""Types that several layers share: ids and times, picture formats, rows, features, and the events of a training."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import PurePath
from typing import Any, Literal, get_args

import numpy as np
import uuid_utils

Decision = Literal["accepted", "uncertain", "unknown"]
Split = Literal["train", "holdout"]
ReviewKind = Literal["uncertain", "unknown", "drifted", "shadow", "random"]
QueuedKind = Literal["uncertain", "unknown", "random"]  # of these, the rows themselves say so
RetrainMode = Literal["auto", "quick", "full"]
Ending = Literal["published", "rejected", "failed", "cancelled"]
JobState = Literal["queued", "running", Ending]
Phase = Literal[  # in the order of a job; the phase of a finished job equals its state
    "queued", "collect", "features", "train", "compile", "judge", "publish",
    "cancelling", "published", "rejected", "failed", "cancelled",
]  # fmt: skip
WebhookEvent = Literal["retrain.published", "retrain.rejected", "drift.raised", "upload.accepted", "test"]

IssueKind = Literal["label", "near_duplicate", "low_quality", "outlier"]  # why a training picture is suspect

DECISIONS: tuple[Decision, ...] = get_args(Decision)
ISSUE_KINDS: tuple[IssueKind, ...] = get_args(IssueKind)
REVIEW_KINDS: tuple[ReviewKind, ...] = get_args(ReviewKind)
QUEUED_KINDS: tuple[QueuedKind, ...] = get_args(QueuedKind)
FINISHED: tuple[Ending, ...] = get_args(Ending)
UNPUBLISHED = ("candidate", "rejected")  # states of a version that was never live
NONE_OF_THESE = "none of these"  # label of training pictures that show none of the labels
SKIPPED = ""  # `reviewed_label` of a prediction about which a person would not decide
CANCELLING: Phase = "cancelling"  # a job that another process runs is to be cancelled

EXTENSIONS = {  # of the accepted picture formats
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
MAX_IMAGE_PIXELS = 50_000_000  # unless the settings say otherwise; a 48-megapixel phone photo passes


def new_id() -> str:
    """Return a new UUIDv7. Ids sort by time, within one process even those of the same millisecond."""
    return str(uuid_utils.uuid7())


def utc_now() -> str:
    """Return the current time in the format of all rows (see `to_iso`)."""
    return to_iso(datetime.now(UTC))


def to_iso(time: datetime) -> str:
    """Format a time with a time zone as ISO 8601 in UTC, with milliseconds and a `Z`: the format of all rows."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def first_id(time: datetime, shift: timedelta = timedelta()) -> str:
    """Return the smallest id that `new_id` could make at a time, moved by a shift: those made earlier are smaller."""
    seconds = time.timestamp() + shift.total_seconds()  # not `time + shift`, which may lie before the year 1
    digits = f"{max(0, int(seconds * 1000)):012x}"
    return f"{digits[:8]}-{digits[8:]}-7000-8000-000000000000"


def picture_path(sha256: str, extension: str) -> str:
    """Return the path of a picture, relative to the folder of the records or the bucket.

    Args:
        sha256: of the picture's file, hexadecimal; the same picture is thereby stored once.
        extension: one of `EXTENSIONS`, with its dot.
    """
    return f"images/{sha256[:2]}/{sha256}{extension}"


def picture_url(image_path: str) -> str:
    """Return the address, relative to this service, from which it serves a picture."""
    return f"/files/{PurePath(image_path).stem}"


@dataclass(frozen=True)
class PredictionRecord:
    """A row of `Predict`.

    `response_time` is in milliseconds. `image_path`, and the size `image_bytes` of that picture, are None when it was
    not kept. `reviewed_at` is None until a person has said what is in the picture; `reviewed_label` is also None when
    that is none of the labels, and `review_kind` says why the person was asked.
    """

    id: str
    image_path: str | None
    predicted_class: str
    confidence_score: float
    decision: Decision
    probabilities: dict[str, float]
    model_version: str
    response_time: float
    created_at: str
    reviewed_label: str | None = None
    reviewed_at: str | None = None
    review_kind: str | None = None
    image_bytes: int | None = None


@dataclass(frozen=True)
class DecisionCount:
    """How many predictions a version made on a day (`2026-11-25`, in UTC) with one decision."""

    day: str
    model_version: str
    decision: Decision
    count: int


@dataclass(frozen=True)
class TrainingPicture:
    """A row of `Training_Data`. `is_processed`: the live version, or one of its ancestors, has learned it."""

    id: str
    image_path: str
    sha256: str
    shoe_class: str
    is_processed: bool
    split: Split
    source: str
    upload_id: str
    uploaded_at: str


VERSIONS_FOLDER = "versions"  # where model files lie that are not live, on a disk and in a bucket


@dataclass(frozen=True)
class ModelVersion:
    """A row of `Model_Versions`.

    `state` is `candidate` until the version becomes `live`, or `rejected` when the gate rejects it; afterwards it is
    `live` or `archived`, and `deleted` once its file has been pruned. `parent` is the version that it was trained from.
    """

    version: str
    sha256: str
    labels: list[str]
    metrics: dict[str, Any] | None
    parent: str | None
    state: str
    file_path: str
    created_at: str


@dataclass(frozen=True)
class LearnedPicture:
    """A row of `Learned_Pictures`: a version learned a training picture with the label that the picture still has."""

    version: str
    training_id: str


@dataclass(frozen=True)
class DeletedPicture:
    """A row of `Deleted_Pictures`: a training picture that was deleted and that no model may keep."""

    sha256: str
    deleted_at: str


@dataclass(frozen=True)
class LabelChange:
    """A row of `Label_Changes`: the label was renamed or merged into `name`, or, with None, removed.

    A model that was trained before still has the old label: the next retrain takes all changes over, in the order of
    their ids.
    """

    id: str
    label: str
    name: str | None
    changed_at: str


@dataclass(frozen=True)
class ChangedPicture:
    """A row of `Changed_Pictures`: what a change of a label did to a training picture, until it cannot be undone.

    Attributes:
        picture: the row of `Training_Data`, if the label was removed: it is not there any more.
        versions: which versions had learned that.
    """

    change_id: str
    training_id: str
    sha256: str
    picture: dict[str, Any] | None
    versions: list[str]


@dataclass(frozen=True)
class KeptPicture:
    """A row of `Kept_Pictures`: a person looked at a suspect picture, and it is right with this label."""

    training_id: str
    kind: IssueKind
    shoe_class: str
    kept_at: str


@dataclass(frozen=True)
class PredictionFilter:
    """Which predictions to list: those with these values, made from `since` on and before `until`. None means any."""

    label: str | None = None
    decision: Decision | None = None
    version: str | None = None
    since: str | None = None
    until: str | None = None


@dataclass(frozen=True)
class TrainingFilter:
    """Which training pictures to list: those with these values, uploaded from `since` on and before `until`."""

    label: str | None = None
    split: Split | None = None
    learnt: bool | None = None
    since: str | None = None
    until: str | None = None


EVERY_PREDICTION, EVERY_PICTURE = PredictionFilter(), TrainingFilter()


@dataclass(frozen=True)
class LabelCounts:
    """How many training pictures a label has, and how many of them are held out, and are learned."""

    pictures: int
    held_out: int
    learnt: int


@dataclass(frozen=True)
class RetrainJob:
    """A row of `Retrain_Jobs`."""

    job_id: str = field(default_factory=new_id)
    state: JobState = "queued"
    mode: RetrainMode = "auto"
    phase: Phase = "queued"
    progress: float = 0.0
    message: str = "Waiting to start."
    epoch: int | None = None
    epochs: int | None = None
    loss: float | None = None
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
class KeptPredictions:
    """What is kept of predictions.

    Attributes:
        rows: their number.
        oldest: `created_at` of the first; None without any.
        pictures, picture_bytes: those that retention may delete: of no reviewed prediction, and no training picture.
    """

    rows: int
    oldest: str | None
    pictures: int
    picture_bytes: int


@dataclass(frozen=True)
class AuditEntry:
    """A row of `Audit_Log`: a call that writes, or that was refused because it may not.

    Attributes:
        action: method and path of the endpoint, such as `DELETE /training-data/{row_id}`.
        target: the path that was called.
        key_fingerprint: the start of the key's SHA-256; None without a key.
        client_address: of the direct peer, which may be a proxy.
        status: of the answer.
        calls: how many calls the row stands for; more than one for refused calls that came in a flood.
    """

    id: str
    created_at: str
    action: str
    target: str
    key_fingerprint: str | None
    client_address: str
    status: int
    calls: int = 1


@dataclass(frozen=True)
class PictureFeatures:
    """What a retrain needs of a picture.

    Attributes:
        features: pooled features of a backbone, `float16 (d,)`.
        thumbnail: the picture in grey, `uint8 (16, 16)`: tells pictures that look the same.
    """

    features: np.ndarray
    thumbnail: np.ndarray


@dataclass(frozen=True)
class Appearance:
    """Measures of a picture.

    Attributes:
        side: of its shorter edge, in pixels.
        darkest, brightest: grey values, 0-255, that 5 % of the pixels are below, and above.
        blur: 0..1, see `appearance.blur_of`.
    """

    side: int
    darkest: float
    brightest: float
    blur: float


@dataclass(frozen=True)
class TrainingEvent:
    """A progress report from a training.

    Attributes:
        phase: the current step.
        progress: 0..1 within that phase.
        message: the same for people.
        epoch, epochs: the current epoch, counted from 1, and their number, if the phase has epochs.
        loss: the mean training loss since the last event.
    """

    phase: Phase
    progress: float
    message: str
    epoch: int | None = None
    epochs: int | None = None
    loss: float | None = None


Report = Callable[[TrainingEvent], None]  # may raise `errors.Cancelled` to stop the training
Publish = Callable[[WebhookEvent, Mapping[str, Any]], None]  # tells who listens to webhooks; never waits, never raises


def publish_nothing(event: WebhookEvent, data: Mapping[str, Any]) -> None:
    """A `Publish` for when nobody listens."""
