"""`GET /training-data/export`: all training pictures, to keep or to take elsewhere."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from shoe_classifier import errors
from shoe_classifier.api.auth import MayRead
from shoe_classifier.api.dependencies import ExportDep
from shoe_classifier.api.openapi import READING, STORED, error_responses, file_response
from shoe_classifier.services.export import ExportFormat
from shoe_classifier.types import utc_now

router = APIRouter(tags=["records"], dependencies=[MayRead])

_FILES: dict[ExportFormat, tuple[str, str]] = {
    "zip": ("application/zip", ".zip"),
    "csv": ("text/csv; charset=utf-8", ".csv"),
    "coco": ("application/json", ".coco.json"),
}


@router.get(
    "/training-data/export",
    summary="All training pictures, as POST /upload takes them back",
    response_class=StreamingResponse,
    responses={
        **file_response(
            "A ZIP of labelled folders with a manifest; the manifest alone; or a COCO file.",
            *(media_type.partition(";")[0] for media_type, _ in _FILES.values()),
        ),
        **error_responses(*READING, errors.InvalidRequest, *STORED),
    },
)
def export_training_data(
    export: ExportDep,
    format: Annotated[ExportFormat, Query(description="csv and coco name the pictures of the ZIP.")] = "zip",
) -> StreamingResponse:
    media_type, extension = _FILES[format]
    name = f"training-data-{utc_now()[:10]}{extension}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return StreamingResponse(export.open(format), media_type=media_type, headers=headers)
