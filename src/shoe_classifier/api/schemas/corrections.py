"""A label that a person gives to a picture."""

from pydantic import BaseModel, ConfigDict


class LabelBody(BaseModel):
    label: str

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"label": "Sandal"}})
