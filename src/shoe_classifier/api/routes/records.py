"""`/predictions`, `/training-data`, `/files` and `/system-metrics`: what was recorded."""

import asyncio
import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import PurePath
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Depends, Path, Query, Request, Response

from shoe_classifier import errors
from shoe_classifier.api.auth import MayRead, MayWrite
from shoe_classifier.api.dependencies import CorrectionsDep, LabelsDep, PredictionDep, SettingsDep, StoreDep
from shoe_classifier.api.multipart import read_json
from shoe_classifier.api.openapi import (
    READING,
    STORED,
    UPLOADING,
    WRITING,
    error_responses,
    file_response,
    json_body,
    listed,
)
from shoe_classifier.api.pagination import (
    TOTAL,
    Before,
    Limit,
    PredictionFilterDep,
    TrainingFilterDep,
    link_next_page,
)
from shoe_classifier.api.schemas.records import BulkAnswer, BulkBody, MinuteBody, PredictionRow, TrainingRow
from shoe_classifier.ml.preprocessing import thumbnail
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import MEDIA_TYPES, TYPE_OF_EXTENSION, MinuteMetrics, PredictionRecord, TrainingPicture

router = APIRouter(tags=["records"], dependencies=[MayRead])

_MAX_BULK_BYTES = 1 << 20


@router.get(
    "/predictions",
    summary="Predictions, newest first",
    response_model=list[PredictionRow],
    responses=listed(*READING, errors.InvalidRequest, *STORED),
)
def list_predictions(
    response: Response, store: StoreDep, which: PredictionFilterDep, limit: Limit = 50, before: Before = None
) -> list[dict[str, Any]]:
    rows = store.predictions(limit, before, which)
    response.headers[TOTAL] = str(store.count_matching(which))
    link_next_page(response, "/predictions", limit, [row.id for row in rows], which)
    return _with_urls(rows, store)


@router.get(
    "/training-data",
    summary="Training pictures, newest first",
    response_model=list[TrainingRow],
    responses=listed(*READING, errors.InvalidRequest, *STORED),
)
def list_training_data(
    response: Response, store: StoreDep, which: TrainingFilterDep, limit: Limit = 50, before: Before = None
) -> list[dict[str, Any]]:
    rows = store.training_data(limit, before, which)
    response.headers[TOTAL] = str(store.count_training(which))
    link_next_page(response, "/training-data", limit, [row.id for row in rows], which)
    return _with_urls(rows, store)


async def _read_bulk(request: Request, settings: SettingsDep) -> BulkBody:
    return await read_json(request, BulkBody, settings.silence_seconds, _MAX_BULK_BYTES)


@router.post(
    "/training-data/bulk",
    summary="Give many training pictures another label, or delete them: all, or none of them",
    response_model=BulkAnswer,
    responses=error_responses(*WRITING, *UPLOADING, errors.InvalidLabel, errors.NotFound, *STORED, errors.StorageFull),
    openapi_extra=json_body(BulkBody),
    dependencies=[MayWrite],
)
def change_training_data(
    body: Annotated[BulkBody, Depends(_read_bulk)], corrections: CorrectionsDep, labels: LabelsDep
) -> dict[str, int]:
    if body.label is not None:
        return {"relabelled": corrections.relabel_all(body.ids, body.label, labels.present()), "deleted": 0}
    return {"relabelled": 0, "deleted": corrections.delete_all(body.ids)}


@router.get(
    "/files/{sha256}",
    summary="A stored picture",
    response_class=Response,
    responses={
        **file_response("The picture.", *MEDIA_TYPES.values()),
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
