"""`POST /upload`, also under the names that older clients use."""

from pathlib import Path
from typing import Any

import anyio.to_thread
from fastapi import APIRouter, Request

from shoe_classifier import errors
from shoe_classifier.api.auth import MayWrite
from shoe_classifier.api.dependencies import BodiesDep, DataQualityDep, IngestionDep, ModelDep, SettingsDep
from shoe_classifier.api.form import Form
from shoe_classifier.api.multipart import private_folder, read_form
from shoe_classifier.api.openapi import KEEPING, STORED, UPLOAD_FORM, UPLOADING, WRITING, error_responses
from shoe_classifier.api.schemas.upload import UploadBody
from shoe_classifier.services.ingestion import IngestionService, UploadReport

router = APIRouter(tags=["teach"], dependencies=[MayWrite])

_INGESTING = (
    errors.InvalidZip,
    errors.InvalidImage,
    errors.TooSmall,
    errors.UnsupportedImage,
    errors.InvalidLabel,
    errors.NothingAccepted,
)


@router.post(
    "/upload",
    summary="Upload pictures to learn from",
    status_code=201,
    response_model=UploadBody,
    responses=error_responses(*WRITING, *UPLOADING, *_INGESTING, errors.NotReady, *STORED, *KEEPING),
    openapi_extra=UPLOAD_FORM,
)
@router.post("/upload-zip", status_code=201, include_in_schema=False)
@router.post("/upload-data", status_code=201, include_in_schema=False)
async def upload_pictures(
    request: Request,
    settings: SettingsDep,
    bodies: BodiesDep,
    model: ModelDep,
    ingestion: IngestionDep,
    quality: DataQualityDep,
) -> dict[str, Any]:
    known_labels = model.labels
    async with (
        private_folder(settings.temp_uploads_dir) as folder,
        read_form(request, settings.max_zip_bytes, bodies, folder) as form,
    ):
        report = await anyio.to_thread.run_sync(_ingest, ingestion, form, folder, known_labels)
    quality.check_soon()
    return report.as_json()


def _ingest(ingestion: IngestionService, form: Form, folder: Path, known_labels: tuple[str, ...]) -> UploadReport:
    file = form.file("file", "zip_file")
    return ingestion.ingest(file.on_disk(folder), file.name, form.fields.get("label"), folder, known_labels)
