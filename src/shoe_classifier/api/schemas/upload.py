"""What became of an upload."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


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
