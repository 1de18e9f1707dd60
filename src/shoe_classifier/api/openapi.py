"""What Swagger shows of forms and errors."""

from typing import Any

from shoe_classifier.api.schemas import ErrorBody, LabelBody
from shoe_classifier.types import ACCEPTED_FORMATS

_FILE = {"type": "string", "format": "binary"}
_MEANINGS = {
    401: "The key is missing or wrong.",
    403: "Without an API_KEY, only programs on the same machine may write.",
    404: "There is no such thing.",
    408: "The client fell silent while sending.",
    409: "Not now.",
    413: "Too many bytes, pixels or files.",
    415: f"Not a {ACCEPTED_FORMATS} picture.",
    422: "The request is wrong; the detail says what was expected and what came.",
    503: "Not ready, or too busy; try again.",
    507: "The disk is full.",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Descriptions of the errors that an endpoint may answer with."""
    return {status: {"model": ErrorBody, "description": _MEANINGS[status]} for status in statuses}


def _form(required: list[str], **properties: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": required}
    return {"requestBody": {"required": bool(required), "content": {"multipart/form-data": {"schema": schema}}}}


PREDICT_FORM = _form(["file"], file={**_FILE, "description": f"A {ACCEPTED_FORMATS} picture."})
BATCH_FORM = _form(
    ["files"], files={"type": "array", "items": _FILE, "description": "Pictures, or one ZIP that holds pictures."}
)
UPLOAD_FORM = _form(
    ["file"],
    file={**_FILE, "description": "A ZIP of labelled folders, or one picture together with its label."},
    label={"type": "string", "description": "The label of a single picture; a ZIP has its labels in its folders."},
)
LABEL_BODY = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": LabelBody.model_json_schema()}}}
}
RETRAIN_FORM = _form(
    [],
    file={**_FILE, "description": "Optional: a ZIP of labelled folders to take in first."},
    mode={"type": "string", "enum": ["auto", "quick", "full"], "default": "auto"},
    max_seconds={"type": "integer", "minimum": 1, "description": "Longest training time."},
    force={"type": "boolean", "default": False, "description": "Publish even a model that is worse."},
)
