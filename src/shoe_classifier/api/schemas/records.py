"""Rows of the records, and changes of many."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shoe_classifier.api.schemas.predict import PREDICTION, SHA256
from shoe_classifier.api.schemas.row import row
from shoe_classifier.types import MinuteMetrics, PredictionRecord, TrainingPicture

_IMAGE_PATH = f"images/8c/{SHA256}.jpg"
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
TRAINING_ROW = {
    "id": "019a8f6f-88bb-7c32-9b4f-2d3e4f5a6b7c",
    "image_path": _IMAGE_PATH,
    "sha256": SHA256,
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
PredictionRow = row("PredictionRow", PredictionRecord, _PREDICTION_ROW, file_url=str | None)
TrainingRow = row("TrainingRow", TrainingPicture, TRAINING_ROW, file_url=str)
MinuteBody = row("MinuteBody", MinuteMetrics, _MINUTE)


class BulkBody(BaseModel):
    """A new `label` for all of these training pictures, or `delete`."""

    ids: Annotated[list[str], Field(min_length=1, max_length=10_000)]
    label: str | None = None
    delete: bool = False

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"ids": [TRAINING_ROW["id"]], "label": "Sandal"}}
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
