"""Feedback on a prediction, or its deletion; another label for a training picture, or its deletion."""

from dataclasses import asdict
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Depends, Request, Response

from shoe_classifier import errors
from shoe_classifier.api.auth import MayWrite
from shoe_classifier.api.dependencies import CorrectionsDep, ModelDep, SettingsDep, StoreDep
from shoe_classifier.api.multipart import private_folder, read_json
from shoe_classifier.api.openapi import KEEPING, LABEL_BODY, STORED, UPLOADING, WRITING, error_responses
from shoe_classifier.api.schemas.corrections import LabelBody
from shoe_classifier.api.schemas.records import TrainingRow
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import TrainingPicture

router = APIRouter(tags=["teach"], dependencies=[MayWrite])

_LABELLING = (
    *WRITING,
    *UPLOADING,
    errors.NotFound,
    errors.InvalidLabel,
    errors.NotReady,
    errors.NotOffered,
)


async def _read_label(request: Request, settings: SettingsDep) -> str:
    return (await read_json(request, LabelBody, settings.silence_seconds)).label


LabelDep = Annotated[str, Depends(_read_label)]


@router.post(
    "/predictions/{prediction_id}/feedback",
    summary="Correct a prediction; its picture becomes training data",
    status_code=201,
    response_model=TrainingRow,
    responses=error_responses(*_LABELLING, errors.TooSmall, *STORED, *KEEPING),
    openapi_extra=LABEL_BODY,
)
async def add_feedback(
    prediction_id: str,
    label: LabelDep,
    settings: SettingsDep,
    model: ModelDep,
    corrections: CorrectionsDep,
    store: StoreDep,
) -> dict[str, Any]:
    known_labels = model.teachable.bundle.labels
    async with private_folder(settings.temp_uploads_dir) as folder:
        row = await anyio.to_thread.run_sync(corrections.learn, prediction_id, label, folder, known_labels)
    return await anyio.to_thread.run_sync(_with_url, row, store)


@router.patch(
    "/training-data/{row_id}",
    summary="Give a training picture another label",
    response_model=TrainingRow,
    responses=error_responses(*_LABELLING, *STORED, *KEEPING),
    openapi_extra=LABEL_BODY,
)
def relabel_training_picture(
    row_id: str, label: LabelDep, model: ModelDep, corrections: CorrectionsDep, store: StoreDep
) -> dict[str, Any]:
    return _with_url(corrections.relabel(row_id, label, model.teachable.bundle.labels), store)


@router.delete(
    "/training-data/{row_id}",
    summary="Delete a training picture",
    status_code=204,
    responses=error_responses(*WRITING, errors.NotFound, *STORED),
)
def delete_training_picture(row_id: str, corrections: CorrectionsDep) -> Response:
    corrections.delete(row_id)
    return Response(status_code=204)


@router.delete(
    "/predictions/{prediction_id}",
    summary="Delete a prediction, and its picture unless it is also used elsewhere",
    status_code=204,
    responses=error_responses(*WRITING, errors.NotFound, *STORED),
)
def delete_prediction(prediction_id: str, corrections: CorrectionsDep) -> Response:
    corrections.delete_prediction(prediction_id)
    return Response(status_code=204)


def _with_url(row: TrainingPicture, store: Store) -> dict[str, Any]:
    return {**asdict(row), "file_url": store.urls([row.image_path])[row.image_path]}
