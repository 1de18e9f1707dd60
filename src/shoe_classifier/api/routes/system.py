"""`/status`, `/health`, `/ready` and `/metrics`."""

import time
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from shoe_classifier import __version__, errors
from shoe_classifier.api.acceptor import ALIVE
from shoe_classifier.api.dependencies import (
    AutoRetrainDep,
    MetricsDep,
    ModelDep,
    MonitorDep,
    PredictionDep,
    RetentionDep,
    RetrainerDep,
    ReviewQueueDep,
    SettingsDep,
    ShadowDep,
    StoreDep,
    WebhooksDep,
)
from shoe_classifier.api.openapi import STORED, error_responses, text_response
from shoe_classifier.api.schemas.system import HealthBody, StatusBody
from shoe_classifier.ml.live_model import LiveModelHolder, Model
from shoe_classifier.services.retraining import Retrainer
from shoe_classifier.storage.protocols import Store

router = APIRouter(tags=["system"])


@router.get("/health", summary="Alive", response_model=HealthBody)
@router.head("/health", include_in_schema=False)
async def get_health() -> dict[str, str]:
    return ALIVE


@router.get("/ready", summary="Able to predict", response_model=HealthBody, responses=error_responses(errors.NotReady))
@router.head("/ready", include_in_schema=False)
async def get_readiness(model: ModelDep) -> dict[str, str]:
    model.live  # noqa: B018 - raises NotReady with the reason
    return {"status": model.readiness.value}


@router.get(
    "/status", summary="Everything in one answer", response_model=StatusBody, responses=error_responses(*STORED)
)
def get_status(
    settings: SettingsDep,
    store: StoreDep,
    model: ModelDep,
    prediction: PredictionDep,
    retrainer: RetrainerDep,
    retention: RetentionDep,
    auto_retrain: AutoRetrainDep,
    webhooks: WebhooksDep,
    shadow: ShadowDep,
    metrics: MetricsDep,
) -> dict[str, Any]:
    state = store.state()
    answers = state.get("error") is None
    return {
        "version": __version__,
        "uptime_seconds": metrics.uptime_seconds,
        **_describe_model(model),
        "store": {"kind": store.kind, "unrecorded_predictions": prediction.unrecorded, **state},
        **_describe_learning(store, retrainer, answers=answers),
        "kept_predictions": retention.kept and asdict(retention.kept),
        "auto_retrain": auto_retrain.state() if answers else None,
        "shadow": shadow.state() if answers else None,
        "webhooks": webhooks.state() if webhooks else None,
        "requests": {"count": metrics.total, "average_ms": metrics.average_ms},
        "limits": {name: getattr(settings, name) for name in type(settings).model_fields if name.startswith("max_")},
    }


@router.get(
    "/metrics",
    summary="Counters for Prometheus",
    response_class=Response,
    responses={**text_response("Prometheus text.", "text/plain"), **error_responses(*STORED)},
)
def get_metrics(store: StoreDep, metrics: MetricsDep, monitor: MonitorDep, queue: ReviewQueueDep) -> Response:
    if metrics.read_store(store):
        metrics.read_quality(monitor, queue)
    return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _describe_model(model: LiveModelHolder) -> dict[str, Any]:
    try:
        live, detail = _describe_version(model.live), "Serving."
    except errors.NotReady as error:
        live, detail = None, error.detail
    return {"status": model.readiness.value, "detail": detail, "model": live}


def _describe_version(live: Model) -> dict[str, Any]:
    bundle = live.bundle
    return {
        "version": bundle.version,
        "parent": bundle.parent,
        "labels": list(bundle.labels),
        "created_at": bundle.created_at,
        "live_for_seconds": round(time.time() - live.since, 1),
        "metrics": bundle.metrics,
        "not_offered": list(live.not_offered),
    }


def _describe_learning(store: Store, retrainer: Retrainer, *, answers: bool) -> dict[str, Any]:
    """Training data and the newest job; None for each while the store does not answer."""
    if not answers:
        return {"training_data": {"labels": None, "unprocessed": None}, "retrain": None}
    jobs = retrainer.jobs(1, None)
    return {
        "training_data": {"labels": store.training_labels(), "unprocessed": store.count_unprocessed()},
        "retrain": asdict(jobs[0]) if jobs else None,
    }
