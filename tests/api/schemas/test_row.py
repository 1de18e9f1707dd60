from dataclasses import dataclass

import pytest
from pydantic import ValidationError

from shoe_classifier.api.schemas.row import row


@dataclass(frozen=True)
class Shelf:
    """A place for shoes."""

    label: str
    pairs: int | None = None


ShelfBody = row("ShelfBody", Shelf, {"label": "Boot", "pairs": 2, "url": "/"}, url=str)


def test_a_model_has_the_fields_of_its_dataclass_and_more() -> None:
    schema = ShelfBody.model_json_schema()
    assert schema["required"] == ["label", "pairs", "url"]  # also those that have a default
    assert (schema["title"], schema["description"]) == ("ShelfBody", "A place for shoes.")
    assert schema["example"] == {"label": "Boot", "pairs": 2, "url": "/"}


def test_its_types_are_checked() -> None:
    assert ShelfBody(label="Boot", pairs=None, url="/").pairs is None
    with pytest.raises(ValidationError, match="label"):
        ShelfBody(label=1, pairs=None, url="/")
