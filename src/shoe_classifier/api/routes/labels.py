"""`/labels`: what is known about each label; renaming, merging and removing them."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from shoe_classifier import errors
from shoe_classifier.api.auth import MayRead, MayWrite
from shoe_classifier.api.dependencies import DataQualityDep, LabelsDep, LabelSummariesDep, RetrainerDep, SettingsDep
from shoe_classifier.api.multipart import read_json
from shoe_classifier.api.openapi import READING, STORED, UPLOADING, WRITING, error_responses, json_body
from shoe_classifier.api.schemas.labels import LabelAnswer, LabelChangeBody, LabelRow, NameBody, UndoneBody
from shoe_classifier.services.label_summaries import LabelSummary
from shoe_classifier.types import LabelChange

router = APIRouter(prefix="/labels", tags=["teach"])

_CHANGING = (*WRITING, errors.NotFound, errors.TooFewLabels, errors.NotReady, errors.NotOffered, *STORED)


@router.get(
    "",
    summary="Labels: their pictures, how well they are recognised, and whether more pictures would help",
    response_model=list[LabelRow],
    responses=error_responses(*READING, errors.NotReady, errors.NotOffered, *STORED),
    dependencies=[MayRead],
)
def list_labels(summaries: LabelSummariesDep, quality: DataQualityDep) -> list[LabelSummary]:
    return summaries.all(quality.curves())


async def _read_name(request: Request, settings: SettingsDep) -> str:
    return (await read_json(request, NameBody, settings.silence_seconds)).name


@router.patch(
    "/{label}",
    summary="Rename a label, or merge it into another one",
    response_model=LabelAnswer,
    responses=error_responses(*_CHANGING, *UPLOADING, errors.InvalidLabel, errors.StorageFull),
    openapi_extra=json_body(NameBody),
    dependencies=[MayWrite],
)
def rename_label(label: str, name: Annotated[str, Depends(_read_name)], labels: LabelsDep) -> dict[str, Any]:
    return labels.rename(label, name)


@router.delete(
    "/{label}",
    summary="Remove a label and its training pictures",
    response_model=LabelAnswer,
    responses=error_responses(*_CHANGING, errors.StorageFull),
    dependencies=[MayWrite],
)
def remove_label(label: str, labels: LabelsDep) -> dict[str, Any]:
    return labels.remove(label)


@router.get(
    "/changes",
    summary="Changes of labels that no version has learned yet, newest first",
    response_model=list[LabelChangeBody],
    responses=error_responses(*READING, *STORED),
    dependencies=[MayRead],
)
def list_label_changes(labels: LabelsDep) -> list[LabelChange]:
    return labels.undoable()


@router.delete(
    "/changes/{change_id}",
    summary="Take the newest of these changes back, with its pictures",
    response_model=UndoneBody,
    responses=error_responses(
        *WRITING, errors.NotFound, errors.Superseded, errors.RetrainRunning, errors.StorageFull, *STORED
    ),
    dependencies=[MayWrite],
)
def undo_label_change(change_id: str, labels: LabelsDep, retrainer: RetrainerDep) -> dict[str, Any]:
    with retrainer.idle():
        return labels.undo(change_id)
