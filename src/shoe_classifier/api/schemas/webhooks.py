"""A queued event."""

from pydantic import BaseModel, ConfigDict


class QueuedBody(BaseModel):
    detail: str

    model_config = ConfigDict(json_schema_extra={"example": {"detail": "Queued. …"}})
