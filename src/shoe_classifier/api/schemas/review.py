"""Predictions worth a look, and what people say about them."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shoe_classifier.api.schemas.predict import PREDICTION
from shoe_classifier.types import Decision, ReviewKind


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
