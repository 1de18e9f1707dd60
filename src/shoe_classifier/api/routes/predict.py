"""`POST /predict`, `POST /predict/batch` and `POST /explain`."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio.to_thread
import orjson
from fastapi import APIRouter, Request, Response

from shoe_classifier.api.dependencies import Service, Services
from shoe_classifier.api.multipart import Form, private_folder, read_form
from shoe_classifier.api.openapi import BATCH_FORM, PREDICT_FORM, errors
from shoe_classifier.api.schemas import BatchBody, PredictionBody
from shoe_classifier.errors import AppError, TooLarge
from shoe_classifier.ml.explanation import explain
from shoe_classifier.ml.zip_reader import Picture, Skipped, read_pictures
from shoe_classifier.services.ingestion import clean_name

router = APIRouter(tags=["predict"])


@router.post(
    "/predict",
    summary="Say what is in a picture",
    response_model=PredictionBody,
    responses=errors(408, 413, 415, 422, 503),
    openapi_extra=PREDICT_FORM,
)
async def predict(request: Request, service: Services) -> Response:
    started = time.perf_counter()
    settings = service.settings
    form = await read_form(request, settings.max_image_bytes, settings.silence_seconds)
    file = form.file("file")
    with service.prediction.slot():  # only now: a slow sender must not keep others out
        answer = await _predict(service, file.data, file.name, started)
    return Response(orjson.dumps(answer), media_type="application/json")


@router.post(
    "/explain",
    summary="Show where the network looked",
    response_class=Response,
    responses={
        200: {"content": {"image/png": {}}, "description": "The picture with its class activation map."},
        **errors(408, 409, 413, 415, 422, 503),
    },
    openapi_extra=PREDICT_FORM,
)
async def explain_picture(request: Request, service: Services) -> Response:
    settings = service.settings
    form = await read_form(request, settings.max_image_bytes, settings.silence_seconds)
    file = form.file("file")
    with service.prediction.slot():
        live, threads = service.live_model.teachable, service.prediction.threads
        loop = asyncio.get_running_loop()
        png = await loop.run_in_executor(threads, explain, live, file.data, file.name, settings.max_image_pixels)
    return Response(png, media_type="image/png")


@router.post(
    "/predict/batch",
    summary="Say what is in several pictures, or in those of a ZIP",
    response_model=BatchBody,
    responses=errors(408, 413, 422, 503),
    openapi_extra=BATCH_FORM,
)
async def predict_batch(request: Request, service: Services) -> Response:
    settings = service.settings
    service.live_model.live  # noqa: B018 - raises NotReady
    async with private_folder(settings.temp_uploads_dir) as folder:
        form = await read_form(request, settings.max_zip_bytes, settings.silence_seconds, folder)
        with service.prediction.slot():
            results = [await _result(service, picture) async for picture in _pictures(form, folder, service)]
    return Response(orjson.dumps({"results": results}), media_type="application/json")


async def _predict(service: Service, data: bytes, name: str, started: float) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    prediction = service.prediction
    answer = await loop.run_in_executor(prediction.threads, prediction.predict, data, name, started)
    service.metrics.decisions.labels(answer["predicted_class"], answer["decision"]).inc()
    return answer


async def _result(service: Service, picture: Picture | Skipped) -> dict[str, Any]:
    name = clean_name(picture.name)
    if isinstance(picture, Skipped):
        return {"name": name, "error": {"detail": picture.detail, "code": picture.reason}}
    try:
        return {"name": name, **await _predict(service, picture.data, picture.name, time.perf_counter())}
    except AppError as error:
        return {"name": name, "error": {"detail": error.detail, "code": error.code}}


async def _pictures(form: Form, folder: Path, service: Service) -> AsyncIterator[Picture | Skipped]:
    """The files of the form, or those of the ZIP that it holds."""
    settings = service.settings
    form.file("files", "file")
    if len(form.files) > settings.max_batch_files:
        raise TooLarge(f"Expected at most {settings.max_batch_files} files; received {len(form.files)}.")
    first = form.files[0]
    if len(form.files) > 1 or await anyio.to_thread.run_sync(first.start) != b"PK":
        for file in form.files:
            if file.size > settings.max_image_bytes:
                yield Skipped(
                    file.name,
                    "too_large",
                    f"Expected at most {settings.max_image_bytes:,} bytes; received {file.size:,}.",
                )
            else:
                yield Picture("", file.name, await anyio.to_thread.run_sync(file.read))
        return
    entries = read_pictures(await anyio.to_thread.run_sync(first.on_disk, folder), service.ingestion.zip_limits)
    count = 0
    while (entry := await anyio.to_thread.run_sync(next, entries, None)) is not None:
        if isinstance(entry, Skipped) and entry.reason == "ignored":
            continue
        count += 1
        if count > settings.max_batch_files:
            raise TooLarge(f"Expected at most {settings.max_batch_files} files in the ZIP; received more.")
        yield entry
