"""`/status`, `/health`, `/ready` and `/metrics`; `/` leads to the documentation."""

import time
from dataclasses import asdict
from typing import Any

import anyio.to_thread
from fastapi import APIRouter, Response
from fastapi.responses import RedirectResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from shoe_classifier import __version__
from shoe_classifier.api.dependencies import Service, Services
from shoe_classifier.api.openapi import errors
from shoe_classifier.api.schemas import HealthBody, StatusBody
from shoe_classifier.errors import NotReady

router = APIRouter(tags=["system"])


@router.get("/", include_in_schema=False)
async def root() -> RedirectResponse:
    return RedirectResponse("/docs")


@router.get("/health", summary="Alive", response_model=HealthBody)
async def health() -> dict[str, str]:
    return {"status": "alive"}


@router.get("/ready", summary="Able to predict", response_model=HealthBody, responses=errors(503))
async def ready(service: Services) -> dict[str, str]:
    service.live_model.live  # noqa: B018 - raises NotReady with the reason
    return {"status": "ready"}


@router.get("/status", summary="Everything in one answer", response_model=StatusBody)
async def status(service: Services) -> dict[str, Any]:
    return await anyio.to_thread.run_sync(_status, service)


@router.get("/metrics", summary="For Prometheus", response_class=Response)
async def metrics(service: Services) -> Response:
    await anyio.to_thread.run_sync(_gauge, service)
    return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _gauge(service: Service) -> None:
    store = service.store.state()
    if "outbox" in store:
        service.metrics.waiting.labels("rows").set(store["outbox"]["rows"])
        service.metrics.waiting.labels("bytes").set(store["outbox"]["bytes"])
        service.metrics.waiting.labels("oldest_seconds").set(store["outbox"]["oldest_seconds"])
    if not store.get("error"):
        service.metrics.unprocessed.set(service.store.count_unprocessed())


def _status(service: Service) -> dict[str, Any]:
    settings, traffic = service.settings, service.metrics
    try:
        model, state, detail = _model(service), "ready", "Serving."
    except NotReady as error:
        model, state, detail = None, service.live_model.readiness, error.detail
    store = service.store.state()
    silent = store.get("error") is not None  # then nothing more is asked of it
    jobs = [] if silent else service.retrainer.jobs(1, None)
    return {
        "status": state,
        "detail": detail,
        "version": __version__,
        "uptime_seconds": round(time.time() - service.started, 1),
        "model": model,
        "store": {"kind": service.store.kind, "unrecorded_predictions": service.prediction.unrecorded, **store},
        "training_data": {
            "labels": None if silent else service.store.training_labels(),
            "unprocessed": None if silent else service.store.count_unprocessed(),
        },
        "retrain": asdict(jobs[0]) if jobs else None,
        "requests": {
            "count": traffic.total,
            "average_ms": round(traffic.total_seconds / traffic.total * 1e3, 3) if traffic.total else 0.0,
        },
        "limits": {name: getattr(settings, name) for name in type(settings).model_fields if name.startswith("max_")},
    }


def _model(service: Service) -> dict[str, Any]:
    live = service.live_model.live
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
