"""`/predictions`, `/training-data`, `/files` and `/system-metrics`: what was recorded."""

import asyncio
import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import PurePath
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Path, Query, Response

from shoe_classifier import errors
from shoe_classifier.api.auth import MayRead
from shoe_classifier.api.dependencies import PredictionDep, SettingsDep, StoreDep
from shoe_classifier.api.openapi import READING, STORED, error_responses
from shoe_classifier.api.pagination import Before, Limit, link_next_page
from shoe_classifier.api.schemas import MinuteBody, PredictionRow, TrainingRow
from shoe_classifier.ml.preprocessing import thumbnail
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import MEDIA_TYPES, TYPE_OF_EXTENSION, MinuteMetrics, PredictionRecord, TrainingPicture

router = APIRouter(tags=["records"], dependencies=[MayRead])


@router.get(
    "/predictions",
    summary="Predictions, newest first",
    response_model=list[PredictionRow],
    responses=error_responses(*READING, errors.InvalidRequest, *STORED),
)
def list_predictions(
    response: Response, store: StoreDep, limit: Limit = 50, before: Before = None
) -> list[dict[str, Any]]:
    rows = store.predictions(limit, before)
    link_next_page(response, "/predictions", limit, [row.id for row in rows])
    return _with_urls(rows, store)


@router.get(
    "/training-data",
    summary="Training pictures, newest first",
    response_model=list[TrainingRow],
    responses=error_responses(*READING, errors.InvalidRequest, *STORED),
)
def list_training_data(
    response: Response, store: StoreDep, limit: Limit = 50, before: Before = None
) -> list[dict[str, Any]]:
    rows = store.training_data(limit, before)
    link_next_page(response, "/training-data", limit, [row.id for row in rows])
    return _with_urls(rows, store)


@router.get(
    "/files/{sha256}",
    summary="A stored picture",
    response_class=Response,
    responses={
        200: {"content": {kind: {} for kind in MEDIA_TYPES.values()}, "description": "The picture."},
        **error_responses(*READING, errors.NotFound, errors.InvalidRequest, *STORED),
    },
)
async def get_file(
    sha256: Annotated[str, Path(pattern="^[0-9a-f]{64}$")],
    settings: SettingsDep,
    store: StoreDep,
    prediction: PredictionDep,
    w: Annotated[int | None, Query(ge=16, le=2048, description="Longest edge of a JPEG of it, in pixels.")] = None,
) -> Response:
    path, data = await anyio.to_thread.run_sync(store.find_picture, sha256)
    media_type = TYPE_OF_EXTENSION.get(PurePath(path).suffix)
    if w is not None:
        loop = asyncio.get_running_loop()  # on the few threads that decode, however many are requested at once
        data = await loop.run_in_executor(prediction.threads, _thumbnail, data, w, settings.max_image_pixels)
        media_type = MEDIA_TYPES["JPEG"]
    headers = {"Cache-Control": "private, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
    return Response(data, media_type=media_type, headers=headers)


@router.get(
    "/system-metrics",
    summary="Minutes with traffic, newest first",
    response_model=list[MinuteBody],
    responses=error_responses(*READING, errors.InvalidRequest, *STORED),
)
def list_system_metrics(store: StoreDep, limit: Limit = 60) -> list[MinuteMetrics]:
    return store.minutes(limit)


def _thumbnail(data: bytes, side: int, max_pixels: int) -> bytes:
    out = io.BytesIO()
    thumbnail(data, side, max_pixels=max_pixels).save(out, "JPEG", quality=82)
    return out.getvalue()


def _with_urls(rows: Sequence[PredictionRecord | TrainingPicture], store: Store) -> list[dict[str, Any]]:
    urls = store.urls([row.image_path for row in rows if row.image_path])
    return [{**asdict(row), "file_url": urls.get(row.image_path or "")} for row in rows]
