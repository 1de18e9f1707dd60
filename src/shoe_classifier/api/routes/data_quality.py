"""`/training-data/issues`: training pictures that may be wrong."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from shoe_classifier import errors
from shoe_classifier.api.auth import MayRead, MayWrite
from shoe_classifier.api.dependencies import DataQualityDep, SettingsDep
from shoe_classifier.api.multipart import read_json
from shoe_classifier.api.openapi import READING, STORED, UPLOADING, WRITING, error_responses, json_body
from shoe_classifier.api.pagination import Limit, TrainingFilterDep
from shoe_classifier.api.schemas.data_quality import IssuesBody, KeepAnswer, KeepBody
from shoe_classifier.types import IssueKind

router = APIRouter(prefix="/training-data/issues", tags=["teach"])

_MAX_BYTES = 1 << 20


@router.get(
    "",
    summary="Training pictures that may be wrong, the worst first",
    response_model=IssuesBody,
    responses=error_responses(*READING, errors.InvalidRequest, errors.NotReady, errors.NotOffered, *STORED),
    dependencies=[MayRead],
)
def list_issues(
    quality: DataQualityDep,
    which: TrainingFilterDep,
    kind: Annotated[IssueKind | None, Query(description="Only pictures that are suspect in this way.")] = None,
    limit: Limit = 50,
) -> dict[str, Any]:
    return quality.issues(kind, which, limit)


async def _read_items(request: Request, settings: SettingsDep) -> KeepBody:
    return await read_json(request, KeepBody, settings.silence_seconds, _MAX_BYTES)


@router.post(
    "",
    summary="Keep suspect pictures as they are: they are not shown again; or take that back",
    response_model=KeepAnswer,
    responses=error_responses(*WRITING, *UPLOADING, errors.NotFound, *STORED, errors.StorageFull),
    openapi_extra=json_body(KeepBody),
    dependencies=[MayWrite],
)
def keep_pictures(body: Annotated[KeepBody, Depends(_read_items)], quality: DataQualityDep) -> dict[str, int]:
    items = [(item.id, item.kind) for item in body.items]
    if body.undo:
        return {"kept": 0, "undone": quality.undo_keep(items)}
    return {"kept": quality.keep(items), "undone": 0}
