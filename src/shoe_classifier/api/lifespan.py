"""Starts what runs beside the requests, and stops it."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio.to_thread
from fastapi import FastAPI

from shoe_classifier.api.dependencies import Service
from shoe_classifier.api.metrics import write_minutes
from shoe_classifier.errors import AppError, StoreUnavailable
from shoe_classifier.settings import Settings

logger = logging.getLogger(__name__)

_REFRESH_SECONDS = 0.5
_BEAT_SECONDS = 2.0
_RETRY_SECONDS = 2.0
_LOOK_SECONDS = 10.0
_DUE_SECONDS = 5.0  # between two looks at whether a retrain is due
_THREADS = 200  # the default of 40 is for stores on this disk; endpoints that wait for a network hold theirs for longer
_INTERRUPTED = "The service stopped during this retrain. Its pictures stay for the next one."


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Load the model and follow its changes while the app serves."""
    service: Service = app.state.service
    await _prepare(service)
    loading = asyncio.create_task(asyncio.to_thread(_load, service))  # meanwhile, /health answers
    following = asyncio.create_task(_follow_live_model(service, loading))
    minutes = asyncio.create_task(
        write_minutes(service.metrics, service.store, lambda: service.live_model.readiness.value)
    )
    watching = asyncio.create_task(_watch(service))
    retraining = asyncio.create_task(_retrain_when_due(service, loading))
    retention = asyncio.create_task(asyncio.to_thread(service.retention.run, service.stopping))
    yield
    service.stopping.set()
    service.model_export.stop()
    for task in (following, minutes, watching, retraining):
        task.cancel()
    await asyncio.gather(loading, following, minutes, watching, retraining, retention, return_exceptions=True)
    await asyncio.to_thread(service.monitor.stop)
    await asyncio.to_thread(service.data_quality.stop)
    await asyncio.to_thread(service.retrainer.stop)
    if service.webhooks:
        await asyncio.to_thread(service.webhooks.stop)
    service.prediction.threads.shutdown()
    await asyncio.to_thread(service.shadow.stop)
    await asyncio.to_thread(service.features.close)
    await asyncio.to_thread(service.store.close)


async def _prepare(service: Service) -> None:
    logger.log(*_describe_access(service.settings))
    service.store.start()
    if service.webhooks:
        service.webhooks.start()
    if service.store.shared:
        anyio.to_thread.current_default_thread_limiter().total_tokens = _THREADS


def _describe_access(settings: Settings) -> tuple[int, str]:
    """A level for the log, and who may do what."""
    reading = "Reading is open to all (OPEN_READING)" if settings.open_reading else ""
    predicting = "predicting is open to all" if settings.open_predict else "predicting is not (OPEN_PREDICT)"
    if settings.api_key is None:
        rest = reading or "reading rows, pictures and model files, too"
        return logging.WARNING, (
            f"No API_KEY is set: writing is open to direct requests from this machine, and to no others; {rest};"
            f" {predicting}."
        )
    keys = "API_KEY or READ_KEY" if settings.read_key else "API_KEY"
    return logging.INFO, f"Writing needs API_KEY. {reading or f'Reading needs {keys}'}; {predicting}."


def _load(service: Service) -> None:
    """Fail interrupted jobs and make a model live. Retries while the store is not usable; /ready says why."""
    live_model = service.live_model
    try:
        while (problem := _try_to_load(service)) is not None:
            if problem != live_model.reason:
                logger.error("%s", problem)
            live_model.fail(problem)
            if service.stopping.wait(_RETRY_SECONDS):
                return
    except Exception:  # without a model the service still answers, and /ready says why
        logger.exception("The service could not start fully.")
        live_model.fail("the start failed; the log says why.")


def _try_to_load(service: Service) -> str | None:
    """Returns the problem when another try may help."""
    try:
        problems = service.store.problems()
        if problems:
            return " ".join(problems)
        service.retrainer.fail_interrupted(_INTERRUPTED)
    except AppError as error:  # the version that was live when the store last answered can be served all the same
        logger.warning("%s", error.detail)
    try:
        service.model_registry.restore()
    except AppError as error:
        if not service.store.shared:  # nothing will change by itself
            raise
        return error.detail
    except OSError as error:  # such as a folder without rights
        return (
            f"Expected to read and write {Path(error.filename or '').name}; received: {error.strerror}."
            " Check the folder of the models, its owner and its mode, or start the service in another folder."
        )
    return None


async def _follow_live_model(service: Service, loading: asyncio.Task[None]) -> None:
    """Serve what another process has published: a worker of this host, `train`, or a machine with the same store."""
    await asyncio.wait([loading])  # a store that is not set up right must not get around the checks of the start
    next_poll = next_beat = 0.0
    while True:
        await asyncio.sleep(_REFRESH_SECONDS)
        await _try(service.model_registry.refresh)
        await _try(service.shadow.refresh)
        if service.store.shared and time.monotonic() > next_poll:
            await _try(service.model_registry.follow)
            await _try(service.store.fail_lost_jobs)
            next_poll = time.monotonic() + service.settings.model_poll_seconds
        if time.monotonic() > next_beat:
            await _try(service.retrainer.beat)
            next_beat = time.monotonic() + _BEAT_SECONDS


async def _watch(service: Service) -> None:
    """Look at the newest predictions now and then, on the monitor's own thread."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        if service.live_model.readiness == "ready":
            await _try_awaited(loop.run_in_executor(service.monitor.thread, service.monitor.look))


async def _retrain_when_due(service: Service, loading: asyncio.Task[None]) -> None:
    """Start retrains that nobody asks for, if the settings say so."""
    await asyncio.wait([loading])
    while service.auto_retrain.enabled:
        await _try(service.auto_retrain.start_if_due)
        await asyncio.sleep(_DUE_SECONDS)


async def _try(step: Callable[[], None]) -> None:
    await _try_awaited(asyncio.to_thread(step))


async def _try_awaited(step: Awaitable[None]) -> None:
    try:
        await step
    except StoreUnavailable as error:
        logger.warning("%s", error.detail)
    except Exception:  # a busy store or disk now must not end the loop for good
        logger.exception("A step beside the requests failed; trying again.")
