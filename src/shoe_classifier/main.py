"""Puts the app together: settings in, ASGI app out. Nothing is built at import."""

import logging
import sqlite3
import time

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from shoe_classifier import __version__
from shoe_classifier.api.dependencies import Service
from shoe_classifier.api.error_handlers import app_error, disk_error, http_error, unknown_error, validation_error
from shoe_classifier.api.lifespan import lifespan
from shoe_classifier.api.metrics import CountRequests, RequestMetrics, StripTrailingSlash
from shoe_classifier.api.routes import corrections, models, predict, records, retrain, system, upload
from shoe_classifier.errors import AppError
from shoe_classifier.ml.live_model import LiveModelHolder
from shoe_classifier.services.corrections import CorrectionService
from shoe_classifier.services.factories import external_opener, open_store
from shoe_classifier.services.ingestion import IngestionService
from shoe_classifier.services.model_registry import ModelRegistry
from shoe_classifier.services.prediction import PredictionService
from shoe_classifier.services.retraining import Retrainer
from shoe_classifier.settings import Settings, load_settings
from shoe_classifier.storage.model_files import ModelFiles

logger = logging.getLogger(__name__)


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
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.service = service
    for noun in (predict, upload, retrain, models, records, corrections, system):
        app.include_router(noun.router)
    app.add_exception_handler(AppError, app_error)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(RequestValidationError, validation_error)
    app.add_exception_handler(OSError, disk_error)
    app.add_exception_handler(sqlite3.OperationalError, disk_error)
    app.add_exception_handler(Exception, unknown_error)
    app.add_middleware(StripTrailingSlash)
    app.add_middleware(CountRequests, request_metrics=service.metrics)
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
            response = await app_error(request, error)
        except Exception as error:  # what the framework's outermost layer would catch
            response = await disk_error(request, error)
        try:
            await response(scope, receive, send)
        finally:
            service.metrics.count("/predict", "POST", response.status_code, time.perf_counter() - started)


def _service(settings: Settings) -> Service:
    settings.dataset_dir.mkdir(parents=True, exist_ok=True)
    store = open_store(settings)
    live_model = LiveModelHolder(settings.max_image_pixels)
    registry = ModelFiles(settings.live_model)
    model_registry = ModelRegistry(registry, store, live_model, settings.keep_versions, external_opener(settings))
    ingestion = IngestionService(settings, store)
    return Service(
        settings=settings,
        store=store,
        live_model=live_model,
        prediction=PredictionService(settings, live_model, store),
        ingestion=ingestion,
        corrections=CorrectionService(store, ingestion),
        model_registry=model_registry,
        retrainer=Retrainer(settings, store, live_model, registry, model_registry),
        metrics=RequestMetrics(),
        started=time.time(),
    )
