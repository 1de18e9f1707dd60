"""`/predictions`, `/training-data` and `/files`: what was written down."""

from dataclasses import asdict
from pathlib import PurePath
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Path, Response
from fastapi.responses import FileResponse

from shoe_classifier.dependencies import Before, Limit, Services
from shoe_classifier.images.preprocessing import EXTENSIONS, MEDIA_TYPES
from shoe_classifier.openapi import errors
from shoe_classifier.routes.pages import next_page
from shoe_classifier.schemas import PredictionRow, TrainingRow

router = APIRouter(tags=["records"])

_TYPES = {extension: MEDIA_TYPES[kind] for kind, extension in EXTENSIONS.items()}


@router.get(
    "/predictions", summary="Predictions, newest first", response_model=list[PredictionRow], responses=errors(422)
)
async def predictions(
    response: Response, service: Services, limit: Limit = 50, before: Before = None
) -> list[dict[str, Any]]:
    rows = await anyio.to_thread.run_sync(service.store.predictions, limit, before)
    next_page(response, "/predictions", limit, [row.id for row in rows])
    return [{**asdict(row), "file_url": _url(row.image_path)} for row in rows]


@router.get(
    "/training-data", summary="Training pictures, newest first", response_model=list[TrainingRow], responses=errors(422)
)
async def training_data(
    response: Response, service: Services, limit: Limit = 50, before: Before = None
) -> list[dict[str, Any]]:
    rows = await anyio.to_thread.run_sync(service.store.training_data, limit, before)
    next_page(response, "/training-data", limit, [row.id for row in rows])
    return [{**asdict(row), "file_url": _url(row.image_path)} for row in rows]


@router.get("/files/{sha256}", summary="A stored picture", response_class=FileResponse, responses=errors(404, 422))
async def file(sha256: Annotated[str, Path(pattern="^[0-9a-f]{64}$")], service: Services) -> FileResponse:
    path = await anyio.to_thread.run_sync(service.store.find_picture, sha256)
    headers = {"Cache-Control": "private, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
    return FileResponse(path, media_type=_TYPES.get(path.suffix), headers=headers)


def _url(image_path: str | None) -> str | None:
    return f"/files/{PurePath(image_path).stem}" if image_path else None
