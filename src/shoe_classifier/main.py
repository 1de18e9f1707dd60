"""Puts the app together: settings in, ASGI app out. Nothing is built at import."""

import asyncio
import errno
import logging
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio.to_thread
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from shoe_classifier import __version__
from shoe_classifier.classifier.predictor import Predictor
from shoe_classifier.classifier.registry import Registry
from shoe_classifier.correcting import Corrector
from shoe_classifier.dependencies import Service
from shoe_classifier.errors import AppError, StorageFull, StoreUnavailable
from shoe_classifier.forms import FOLDER_PREFIX
from shoe_classifier.opening import foreign_opener, open_store
from shoe_classifier.predicting import Recognizer
from shoe_classifier.publishing import Publisher
from shoe_classifier.retraining import Retrainer
from shoe_classifier.routes import corrections, models, predict, records, retrain, system, upload
from shoe_classifier.settings import Settings, load_settings
from shoe_classifier.traffic import CountTraffic, PlainPaths, Traffic, write_minutes
from shoe_classifier.uploading import Uploader

logger = logging.getLogger(__name__)

_WATCH_SECONDS = 0.5
_BEAT_SECONDS = 2.0
_AGAIN_SECONDS = 2.0
_THREADS = 200
_INTERRUPTED = "The service stopped during this retrain. Its pictures stay for the next one."


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the app.

    Raises:
        ConfigurationError: settings that contradict each other, or ask for what is not there.
    """
    service = _service(settings or load_settings())
    app = _App(
        title="Shoe classifier",
        version=__version__,
        summary="Says what is in a picture, and learns what you teach it.",
        lifespan=_lifespan,
        redirect_slashes=False,
    )
    app.state.service = service
    for noun in (predict, upload, retrain, models, records, corrections, system):
        app.include_router(noun.router)
    app.add_exception_handler(AppError, _app_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(OSError, _disk_error)
    app.add_exception_handler(sqlite3.OperationalError, _disk_error)
    app.add_exception_handler(Exception, _unknown_error)
    app.add_middleware(PlainPaths)
    app.add_middleware(CountTraffic, traffic=service.traffic)
    return app


class _App(FastAPI):
    """Takes `POST /predict` past the framework's layers, which would cost it a tenth of its time."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] != "/predict":
            await super().__call__(scope, receive, send)
            return
        started, request = time.perf_counter(), Request(scope, receive)
        service: Service = self.state.service
        try:
            response: Response = await predict.predict(request, service)
        except AppError as error:
            response = await _app_error(request, error)
        except Exception as error:  # what the framework's outermost layer would catch
            response = await _disk_error(request, error)
        try:
            await response(scope, receive, send)
        finally:
            service.traffic.count("/predict", "POST", response.status_code, time.perf_counter() - started)


def _service(settings: Settings) -> Service:
    settings.dataset_dir.mkdir(parents=True, exist_ok=True)
    store = open_store(settings)
    predictor = Predictor(settings.max_image_pixels)
    registry = Registry(settings.live_model)
    publisher = Publisher(registry, store, predictor, settings.keep_versions, foreign_opener(settings))
    uploader = Uploader(settings, store)
    return Service(
        settings=settings,
        store=store,
        predictor=predictor,
        recognizer=Recognizer(settings, predictor, store),
        uploader=uploader,
        corrector=Corrector(store, uploader),
        publisher=publisher,
        retrainer=Retrainer(settings, store, predictor, registry, publisher),
        traffic=Traffic(),
        started=time.time(),
    )


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
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
    minutes = asyncio.create_task(write_minutes(service.traffic, service.store, lambda: _state(service)))
    yield
    service.stopping = True
    for task in (watching, minutes):
        task.cancel()
    await asyncio.gather(loading, watching, minutes, return_exceptions=True)
    await asyncio.to_thread(service.retrainer.stop)
    service.recognizer.threads.shutdown()
    await asyncio.to_thread(service.store.close)


async def _watch_live(service: Service) -> None:
    """Serve what another process has published: a worker of this host, `train`, or a machine with the same store."""
    next_look = next_beat = 0.0
    while True:
        await asyncio.sleep(_WATCH_SECONDS)
        await _try(service.publisher.refresh)
        if service.store.shared and service.predictor.loaded and time.monotonic() > next_look:
            await _try(service.publisher.follow)
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
            if reason != service.predictor.reason:
                logger.error("%s", reason)
            service.predictor.reason, service.predictor.loaded = reason, True
            time.sleep(_AGAIN_SECONDS)
    except Exception:  # without a model the service still answers, and /ready says why
        logger.exception("The service could not start fully.")
        service.predictor.reason = "the start failed; the log says why."
    finally:
        service.predictor.loaded = True


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
        service.publisher.restore()
    except AppError as error:
        if not service.store.shared:  # nothing will change by itself
            raise
        return error.detail
    return None


def _state(service: Service) -> str:
    return "failing" if service.predictor.failed else "ready"


# ---------------------------------------------------------------- one envelope for all errors


def _answer(
    status: int, detail: str, code: str, headers: dict[str, str] | None = None, **extra: object
) -> JSONResponse:
    return JSONResponse({"detail": detail, "code": code, **extra}, status, headers)


async def _app_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, AppError)
    return _answer(error.status, error.detail, error.code, error.headers, **error.extra)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return _answer(404, f"Expected a path that /docs lists; received {request.url.path[:200]!r}.", "not_found")
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        detail = f"Expected {allowed} for {request.url.path[:200]!r}; received {request.method}."
        return _answer(405, detail, "method_not_allowed", dict(error.headers or {}))
    return _answer(error.status_code, str(error.detail), "http_error", dict(error.headers or {}))


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    problems = [
        f"{'.'.join(map(str, problem['loc'][1:]))}: {problem['msg']}; received {str(problem.get('input'))[:80]!r}"
        for problem in error.errors()
    ]
    return _answer(422, f"Expected valid parameters. {'. '.join(problems)}.", "invalid_request")


async def _disk_error(request: Request, error: Exception) -> JSONResponse:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or (isinstance(error, sqlite3.OperationalError) and "full" in str(error)):
        return await _app_error(
            request, StorageFull("Expected room on the service's disk; it is full. Nothing was kept.")
        )
    logger.exception("%s %s failed.", request.method, request.url.path, exc_info=error)
    return await _unknown_error(request, error)


async def _unknown_error(request: Request, error: Exception) -> JSONResponse:
    return _answer(500, "The service failed on its side; its log says why.", "internal_error")
