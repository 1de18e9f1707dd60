"""Feedback on a prediction; another label for a training picture, or its end."""

from dataclasses import asdict
from typing import Any

import anyio.to_thread
from fastapi import APIRouter, Request, Response

from shoe_classifier.api.dependencies import MayWrite, Service, Services
from shoe_classifier.api.multipart import private_folder, read_json
from shoe_classifier.api.openapi import LABEL_BODY, errors
from shoe_classifier.api.schemas import LabelBody, TrainingRow
from shoe_classifier.types import TrainingPicture

router = APIRouter(tags=["teach"], dependencies=[MayWrite])


@router.post(
    "/predictions/{prediction_id}/feedback",
    summary="Say what was in a predicted picture; it goes to the training data",
    status_code=201,
    response_model=TrainingRow,
    responses=errors(401, 403, 404, 408, 409, 413, 422, 503, 507),
    openapi_extra=LABEL_BODY,
)
async def feedback(prediction_id: str, request: Request, service: Services) -> dict[str, Any]:
    label, known = await _label(request, service)
    async with private_folder(service.settings.temp_uploads_dir) as folder:
        row = await anyio.to_thread.run_sync(service.corrections.learn, prediction_id, label, folder, known)
    return await _with_url(service, row)


@router.patch(
    "/training-data/{row_id}",
    summary="Give a training picture another label",
    response_model=TrainingRow,
    responses=errors(401, 403, 404, 408, 409, 413, 422, 503, 507),
    openapi_extra=LABEL_BODY,
)
async def relabel(row_id: str, request: Request, service: Services) -> dict[str, Any]:
    label, known = await _label(request, service)
    return await _with_url(service, await anyio.to_thread.run_sync(service.corrections.relabel, row_id, label, known))


@router.delete(
    "/training-data/{row_id}",
    summary="Delete a training picture",
    status_code=204,
    responses=errors(401, 403, 404, 409, 503),
)
async def delete(row_id: str, service: Services) -> Response:
    service.retrainer.check_idle()
    await anyio.to_thread.run_sync(service.corrections.delete, row_id)
    return Response(status_code=204)


async def _label(request: Request, service: Service) -> tuple[str, tuple[str, ...]]:
    """The label of the body, and those of the live model, whose spelling wins; refused while a job runs."""
    service.retrainer.check_idle()
    body = await read_json(request, LabelBody, service.settings.silence_seconds)
    return body.label, service.live_model.teachable.bundle.labels


async def _with_url(service: Service, row: TrainingPicture) -> dict[str, Any]:
    urls = await anyio.to_thread.run_sync(service.store.urls, [row.image_path])
    return {**asdict(row), "file_url": urls[row.image_path]}
