"""Predictions."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from shoe_classifier.api.schemas.error import ErrorBody
from shoe_classifier.types import Decision

SHA256 = "8c6f0d5bb1a84f8b8f0f4e8f5f2b0f1b6a1f7b1c7a3d5e9f2b4c6d8e0f1a3b5c"
PREDICTION: dict[str, Any] = {
    "prediction_id": "019a8f6e-2c1b-7d10-9a55-3f1f0c4d8e21",
    "predicted_class": "Boot",
    "confidence": 0.9921,
    "decision": "accepted",
    "probabilities": {"Boot": 0.9921, "Sandal": 0.0012, "Shoe": 0.0067},
    "model_version": "20261122-034512-9f3a",
    "response_time_ms": 1.42,
    "file_url": f"/files/{SHA256}",
}


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
