"""The state of the service."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from shoe_classifier import __version__
from shoe_classifier.api.schemas.models import ShadowBody
from shoe_classifier.api.schemas.predict import PREDICTION
from shoe_classifier.api.schemas.retrain import JOB, METRICS, JobBody

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


class HealthBody(BaseModel):
    status: str

    model_config = ConfigDict(json_schema_extra={"example": {"status": "ready"}})
