"""`GET /monitoring`: is it still good?"""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from shoe_classifier import errors
from shoe_classifier.api.auth import MayRead
from shoe_classifier.api.dependencies import MonitorDep
from shoe_classifier.api.openapi import READING, STORED, error_responses
from shoe_classifier.api.schemas.monitoring import MonitoringBody

router = APIRouter(tags=["system"])


@router.get(
    "/monitoring",
    summary="Accuracy, drift, and how often it is unsure",
    dependencies=[MayRead],
    response_model=MonitoringBody,
    responses=error_responses(*READING, errors.InvalidRequest, *STORED),
)
def get_monitoring(
    monitor: MonitorDep,
    days: Annotated[int, Query(ge=1, le=365, description="Days to look back, today included.")] = 30,
) -> dict[str, Any]:
    return monitor.report(days)
