"""`POST /upload`, also under the names that older clients know."""

import anyio.to_thread
from fastapi import APIRouter, Request

from shoe_classifier.api.dependencies import MayWrite, Services
from shoe_classifier.api.multipart import private_folder, read_form
from shoe_classifier.api.openapi import UPLOAD_FORM, errors
from shoe_classifier.api.schemas import UploadBody
from shoe_classifier.services.ingestion import UploadReport

router = APIRouter(tags=["teach"], dependencies=[MayWrite])


@router.post(
    "/upload",
    summary="Bring pictures to learn from",
    status_code=201,
    response_model=UploadBody,
    responses=errors(401, 403, 408, 413, 415, 422, 507),
    openapi_extra=UPLOAD_FORM,
)
@router.post("/upload-zip", status_code=201, include_in_schema=False)
@router.post("/upload-data", status_code=201, include_in_schema=False)
async def upload(request: Request, service: Services) -> dict[str, object]:
    settings = service.settings
    known = service.live_model.live.bundle.labels
    async with private_folder(settings.temp_uploads_dir) as folder:
        form = await read_form(request, settings.max_zip_bytes, settings.silence_seconds, folder)
        file = form.file("file", "zip_file")

        def take() -> UploadReport:
            path = file.on_disk(folder)
            return service.ingestion.ingest(path, file.name, form.fields.get("label"), folder, known)

        report = await anyio.to_thread.run_sync(take)
    return report.as_json()
