"""`/predictions`, `/training-data` and `/files`: what was written down."""

import asyncio
import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import PurePath
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Path, Query, Response

from shoe_classifier.api.dependencies import Before, Limit, Service, Services
from shoe_classifier.api.openapi import errors
from shoe_classifier.api.pagination import next_page
from shoe_classifier.api.schemas import MinuteBody, PredictionRow, TrainingRow
from shoe_classifier.ml.preprocessing import thumbnail
from shoe_classifier.types import TYPE_OF_EXTENSION, MinuteMetrics, PredictionRecord, TrainingPicture

router = APIRouter(tags=["records"])


@router.get(
    "/predictions", summary="Predictions, newest first", response_model=list[PredictionRow], responses=errors(422, 503)
)
async def predictions(
    response: Response, service: Services, limit: Limit = 50, before: Before = None
) -> list[dict[str, Any]]:
    rows = await anyio.to_thread.run_sync(service.store.predictions, limit, before)
    next_page(response, "/predictions", limit, [row.id for row in rows])
    return await _with_urls(service, rows)


@router.get(
    "/training-data",
    summary="Training pictures, newest first",
    response_model=list[TrainingRow],
    responses=errors(422, 503),
)
async def training_data(
    response: Response, service: Services, limit: Limit = 50, before: Before = None
) -> list[dict[str, Any]]:
    rows = await anyio.to_thread.run_sync(service.store.training_data, limit, before)
    next_page(response, "/training-data", limit, [row.id for row in rows])
    return await _with_urls(service, rows)


@router.get(
    "/files/{sha256}",
    summary="A stored picture",
    response_class=Response,
    responses={200: {"content": {kind: {} for kind in TYPE_OF_EXTENSION.values()}}, **errors(404, 422, 503)},
)
async def file(
    sha256: Annotated[str, Path(pattern="^[0-9a-f]{64}$")],
    service: Services,
    w: Annotated[int | None, Query(ge=16, le=2048, description="Longest edge of a JPEG of it, in pixels.")] = None,
) -> Response:
    path, data = await anyio.to_thread.run_sync(service.store.find_picture, sha256)
    if w is not None:
        loop = asyncio.get_running_loop()  # on the few threads that decode, however many are asked for at once
        data = await loop.run_in_executor(service.prediction.threads, _small, data, w, service)
        path = "small.jpg"
    headers = {"Cache-Control": "private, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
    return Response(data, media_type=TYPE_OF_EXTENSION.get(PurePath(path).suffix), headers=headers)


def _small(data: bytes, side: int, service: Service) -> bytes:
    out = io.BytesIO()
    picture = thumbnail(data, side, max_pixels=service.settings.max_image_pixels)
    picture.save(out, "JPEG", quality=82)
    return out.getvalue()


@router.get(
    "/system-metrics",
    summary="Minutes with metrics, newest first",
    response_model=list[MinuteBody],
    responses=errors(422, 503),
)
async def minutes(service: Services, limit: Limit = 60) -> list[MinuteMetrics]:
    return await anyio.to_thread.run_sync(service.store.minutes, limit)


async def _with_urls(
    service: Service, rows: Sequence[PredictionRecord] | Sequence[TrainingPicture]
) -> list[dict[str, Any]]:
    paths = [row.image_path for row in rows if row.image_path]
    urls = await anyio.to_thread.run_sync(service.store.urls, paths)
    return [{**asdict(row), "file_url": urls.get(row.image_path or "")} for row in rows]
