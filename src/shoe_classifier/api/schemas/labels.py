"""Labels, and changes of them."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from shoe_classifier.api.schemas.row import row
from shoe_classifier.services.label_summaries import LabelSummary
from shoe_classifier.types import LabelChange

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


LabelChangeBody = row("LabelChangeBody", LabelChange, _LABEL_CHANGE)
LabelRow = row("LabelRow", LabelSummary, _LABEL)
