"""`GET /review` and `POST /review`: predictions worth a look, and what people say about them."""

from typing import Annotated, Any, Literal

import anyio.to_thread
from fastapi import APIRouter, Depends, Query, Request

from shoe_classifier import errors
from shoe_classifier.api.auth import MayRead, MayWrite
from shoe_classifier.api.dependencies import ModelDep, ReviewDep, ReviewQueueDep, SettingsDep, StoreDep
from shoe_classifier.api.multipart import private_folder, read_json
from shoe_classifier.api.openapi import KEEPING, READING, REVIEW_BODY, STORED, UPLOADING, WRITING, error_responses
from shoe_classifier.api.schemas.review import AnsweredBody, AnswersBody, ReviewBody
from shoe_classifier.services.review import Answer
from shoe_classifier.services.review_queue import ReviewItem
from shoe_classifier.types import ReviewKind

router = APIRouter(tags=["review"])

_MOST_BYTES = 128 << 10  # of a call's answers


@router.get(
    "/review",
    summary="Predictions worth a look, most informative and different first",
    dependencies=[MayRead],
    response_model=ReviewBody,
    responses=error_responses(*READING, errors.InvalidRequest, errors.NotReady, *STORED),
)
def list_review(
    queue: ReviewQueueDep,
    store: StoreDep,
    limit: Annotated[int, Query(ge=1, le=200, description="Most predictions, each with those that look alike.")] = 50,
    kind: Annotated[ReviewKind | Literal["all"], Query(description="Why they are worth a look.")] = "all",
) -> dict[str, Any]:
    items = queue.items(kind, limit)
    urls = store.urls([str(item.prediction.image_path) for item in items])
    return {"items": [_as_json(item, urls) for item in items], "counts": queue.counts()}


async def _read_answers(request: Request, settings: SettingsDep) -> list[Answer]:
    body = await read_json(request, AnswersBody, settings.silence_seconds, _MOST_BYTES)
    return [Answer(**item.model_dump()) for item in body.items]


@router.post(
    "/review",
    summary="Say what is in predicted pictures; they become training data",
    dependencies=[MayWrite],
    response_model=AnsweredBody,
    responses=error_responses(
        *WRITING,
        *UPLOADING,
        errors.NotFound,
        errors.InvalidLabel,
        errors.TooSmall,
        errors.NotReady,
        errors.NotOffered,
        *STORED,
        *KEEPING,
    ),
    openapi_extra=REVIEW_BODY,
)
async def answer_review(
    answers: Annotated[list[Answer], Depends(_read_answers)], settings: SettingsDep, model: ModelDep, review: ReviewDep
) -> dict[str, Any]:
    known_labels = model.teachable.bundle.labels
    async with private_folder(settings.temp_uploads_dir) as folder:
        report = await anyio.to_thread.run_sync(review.answer, answers, folder, known_labels)
    return report.as_json()


def _as_json(item: ReviewItem, urls: dict[str, str]) -> dict[str, Any]:
    row = item.prediction
    return {
        "prediction_id": row.id,
        "file_url": urls[str(row.image_path)],
        "suggestion": row.predicted_class,
        "confidence": row.confidence_score,
        "decision": row.decision,
        "probabilities": row.probabilities,
        "kind": item.kind,
        "reason": item.reason,
        "similar": len(item.similar_ids),
        "similar_ids": item.similar_ids,
        "model_version": row.model_version,
        "created_at": row.created_at,
    }
