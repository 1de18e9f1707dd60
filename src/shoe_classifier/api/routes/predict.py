"""`POST /predict`, `POST /predict/batch` and `POST /explain`."""

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread
import orjson
from fastapi import APIRouter, Request, Response

from shoe_classifier import errors
from shoe_classifier.api.auth import MayPredict, check_predicting
from shoe_classifier.api.dependencies import (
    BodiesDep,
    IngestionDep,
    MetricsDep,
    ModelDep,
    PredictionDep,
    SettingsDep,
)
from shoe_classifier.api.form import Form
from shoe_classifier.api.metrics import RequestMetrics
from shoe_classifier.api.multipart import private_folder, read_form
from shoe_classifier.api.openapi import (
    BATCH_FORM,
    PREDICT_FORM,
    PREDICTING,
    RECORD,
    UPLOADING,
    error_responses,
    file_response,
)
from shoe_classifier.api.schemas.predict import BatchBody, PredictionBody
from shoe_classifier.ml.explanation import explain
from shoe_classifier.ml.zip_reader import Picture, Skipped, ZipLimits, read_pictures
from shoe_classifier.services.ingestion import clean_name
from shoe_classifier.services.prediction import PredictionService
from shoe_classifier.settings import Settings

router = APIRouter(tags=["predict"], dependencies=[MayPredict])

_PREDICTING = (*PREDICTING, *UPLOADING, errors.InvalidImage, errors.UnsupportedImage, errors.NotReady)


@router.post(
    "/predict",
    summary="Classify a picture",
    response_model=PredictionBody,
    responses=error_responses(*_PREDICTING),
    openapi_extra={**PREDICT_FORM, **RECORD},
)
async def predict_picture(
    request: Request, settings: SettingsDep, bodies: BodiesDep, prediction: PredictionDep, metrics: MetricsDep
) -> Response:
    started, record = time.perf_counter(), _is_recorded(request)
    check_predicting(request, settings)  # the fast path runs no dependencies
    prediction.check_pending()  # before the body is read
    async with read_form(request, settings.max_image_bytes, bodies) as form:
        file = form.file("file")
        with prediction.slot():  # only now: a slow sender must not keep others out
            answer = await _predict(prediction, metrics, file.data, file.name, started, record=record)
    return Response(orjson.dumps(answer), media_type="application/json")


@router.post(
    "/explain",
    summary="Show which parts of a picture decided",
    response_class=Response,
    responses={
        **file_response("The picture with its class activation map.", "image/png"),
        **error_responses(*_PREDICTING, errors.NotOffered),
    },
    openapi_extra=PREDICT_FORM,
)
async def explain_prediction(
    request: Request, settings: SettingsDep, bodies: BodiesDep, prediction: PredictionDep, model: ModelDep
) -> Response:
    prediction.check_pending()
    async with read_form(request, settings.max_image_bytes, bodies) as form:
        file = form.file("file")
        with prediction.slot():
            loop, live = asyncio.get_running_loop(), model.teachable
            png = await loop.run_in_executor(
                prediction.threads, explain, live, file.data, file.name, settings.max_image_pixels
            )
    return Response(png, media_type="image/png")


@router.post(
    "/predict/batch",
    summary="Classify several pictures, or those of a ZIP",
    response_model=BatchBody,
    responses=error_responses(*PREDICTING, *UPLOADING, errors.InvalidZip, errors.NotReady),
    openapi_extra=BATCH_FORM,
)
async def predict_batch(
    request: Request,
    settings: SettingsDep,
    bodies: BodiesDep,
    model: ModelDep,
    prediction: PredictionDep,
    ingestion: IngestionDep,
    metrics: MetricsDep,
) -> Response:
    model.live  # noqa: B018 - raises NotReady before a large body is read
    prediction.check_pending()
    async with (
        private_folder(settings.temp_uploads_dir) as folder,
        read_form(request, settings.max_zip_bytes, bodies, folder) as form,
    ):
        with prediction.slot():
            pictures = _pictures(form, folder, settings, ingestion.zip_limits)
            results = [await _result(prediction, metrics, picture) async for picture in pictures]
    if not results:
        raise errors.InvalidZip("Expected pictures in the ZIP; received a ZIP without files.")
    return Response(orjson.dumps({"results": results}), media_type="application/json")


def _is_recorded(request: Request) -> bool:
    """What the query says of `record`. Raises `InvalidRequest` when it is neither true nor false."""
    value = request.query_params.get("record", "true")
    if value not in ("true", "false"):
        raise errors.InvalidRequest(f"Expected record=true or record=false; received {value[:80]!r}.")
    return value == "true"


async def _predict(
    prediction: PredictionService,
    metrics: RequestMetrics,
    data: bytes,
    name: str,
    started: float,
    *,
    record: bool = True,
) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    predict = partial(prediction.predict, data, name, started, record=record)
    answer = await loop.run_in_executor(prediction.threads, predict)
    metrics.count_prediction(answer["predicted_class"], answer["decision"])
    return answer


async def _result(prediction: PredictionService, metrics: RequestMetrics, picture: Picture | Skipped) -> dict[str, Any]:
    name = clean_name(picture.name)
    if isinstance(picture, Skipped):
        return {"name": name, "error": {"detail": picture.detail, "code": picture.reason}}
    try:
        answer = await _predict(prediction, metrics, picture.data, picture.name, time.perf_counter())
        return {"name": name, **answer}
    except errors.AppError as error:
        return {"name": name, "error": {"detail": error.detail, "code": error.code}}


async def _pictures(
    form: Form, folder: Path, settings: Settings, limits: ZipLimits
) -> AsyncIterator[Picture | Skipped]:
    """The files of the form, or those of the ZIP that it holds."""
    form.file("files", "file")
    if len(form.files) > settings.max_batch_files:
        raise errors.TooLarge(f"Expected at most {settings.max_batch_files} files; received {len(form.files)}.")
    first = form.files[0]
    if len(form.files) == 1 and await anyio.to_thread.run_sync(first.start) == b"PK":
        path = await anyio.to_thread.run_sync(first.on_disk, folder)
        async for entry in _zip_entries(path, limits, settings.max_batch_files):
            yield entry
        return
    for file in form.files:
        if file.size > settings.max_image_bytes:
            detail = f"Expected at most {settings.max_image_bytes:,} bytes; received {file.size:,}."
            yield Skipped(file.name, errors.TooLarge.code, detail)
        else:
            yield Picture("", file.name, await anyio.to_thread.run_sync(file.read))


async def _zip_entries(path: Path, limits: ZipLimits, most: int) -> AsyncIterator[Picture | Skipped]:
    entries, count = read_pictures(path, limits), 0
    while (entry := await anyio.to_thread.run_sync(next, entries, None)) is not None:
        if isinstance(entry, Skipped) and entry.reason == "ignored":
            continue
        count += 1
        if count > most:
            raise errors.TooLarge(f"Expected at most {most} files in the ZIP; received more.")
        yield entry
