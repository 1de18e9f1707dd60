"""What runs beside the requests, from the start of the app to its end."""

import asyncio
import logging
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio.to_thread
from fastapi import FastAPI

from shoe_classifier.api.dependencies import Service
from shoe_classifier.api.metrics import write_minutes
from shoe_classifier.api.multipart import FOLDER_PREFIX
from shoe_classifier.errors import AppError, StoreUnavailable
from shoe_classifier.ml.live_model import Readiness
from shoe_classifier.settings import Settings

logger = logging.getLogger(__name__)

_WATCH_SECONDS = 0.5
_BEAT_SECONDS = 2.0
_AGAIN_SECONDS = 2.0
_THREADS = 200
_INTERRUPTED = "The service stopped during this retrain. Its pictures stay for the next one."


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    if service.settings.api_key is None:
        logger.warning(
            "No API_KEY is set: writing calls are open to direct requests from this machine, and to no others."
        )
    if service.settings.uvicorn_workers == 1:  # else uploads of other workers may be in flight
        await asyncio.to_thread(clear_uploads, service.settings)
    service.store.start()
    if service.store.shared:  # threads that wait for it must not keep other work waiting
        anyio.to_thread.current_default_thread_limiter().total_tokens = _THREADS
    loading = asyncio.create_task(asyncio.to_thread(_start, service))  # meanwhile, /health answers
    watching = asyncio.create_task(_watch_live(service))
    minutes = asyncio.create_task(write_minutes(service.metrics, service.store, lambda: _state(service)))
    yield
    service.stopping = True
    for task in (watching, minutes):
        task.cancel()
    await asyncio.gather(loading, watching, minutes, return_exceptions=True)
    await asyncio.to_thread(service.retrainer.stop)
    service.prediction.threads.shutdown()
    await asyncio.to_thread(service.store.close)


async def _watch_live(service: Service) -> None:
    """Serve what another process has published: a worker of this host, `train`, or a machine with the same store."""
    next_look = next_beat = 0.0
    while True:
        await asyncio.sleep(_WATCH_SECONDS)
        await _try(service.model_registry.refresh)
        if (
            service.store.shared
            and service.live_model.readiness is not Readiness.LOADING
            and time.monotonic() > next_look
        ):
            await _try(service.model_registry.follow)
            await _try(service.store.fail_lost_jobs)
            next_look = time.monotonic() + service.settings.model_poll_seconds
        if time.monotonic() > next_beat:
            await _try(service.retrainer.beat)
            next_beat = time.monotonic() + _BEAT_SECONDS


async def _try(look: Callable[[], None]) -> None:
    try:
        await asyncio.to_thread(look)
    except StoreUnavailable as error:
        logger.warning("%s", error.detail)
    except Exception:  # a busy store or disk now must not end the watching for good
        logger.exception("The live model could not be looked at.")


def clear_uploads(settings: Settings) -> None:
    """Remove the folders that a killed process left."""
    for folder in settings.temp_uploads_dir.glob(f"{FOLDER_PREFIX}*/"):
        shutil.rmtree(folder, ignore_errors=True)


def _start(service: Service) -> None:
    """Tell interrupted jobs so, and make a model live. While the store is not as it should be, /ready says why."""
    try:
        while (reason := _begin(service)) and not service.stopping:
            if reason != service.live_model.reason:
                logger.error("%s", reason)
            service.live_model.fail(reason)
            time.sleep(_AGAIN_SECONDS)
    except Exception:  # without a model the service still answers, and /ready says why
        logger.exception("The service could not start fully.")
        service.live_model.fail("the start failed; the log says why.")


def _begin(service: Service) -> str | None:
    """Returns why not, if it must be tried again."""
    try:
        problems = service.store.problems()
        if problems:
            return " ".join(problems)
        service.retrainer.fail_interrupted(_INTERRUPTED)
    except AppError as error:
        logger.warning("%s", error.detail)
    try:
        service.model_registry.restore()
    except AppError as error:
        if not service.store.shared:  # nothing will change by itself
            raise
        return error.detail
    return None


def _state(service: Service) -> str:
    return service.live_model.readiness
