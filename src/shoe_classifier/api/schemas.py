"""The JSON answers, as `/docs` shows them. Rows take their fields from the dataclasses in `types`."""

from dataclasses import fields
from typing import Annotated, Any, Literal, Self, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, computed_field, create_model, model_validator

from shoe_classifier import __version__
from shoe_classifier.ml.exports.parity import ParityReport
from shoe_classifier.services.labels import LabelSummary
from shoe_classifier.types import (
    AuditEntry,
    Decision,
    IssueKind,
    LabelChange,
    MinuteMetrics,
    ModelVersion,
    PredictionRecord,
    RetrainJob,
    ReviewKind,
    TrainingPicture,
)


def _row(name: str, source: type, example: dict[str, Any], **more: Any) -> Any:
    """A model with the fields of a dataclass, all of them required, and with `more` fields of these types."""
    hints = get_type_hints(source)
    columns: dict[str, Any] = {column.name: (hints[column.name], ...) for column in fields(source)}
    columns |= {field: (kind, ...) for field, kind in more.items()}
    config = ConfigDict(json_schema_extra={"example": example})
    return create_model(name, __config__=config, __doc__=source.__doc__, **columns)


_SHA256 = "8c6f0d5bb1a84f8b8f0f4e8f5f2b0f1b6a1f7b1c7a3d5e9f2b4c6d8e0f1a3b5c"
_IMAGE_PATH = f"images/8c/{_SHA256}.jpg"
PREDICTION: dict[str, Any] = {
    "prediction_id": "019a8f6e-2c1b-7d10-9a55-3f1f0c4d8e21",
    "predicted_class": "Boot",
    "confidence": 0.9921,
    "decision": "accepted",
    "probabilities": {"Boot": 0.9921, "Sandal": 0.0012, "Shoe": 0.0067},
    "model_version": "20261122-034512-9f3a",
    "response_time_ms": 1.42,
    "file_url": f"/files/{_SHA256}",
}
METRICS: dict[str, Any] = {
    "accuracy": 0.985,
    "macro_f1": 0.985,
    "ece": 0.006,
    "samples": 900,
    "labels": ["Boot", "Sandal", "Shoe"],
    "per_class": {"Boot": {"precision": 0.99, "recall": 0.98, "f1": 0.985, "support": 300}},
    "confusion_matrix": [[294, 1, 5], [2, 296, 2], [4, 1, 295]],
}
JOB: dict[str, Any] = {
    "job_id": "019a8f70-11aa-7c3e-8f00-5d2f4f8f3f10",
    "state": "published",
    "mode": "quick",
    "phase": "published",
    "progress": 1.0,
    "message": "Accuracy 0.978 on 936 held-out pictures; before, 0.985 on 900.",
    "epoch": None,
    "epochs": None,
    "loss": None,
    "samples": 240,
    "labels": ["Boot", "Sandal", "Shoe", "hat"],
    "metrics": METRICS,
    "baseline": METRICS,
    "model_version": "20261122-040103-07bc",
    "error": None,
    "force": False,
    "seconds_left": 0.0,
    "created_at": "2026-11-22T04:01:00.120Z",
    "started_at": "2026-11-22T04:01:00.121Z",
    "finished_at": "2026-11-22T04:01:03.480Z",
}
_VERSION = {
    "version": "20261122-040103-07bc",
    "sha256": "b1946ac92492d2347c6235b4d2611184b1946ac92492d2347c6235b4d2611184",
    "labels": ["Boot", "Sandal", "Shoe", "hat"],
    "metrics": METRICS,
    "parent": "20261122-034512-9f3a",
    "state": "live",
    "file_path": "versions/20261122-040103-07bc.h5",
    "created_at": "2026-11-22T04:01:03.300Z",
}
_PREDICTION_ROW = {
    "id": PREDICTION["prediction_id"],
    "image_path": _IMAGE_PATH,
    "predicted_class": "Boot",
    "confidence_score": 0.9921,
    "decision": "accepted",
    "probabilities": PREDICTION["probabilities"],
    "model_version": PREDICTION["model_version"],
    "response_time": 1.42,
    "created_at": "2026-11-22T03:50:00.120Z",
    "reviewed_label": None,
    "reviewed_at": None,
    "review_kind": None,
    "image_bytes": 48_211,
    "file_url": PREDICTION["file_url"],
}
_TRAINING_ROW = {
    "id": "019a8f6f-88bb-7c32-9b4f-2d3e4f5a6b7c",
    "image_path": _IMAGE_PATH,
    "sha256": _SHA256,
    "shoe_class": "hat",
    "is_processed": False,
    "split": "train",
    "source": "zip",
    "upload_id": "019a8f6f-77aa-7b21-8a3e-1c2d3e4f5a6b",
    "uploaded_at": "2026-11-22T04:00:30.001Z",
    "file_url": PREDICTION["file_url"],
}
_LABEL = {
    "label": "hat",
    "live_label": "hat",
    "pictures": 80,
    "held_out": 12,
    "learnt": 80,
    "built_in": 0,
    "recall": 0.9167,
    "recall_samples": 12,
    "most_confused_with": "skirt",
    "enough": False,
    "expected_gain": 0.014,
    "learning_curve": [[16, 0.81], [32, 0.88], [64, 0.93]],
}
_LABEL_CHANGE = {
    "id": "019a8f72-33cc-7e5a-8b21-7f4a6b0c5d32",
    "label": "Sandal",
    "name": "Shoe",
    "changed_at": "2026-11-22T04:10:00.120Z",
}
_MINUTE = {
    "timestamp": "2026-11-22T03:51:00.000Z",
    "request_count": 412,
    "avg_response_time": 2.173,
    "model_uptime_status": "ready",
}

_AUDIT_ENTRY = {
    "id": "019a8f71-22bb-7d4f-9a10-6e3f5a9b4c21",
    "created_at": "2026-11-22T04:05:00.120Z",
    "action": "DELETE /training-data/{row_id}",
    "target": "/training-data/019a8f6f-88bb-7c32-9b4f-2d3e4f5a6b7c",
    "key_fingerprint": "9f86d081",
    "client_address": "192.0.2.7",
    "status": 204,
    "calls": 1,
}
SHADOW: dict[str, Any] = {
    "version": "20261122-040103-07bc",
    "live_version": "20261122-034512-9f3a",
    "wanted": 200,
    "seen": 200,
    "agreed": 191,
    "started_at": "2026-11-22T05:00:00.120Z",
    "running": False,
    "verdict": {"reviewed": 9, "shadow_right": 8, "live_right": 1, "p_value": 0.0391, "conclusion": "better"},
}

PARITY: dict[str, Any] = {
    "runtime": "LiteRT 2.3.0",
    "stored": 612,
    "drawn": 1000,
    "label_changes": 0,
    "decision_changes": 0,
    "largest_difference": 7.1e-07,
    "mean_difference": 1.9e-07,
    "service_ms": 4.2,
    "export_ms": 4.2,
    "measured_at": "2026-11-22T05:00:00.120Z",
}

ModelBody = _row("ModelBody", ModelVersion, _VERSION)
ParityBody = _row("ParityBody", ParityReport, PARITY)
ActivationBody = _row(
    "ActivationBody",
    ModelVersion,
    {
        **_VERSION,
        "waiting": 300,
        "message": "Of the training pictures, 300 are not in this version; they wait for the next retrain.",
    },
    waiting=int,
    message=str,
)
PredictionRow = _row("PredictionRow", PredictionRecord, _PREDICTION_ROW, file_url=str | None)
TrainingRow = _row("TrainingRow", TrainingPicture, _TRAINING_ROW, file_url=str)
MinuteBody = _row("MinuteBody", MinuteMetrics, _MINUTE)
AuditBody = _row("AuditBody", AuditEntry, _AUDIT_ENTRY)


class JobBody(_row("JobRow", RetrainJob, JOB)):  # type: ignore[misc] # a model that is made at run time
    """A retrain job. `issues_url` lists what is suspect among the pictures of a rejected one."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def issues_url(self) -> str | None:
        rejected = self.state == "rejected"
        return f"/training-data/issues?learnt=false&until={self.started_at}" if rejected else None


class ErrorBody(BaseModel):
    """The form of every error."""

    detail: str
    code: str


class PredictionBody(BaseModel):
    prediction_id: str
    predicted_class: str
    confidence: float
    decision: Decision
    probabilities: dict[str, float]
    model_version: str
    response_time_ms: float
    file_url: str | None

    model_config = ConfigDict(json_schema_extra={"example": PREDICTION})


class NamedPredictionBody(PredictionBody):
    """A prediction, with the name of its file."""

    name: str

    model_config = ConfigDict(json_schema_extra={"example": {"name": "boot.jpg", **PREDICTION}})


class RefusedPictureBody(BaseModel):
    """A file of a batch that was not predicted."""

    name: str
    error: ErrorBody


class BatchBody(BaseModel):
    """Per picture its name, and the fields of a prediction or an `error`."""

    results: list[NamedPredictionBody | RefusedPictureBody]

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "results": [
                    {"name": "boot.jpg", **PREDICTION},
                    {"name": "notes.txt", "error": {"detail": "Expected a JPEG, …", "code": "unsupported_image"}},
                ]
            }
        }
    )


class VerdictBody(BaseModel):
    """McNemar's test on reviewed disagreements. `p_value` is None while there are too few; `conclusion` is about the
    shadow.
    """

    reviewed: int
    shadow_right: int
    live_right: int
    p_value: float | None
    conclusion: Literal["too_few_reviewed", "no_difference", "better", "worse"]


class ShadowBody(BaseModel):
    """A version that answers live pictures silently: `seen` so far of `wanted`, `agreed` with the live version."""

    version: str
    live_version: str
    wanted: int
    seen: int
    agreed: int
    started_at: str
    running: bool
    verdict: VerdictBody

    model_config = ConfigDict(json_schema_extra={"example": SHADOW})


OneModelBody = _row(
    "OneModelBody",
    ModelVersion,
    {**_VERSION, "waiting": 0, "shadow": None},
    waiting=int,
    shadow=ShadowBody | None,
)


class LabelBody(BaseModel):
    label: str

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"label": "Sandal"}})


class BulkBody(BaseModel):
    """A new `label` for all of these training pictures, or `delete`."""

    ids: Annotated[list[str], Field(min_length=1, max_length=10_000)]
    label: str | None = None
    delete: bool = False

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"ids": [_TRAINING_ROW["id"]], "label": "Sandal"}}
    )

    @model_validator(mode="after")
    def _check(self) -> "BulkBody":
        if (self.label is not None) == self.delete:
            raise ValueError("either a label, or delete")
        return self


class BulkAnswer(BaseModel):
    """How many pictures have another label now, and how many are deleted."""

    relabelled: int
    deleted: int

    model_config = ConfigDict(json_schema_extra={"example": {"relabelled": 12, "deleted": 0}})


class NameBody(BaseModel):
    name: str

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"name": "trainer"}})


class LabelAnswer(BaseModel):
    """What became of a label. With `takes_effect` `next_retrain`, the live model still answers with the old one.

    `DELETE /labels/changes/{change_id}` undoes it, until a version has learned it.
    """

    change_id: str
    label: str
    name: str | None
    pictures: int
    merged: bool
    takes_effect: Literal["now", "next_retrain"]
    detail: str

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "change_id": _LABEL_CHANGE["id"],
                "label": "sneaker",
                "name": "trainer",
                "pictures": 80,
                "merged": False,
                "takes_effect": "next_retrain",
                "detail": "'sneaker' is called 'trainer', and so are its 80 training pictures. The live model follows "
                "with the next retrain.",
            }
        }
    )


class UndoneBody(BaseModel):
    """A change of a label that was taken back, and how many training pictures are as before."""

    change_id: str
    label: str
    name: str | None
    pictures: int
    detail: str

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "change_id": _LABEL_CHANGE["id"],
                "label": "Sandal",
                "name": "Shoe",
                "pictures": 80,
                "detail": "'Sandal' is no longer called 'Shoe', and its 80 training pictures are as before.",
            }
        }
    )


LabelChangeBody = _row("LabelChangeBody", LabelChange, _LABEL_CHANGE)
LabelRow = _row("LabelRow", LabelSummary, _LABEL)


class ProposalBody(BaseModel):
    action: Literal["relabel", "delete", "keep"]
    label: str | None


class NeighbourBody(BaseModel):
    id: str
    label: str
    file_url: str


class IssueBody(NeighbourBody):
    """A suspect training picture, with the most similar pictures of its label and of the proposed one."""

    kind: IssueKind
    reason: str
    score: float
    proposal: ProposalBody
    neighbours: list[NeighbourBody]


class IssuesBody(BaseModel):
    """`up_to_date` is false while the training data is still being checked; `counts` are of each kind."""

    up_to_date: bool
    checked_at: str | None
    pictures: int
    counts: dict[IssueKind, int]
    issues: list[IssueBody]

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "up_to_date": True,
                "checked_at": "2026-11-22T04:00:41.500Z",
                "pictures": 240,
                "counts": {"label": 0, "near_duplicate": 1, "low_quality": 0, "outlier": 0},
                "issues": [
                    {
                        "id": _TRAINING_ROW["id"],
                        "label": "hat",
                        "file_url": PREDICTION["file_url"],
                        "kind": "near_duplicate",
                        "reason": "It is nearly the same as a picture of 'skirt'.",
                        "score": 0.97,
                        "proposal": {"action": "relabel", "label": "skirt"},
                        "neighbours": [],
                    }
                ],
            }
        }
    )


class KeepItem(BaseModel):
    id: str
    kind: IssueKind

    model_config = ConfigDict(extra="forbid")


class KeepBody(BaseModel):
    items: Annotated[list[KeepItem], Field(min_length=1, max_length=10_000)]

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"items": [{"id": _TRAINING_ROW["id"], "kind": "label"}]}}
    )


class KeepAnswer(BaseModel):
    kept: int

    model_config = ConfigDict(json_schema_extra={"example": {"kept": 1}})


class AnswerBody(BaseModel):
    """What a person says about one prediction: exactly one of `label`, `none`, `skip` and `undo`."""

    prediction_id: str
    label: str | None = None
    none: bool = False
    skip: bool = False
    undo: bool = False

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.label is not None) + self.none + self.skip + self.undo != 1:
            raise ValueError("expected exactly one of label, none, skip and undo")
        return self


class AnswersBody(BaseModel):
    items: list[AnswerBody] = Field(min_length=1, max_length=500)

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "items": [
                    {"prediction_id": PREDICTION["prediction_id"], "label": "Boot"},
                    {"prediction_id": "019a8f6e-2c1b-7d10-9a55-3f1f0c4d8e22", "none": True},
                    {"prediction_id": "019a8f6e-2c1b-7d10-9a55-3f1f0c4d8e23", "skip": True},
                ]
            }
        },
    )


class AnsweredBody(BaseModel):
    """How many predictions were answered, and how; `labels` counts those that became training data with a label."""

    answered: int
    labels: dict[str, int]
    none: int
    skipped: int
    undone: int

    model_config = ConfigDict(
        json_schema_extra={"example": {"answered": 3, "labels": {"Boot": 1}, "none": 1, "skipped": 1, "undone": 0}}
    )


class ReviewItemBody(BaseModel):
    """A prediction worth a look. One answer can cover the `similar_ids`, too: their pictures look alike."""

    prediction_id: str
    file_url: str
    suggestion: str
    confidence: float
    decision: Decision
    probabilities: dict[str, float]
    kind: ReviewKind
    reason: str
    similar: int
    similar_ids: list[str]
    model_version: str
    created_at: str


_REVIEW_ITEM = {
    "prediction_id": PREDICTION["prediction_id"],
    "file_url": PREDICTION["file_url"],
    "suggestion": "Boot",
    "confidence": 0.51,
    "decision": "uncertain",
    "probabilities": {"Boot": 0.51, "Sandal": 0.02, "Shoe": 0.47},
    "kind": "uncertain",
    "reason": "Boot (51%) or Shoe (47%)?",
    "similar": 1,
    "similar_ids": ["019a8f6e-2c1b-7d10-9a55-3f1f0c4d8e22"],
    "model_version": PREDICTION["model_version"],
    "created_at": "2026-11-22T03:50:00.120Z",
}


class ReviewBody(BaseModel):
    """`counts`: how many predictions of each kind wait."""

    items: list[ReviewItemBody]
    counts: dict[ReviewKind, int]

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "items": [_REVIEW_ITEM],
                "counts": {"uncertain": 14, "unknown": 3, "random": 21, "drifted": 0},
            }
        }
    )


class DriftBody(BaseModel):
    """How well a classifier tells recent pictures from held-out ones: `score` is its area under the ROC curve, about
    0.5 without a difference. `expected` holds 95 % of the scores without one."""

    score: float | None
    expected: tuple[float, float] | None
    raised: bool
    raised_from: float
    pictures: int
    detail: str
    measured_at: str | None


class FiguresBody(BaseModel):
    """Rates of all predictions, 0..1, and the accuracy of the `reviewed` ones that were drawn at random.

    An answer counts as right when it named the label that a person named, or `unknown` for none of the labels.
    """

    predictions: int
    unknown_rate: float | None
    uncertain_rate: float | None
    reviewed: int
    skipped: int
    accuracy: float | None
    accuracy_interval: tuple[float, float]


class DayBody(FiguresBody):
    day: str


class VersionFiguresBody(FiguresBody):
    version: str


_FIGURES: dict[str, Any] = {
    "predictions": 2100,
    "unknown_rate": 0.02143,
    "uncertain_rate": 0.06905,
    "reviewed": 20,
    "skipped": 1,
    "accuracy": 0.95,
    "accuracy_interval": [0.76387, 0.99113],
}


class MonitoringBody(FiguresBody):
    """Of the last `days`; days are in UTC, today included."""

    days: int
    drift: DriftBody
    by_day: list[DayBody]
    by_version: list[VersionFiguresBody]

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "days": 30,
                **_FIGURES,
                "drift": {
                    "score": 0.53,
                    "expected": [0.43, 0.57],
                    "raised": False,
                    "raised_from": 0.75,
                    "pictures": 200,
                    "detail": "Recent pictures are like those that were held out.",
                    "measured_at": "2026-11-22T03:51:00.000Z",
                },
                "by_day": [{"day": "2026-11-22", **_FIGURES}],
                "by_version": [{"version": PREDICTION["model_version"], **_FIGURES}],
            }
        }
    )


class SkippedBody(BaseModel):
    name: str
    reason: Literal["corrupt", "duplicate", "conflict", "too_small", "unsupported", "ignored"]
    detail: str


class UploadBody(BaseModel):
    upload_id: str
    accepted: int
    labels: dict[str, int]
    skipped: list[SkippedBody]

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "upload_id": "019a8f6f-77aa-7b21-8a3e-1c2d3e4f5a6b",
                "accepted": 240,
                "labels": {"hat": 80, "skirt": 80, "t-shirt": 80},
                "skipped": [
                    {"name": "hat/broken.jpg", "reason": "corrupt", "detail": "Expected a complete JPEG picture; …"}
                ],
            }
        }
    )


_STATUS: dict[str, Any] = {
    "status": "ready",
    "detail": "Serving.",
    "version": __version__,
    "uptime_seconds": 86_400.5,
    "model": {
        "version": PREDICTION["model_version"],
        "parent": None,
        "labels": METRICS["labels"],
        "created_at": "2026-11-22T03:45:12.000Z",
        "live_for_seconds": 3600.0,
        "metrics": METRICS,
        "not_offered": [],
    },
    "store": {"kind": "sqlite", "unrecorded_predictions": 0},
    "training_data": {"labels": {"hat": 80}, "unprocessed": 80},
    "retrain": JOB,
    "kept_predictions": {
        "rows": 2100,
        "oldest": "2026-11-22T03:50:00.120Z",
        "pictures": 2050,
        "picture_bytes": 98_000_000,
    },
    "auto_retrain": None,
    "shadow": None,
    "webhooks": None,
    "requests": {"count": 2204, "average_ms": 2.173},
    "limits": {"max_image_bytes": 15_728_640, "max_batch_files": 256},
}


class StatusBody(BaseModel):
    """`model` is None until one is live; `training_data` has None while the store does not answer.

    `kept_predictions` says what was kept of predictions a minute or so ago; None before the first count.
    `auto_retrain` says when the next retrain starts by itself, `shadow` which version answers silently, `webhooks` how
    their delivery goes; None when off.
    """

    status: Literal["ready", "loading", "failing"]
    detail: str
    version: str
    uptime_seconds: float
    model: dict[str, Any] | None
    store: dict[str, Any]
    training_data: dict[str, Any]
    retrain: JobBody | None
    kept_predictions: dict[str, Any] | None
    auto_retrain: dict[str, Any] | None
    shadow: ShadowBody | None
    webhooks: dict[str, Any] | None
    requests: dict[str, float]
    limits: dict[str, int]

    model_config = ConfigDict(json_schema_extra={"example": _STATUS})


class QueuedBody(BaseModel):
    detail: str

    model_config = ConfigDict(json_schema_extra={"example": {"detail": "Queued. …"}})


class HealthBody(BaseModel):
    status: str

    model_config = ConfigDict(json_schema_extra={"example": {"status": "ready"}})
