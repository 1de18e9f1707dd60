"""The JSON answers, as `/docs` shows them. Rows take their fields from the dataclasses in `types`."""

from dataclasses import fields
from typing import Any, Literal, get_type_hints

from pydantic import BaseModel, ConfigDict, create_model

from shoe_classifier.types import (
    Decision,
    MinuteMetrics,
    ModelVersion,
    PredictionRecord,
    RetrainJob,
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
_MINUTE = {
    "timestamp": "2026-11-22T03:51:00.000Z",
    "request_count": 412,
    "avg_response_time": 2.173,
    "model_uptime_status": "ready",
}

JobBody = _row("JobBody", RetrainJob, JOB)
ModelBody = _row("ModelBody", ModelVersion, _VERSION)
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


class BatchBody(BaseModel):
    """Per picture its name, and the fields of a prediction or an `error`."""

    results: list[dict[str, Any]]

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


class LabelBody(BaseModel):
    label: str

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"label": "Sandal"}})


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


class StatusBody(BaseModel):
    """`model` is None until one is live; `training_data` has None while the store does not answer."""

    status: Literal["ready", "loading", "failing"]
    detail: str
    version: str
    uptime_seconds: float
    model: dict[str, Any] | None
    store: dict[str, Any]
    training_data: dict[str, Any]
    retrain: JobBody | None  # type: ignore[valid-type] # a model that is made at run time
    requests: dict[str, float]
    limits: dict[str, int]


class HealthBody(BaseModel):
    status: str
