"""Answers as clients see them; Swagger shows the examples."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Decision = Literal["accepted", "uncertain", "unknown"]

PREDICTION: dict[str, Any] = {
    "prediction_id": "019a8f6e-2c1b-7d10-9a55-3f1f0c4d8e21",
    "predicted_class": "Boot",
    "confidence": 0.9921,
    "decision": "accepted",
    "probabilities": {"Boot": 0.9921, "Sandal": 0.0012, "Shoe": 0.0067},
    "model_version": "20261122-034512-9f3a",
    "response_time_ms": 1.42,
    "file_url": "/files/8c6f…",
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


class ErrorBody(BaseModel):
    """Every error has this form."""

    detail: str
    code: str

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "detail": "Expected a file in the form field 'file'; received no fields.",
                "code": "invalid_request",
            }
        }
    )


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


class MinuteBody(BaseModel):
    """One minute with traffic; times in milliseconds."""

    timestamp: str
    request_count: int
    avg_response_time: float
    model_uptime_status: str


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


class JobBody(BaseModel):
    job_id: str
    state: Literal["queued", "running", "published", "rejected", "failed", "cancelled"]
    mode: Literal["auto", "quick", "full"]
    phase: str
    progress: float
    message: str
    samples: int
    labels: list[str]
    metrics: dict[str, Any] | None
    baseline: dict[str, Any] | None
    model_version: str | None
    error: str | None
    force: bool
    seconds_left: float | None
    created_at: str
    started_at: str | None
    finished_at: str | None

    model_config = ConfigDict(json_schema_extra={"example": JOB})


class ModelBody(BaseModel):
    version: str
    state: str
    labels: list[str]
    metrics: dict[str, Any] | None
    parent: str | None
    sha256: str
    file_path: str
    created_at: str

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "version": "20261122-040103-07bc",
                "state": "live",
                "labels": ["Boot", "Sandal", "Shoe", "hat"],
                "metrics": METRICS,
                "parent": "20261122-034512-9f3a",
                "sha256": "b1946ac9…",
                "file_path": "versions/20261122-040103-07bc.h5",
                "created_at": "2026-11-22T04:01:03.300Z",
            }
        }
    )


class PredictionRow(BaseModel):
    id: str
    image_path: str | None
    predicted_class: str
    confidence_score: float
    decision: Decision
    probabilities: dict[str, float]
    model_version: str
    response_time: float
    created_at: str
    file_url: str | None


class TrainingRow(BaseModel):
    id: str
    image_path: str
    sha256: str
    shoe_class: str
    is_processed: bool
    split: Literal["train", "holdout"]
    source: str
    upload_id: str
    uploaded_at: str
    file_url: str


class StatusBody(BaseModel):
    status: Literal["ready", "loading", "failing"]
    detail: str
    version: str
    uptime_seconds: float
    model: dict[str, Any] | None
    store: dict[str, Any]
    training_data: dict[str, Any]
    retrain: JobBody | None
    requests: dict[str, float]
    limits: dict[str, int]


class HealthBody(BaseModel):
    status: str
