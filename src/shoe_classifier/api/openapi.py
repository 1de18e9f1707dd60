"""The OpenAPI document: forms, errors and parameters that endpoints read from the request themselves."""

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from shoe_classifier import errors
from shoe_classifier.api.pagination import TOTAL
from shoe_classifier.api.schemas.corrections import LabelBody
from shoe_classifier.api.schemas.data_quality import KeepBody
from shoe_classifier.api.schemas.error import ErrorBody
from shoe_classifier.api.schemas.labels import NameBody
from shoe_classifier.api.schemas.records import BulkBody
from shoe_classifier.api.schemas.review import AnswersBody
from shoe_classifier.settings import Settings
from shoe_classifier.types import ACCEPTED_FORMATS

_FILE = {"type": "string", "format": "binary"}
_REF = "#/components/schemas/{model}"
_JSON_BODIES = (AnswersBody, BulkBody, KeepBody, LabelBody, NameBody)
_TAGS = {
    "predict": "Pictures in, answers out.",
    "teach": "Training pictures, their labels, and retrains.",
    "review": "Predictions worth a look, and what people say about them.",
    "records": "What was recorded.",
    "models": "Versions of the model.",
    "system": "State and figures of the service.",
}
_MEANINGS = {
    401: "The key is missing or wrong.",
    403: "The key does not open this call; or no API_KEY is set, and the call does not come from the same machine.",
    404: "There is no such thing.",
    408: "The client stopped sending.",
    409: "Not possible in the present state.",
    413: "Too many bytes, pixels or files.",
    415: f"Not a {ACCEPTED_FORMATS} picture.",
    422: "The request is wrong; the detail says what was expected and what was received.",
    503: "Not ready, or too busy; try again.",
    501: "This installation lacks a part.",
    507: "The disk is full or read-only.",
}
_DETAILS: dict[type[errors.AppError], str] = {
    errors.ExportDiffers: "Expected an export that names the service's label for all of 2,000 pictures; it names "
    "another one for 1. It is not handed out.",
    errors.ExportFailed: "Expected to make the export; that failed, and the log of the service says why. Try again, on "
    "a host with more memory if it was ended for what it takes.",
    errors.ExportUnavailable: "Expected the packages onnx and onnxruntime, which this format needs; onnx and "
    "onnxruntime are not installed. Install them where the service runs, with `make export-packages` or "
    "`pip install 'shoe-classifier[export]'`.",
    errors.Forbidden: "Expected a direct request from this machine, because no API_KEY is set; received a request from "
    "elsewhere.",
    errors.InvalidImage: "Expected a complete JPEG picture; received one that is cut short.",
    errors.InvalidLabel: "Expected a label of 1 to 64 characters; received 0.",
    errors.InvalidModel: "Expected the file of version '20261122-034512-9f3a' as it was archived; it has changed.",
    errors.InvalidRequest: "Expected a file in the form field 'file'; received no fields.",
    errors.InvalidZip: "Expected a ZIP of labelled folders; received an empty file.",
    errors.NoNewData: "Expected training pictures that were not learned yet; there are none. Upload some first.",
    errors.NotCancellable: "Expected a job that is still training; job 019a8f70-11aa-7c3e-8f00-5d2f4f8f3f10 has ended.",
    errors.NotFound: "Expected the name of a version, as GET /models lists them; received 'none'.",
    errors.NothingAccepted: "Expected at least one new picture, in a ZIP below a folder named by its label; received "
    "2 duplicate.",
    errors.NotOffered: "Expected a model of this service for this; MODEL_PATH names a plain Keras model, which only "
    "predicts.",
    errors.NotReady: "Expected a model that is ready; it is being loaded.",
    errors.Overloaded: "Expected at most 256 predictions in flight; received one more.",
    errors.RequestTimeout: "Expected the rest of the body within 15 s; received nothing.",
    errors.RetrainRunning: "Expected no running retrain; job 019a8f70-11aa-7c3e-8f00-5d2f4f8f3f10 is in phase train.",
    errors.StorageFull: "Expected room on the service's disk; it is full. Nothing was kept.",
    errors.StorageReadOnly: "Expected to write to the service's folders; they are read-only. Nothing was kept. Check "
    "their owner, their mode and their disk.",
    errors.StoreUnavailable: "Expected an answer from Supabase within 10 s; received none.",
    errors.Superseded: "Expected a rejected version that was trained from the live one or its descendants; "
    "'20261122-040103-07bc' was trained from '20261122-034512-9f3a', and would lose what '20261122-050211-1c2d' has "
    "learned since. Retrain.",
    errors.TooFewLabels: "Expected two labels or more to remain; received the request to remove one of 2.",
    errors.TooLarge: "Expected at most 15,728,640 bytes; received 20,000,000.",
    errors.TooSmall: "Expected a picture of at least 16 pixels on each side; received 12 × 12.",
    errors.Unauthorized: "Expected the header X-API-Key; received none.",
    errors.UnsupportedImage: f"Expected a {ACCEPTED_FORMATS} picture; received a PDF.",
}

# What groups of endpoints may raise.
WRITING = READING = PREDICTING = (errors.Unauthorized, errors.Forbidden)
STORED = (errors.StoreUnavailable,)
KEEPING = (errors.StorageFull, errors.StorageReadOnly)
UPLOADING = (errors.InvalidRequest, errors.TooLarge, errors.RequestTimeout, errors.Overloaded)


def error_responses(*kinds: type[errors.AppError]) -> dict[int | str, dict[str, Any]]:
    """The responses of an endpoint that may raise these errors, each with its own example."""
    responses: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        response = responses.setdefault(
            kind.status,
            {
                "model": ErrorBody,
                "description": _MEANINGS[kind.status],
                "content": {"application/json": {"examples": {}}},
            },
        )
        example = {"value": {"detail": _DETAILS[kind], "code": kind.code}}
        response["content"]["application/json"]["examples"][kind.code] = example
    return dict(sorted(responses.items(), key=lambda item: str(item[0])))


def listed(*kinds: type[errors.AppError]) -> dict[int | str, dict[str, Any]]:
    """The responses of a list with pages, which may raise these errors."""
    headers = {
        TOTAL: {"schema": {"type": "integer"}, "description": "How many rows pass the filters, on all pages."},
        "Link": {"schema": {"type": "string"}, "description": "The next page, with `rel=next`, if there may be one."},
    }
    return {200: {"headers": headers}, **error_responses(*kinds)}


def file_response(description: str, *media_types: str) -> dict[int | str, dict[str, Any]]:
    """The response of an endpoint that answers with a file of one of these types."""
    schemas = {kind: {"type": "string"} if kind == "text/html" else _FILE for kind in media_types}
    return {200: {"description": description, "content": {kind: {"schema": it} for kind, it in schemas.items()}}}


def text_response(description: str, media_type: str) -> dict[int | str, dict[str, Any]]:
    """The response of an endpoint that answers with text."""
    return {200: {"description": description, "content": {media_type: {"schema": {"type": "string"}}}}}


def document(app: FastAPI) -> dict[str, Any]:
    """The document of the app, built once.

    FastAPI declares a 422 of its own shape wherever an endpoint has parameters; here all errors have one shape, and
    endpoints declare which they raise.
    """
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        for path in schema["paths"].values():
            for operation in path.values():
                if "HTTPValidationError" in str(operation["responses"].get("422")):
                    del operation["responses"]["422"]
        _leave_open(schema, app.state.service.settings)
        schema["tags"] = [{"name": name, "description": description} for name, description in _TAGS.items()]
        _, bodies = models_json_schema([(shape, "validation") for shape in _JSON_BODIES], ref_template=_REF)
        schema["components"]["schemas"] |= bodies["$defs"]
        for unused in ("HTTPValidationError", "ValidationError"):
            schema["components"]["schemas"].pop(unused, None)
        app.openapi_schema = schema
    return app.openapi_schema


def _leave_open(schema: dict[str, Any], settings: Settings) -> None:
    """Ask for no key where the settings ask for none."""
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            predicting = "predict" in operation["tags"]
            reading = method == "get" and path != "/audit-log"
            if (predicting and settings.open_predict) or (reading and settings.open_reading):
                operation.pop("security", None)


def _body(media_type: str, schema: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
    return {"requestBody": {"required": required, "content": {media_type: {"schema": schema}}}}


def _form(required: Sequence[str], **properties: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": list(required)}
    return _body("multipart/form-data", schema, required=bool(required))


PREDICT_FORM = _form(["file"], file={**_FILE, "description": f"A {ACCEPTED_FORMATS} picture."})
RECORD = {
    "parameters": [
        {
            "name": "record",
            "in": "query",
            "required": False,
            "schema": {"type": "boolean", "default": True},
            "description": "false keeps neither the picture nor its row: for the frames of a camera.",
        }
    ]
}
BATCH_FORM = _form(
    ["files"], files={"type": "array", "items": _FILE, "description": "Pictures, or one ZIP that holds pictures."}
)
UPLOAD_FORM = _form(
    ["file"],
    file={
        **_FILE,
        "description": "A ZIP of labelled folders, or of pictures with a CSV, COCO or Label Studio list; a Teachable "
        "Machine project; an export of this service; or one picture together with its label.",
    },
    label={
        "type": "string",
        "example": "",  # or Swagger UI fills the field with "string", and a label of that name is taught
        "description": "The label of a single picture; a ZIP has its own labels.",
    },
)


def json_body(shape: type[BaseModel]) -> dict[str, Any]:
    """A JSON body that the endpoint reads itself; one of `_JSON_BODIES`."""
    return _body("application/json", {"$ref": _REF.format(model=shape.__name__)})


LABEL_BODY = json_body(LabelBody)
REVIEW_BODY = json_body(AnswersBody)


def retrain_inputs(options: type[BaseModel]) -> dict[str, Any]:
    """The options as query parameters, and a form that may hold a ZIP.

    The options may be fields of the form, too. They are only described, because Swagger UI would send their defaults,
    which override the query.
    """
    properties = options.model_json_schema()["properties"]
    query = [
        {"name": name, "in": "query", "required": False, "schema": schema, "description": schema["description"]}
        for name, schema in properties.items()
    ]
    description = (
        f"Optional: a ZIP of labelled folders to upload first. The form may also hold {', '.join(properties)}."
    )
    return {"parameters": query, **_form([], file={**_FILE, "description": description})}
