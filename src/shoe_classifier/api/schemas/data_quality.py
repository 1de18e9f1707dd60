"""Suspect training pictures."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from shoe_classifier.api.schemas.predict import PREDICTION
from shoe_classifier.api.schemas.records import TRAINING_ROW
from shoe_classifier.types import IssueKind


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
                        "id": TRAINING_ROW["id"],
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
    undo: Annotated[bool, Field(description="Take it back: they are shown again.")] = False

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"items": [{"id": TRAINING_ROW["id"], "kind": "label"}]}}
    )


class KeepAnswer(BaseModel):
    kept: int
    undone: int

    model_config = ConfigDict(json_schema_extra={"example": {"kept": 1, "undone": 0}})
