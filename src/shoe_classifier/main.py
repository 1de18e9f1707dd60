"""Puts the app together: settings in, ASGI app out. Nothing is built at import."""

from functools import partial

from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from shoe_classifier import __version__
from shoe_classifier.api import openapi
from shoe_classifier.api.audit import AuditWrites
from shoe_classifier.api.body_limits import BodyLimits
from shoe_classifier.api.dependencies import Service
from shoe_classifier.api.error_handlers import handle_error
from shoe_classifier.api.lifespan import lifespan
from shoe_classifier.api.middleware import (
    CountRequests,
    HandleErrors,
    PredictFastPath,
    ReserveConnections,
    StripTrailingSlash,
)
from shoe_classifier.api.query import refuse_unknown_parameters
from shoe_classifier.api.routes import (
    audit,
    corrections,
    data_quality,
    export,
    labels,
    models,
    monitoring,
    pages,
    predict,
    records,
    retrain,
    review,
    system,
    upload,
    webhooks,
)
from shoe_classifier.ml import preprocessing
from shoe_classifier.ml.decoding_limits import give_back_large_blocks
from shoe_classifier.ml.live_model import LiveModelHolder
from shoe_classifier.scale.finetune import tune_of
from shoe_classifier.services.audit import AuditLog
from shoe_classifier.services.auto_retrain import AutoRetrain
from shoe_classifier.services.corrections import CorrectionService
from shoe_classifier.services.data_quality import DataQualityService
from shoe_classifier.services.export import TrainingExport
from shoe_classifier.services.factories import open_registry, open_store, open_webhooks
from shoe_classifier.services.ingestion import IngestionService
from shoe_classifier.services.label_summaries import LabelSummaries
from shoe_classifier.services.labels import LabelService
from shoe_classifier.services.model_export import ModelExport
from shoe_classifier.services.monitoring import Monitor
from shoe_classifier.services.picture_features import FeatureExtractor
from shoe_classifier.services.prediction import PredictionService
from shoe_classifier.services.retention import Retention
from shoe_classifier.services.retraining import Retrainer
from shoe_classifier.services.review import ReviewService
from shoe_classifier.services.review_queue import ReviewQueue
from shoe_classifier.services.shadow import Shadow
from shoe_classifier.settings import Settings, load_settings
from shoe_classifier.storage.model_files import ModelFiles
from shoe_classifier.types import publish_nothing

_NOUNS = (
    *(predict, upload, retrain, models, export, records, data_quality, corrections, labels, review),
    *(monitoring, webhooks, audit, system, pages),
)


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the app; without settings, from the environment and `.env`.

    Raises:
        ConfigurationError: settings that contradict each other, or name what does not exist.
    """
    service = _build_service(settings or load_settings())
    app = FastAPIOffline(  # a FastAPI app whose /docs needs no internet
        title="Shoe classifier",
        version=__version__,
        summary="Says what is in a picture, and learns what you teach it.",
        lifespan=lifespan,
        redirect_slashes=False,
        redoc_url=None,
        static_url="/docs/static",
        telemetry={"tracing": False, "metrics": False, "logs": False},  # off: each request would look for providers
        dependencies=[Depends(refuse_unknown_parameters)],
        generate_unique_id_function=lambda route: route.name,
    )
    app.openapi = partial(openapi.document, app)  # type: ignore[method-assign] # as FastAPI's documentation does
    app.state.service = service
    for noun in _NOUNS:
        app.include_router(noun.router)
    for kind in (HTTPException, RequestValidationError):  # FastAPI answers these itself, unless it is told otherwise
        app.add_exception_handler(kind, handle_error)
    _add_middleware(app, service)
    return app


def _add_middleware(app: FastAPI, service: Service) -> None:
    """The last one added is the outermost."""
    endpoint = partial(
        predict.predict_picture,
        settings=service.settings,
        bodies=service.bodies,
        prediction=service.prediction,
        metrics=service.metrics,
    )
    app.add_middleware(PredictFastPath, endpoint=endpoint)
    app.add_middleware(ReserveConnections)
    app.add_middleware(HandleErrors, request_metrics=service.metrics)
    app.add_middleware(AuditWrites, log=service.audit, proxies=service.settings.trusted_networks)
    app.add_middleware(StripTrailingSlash)
    app.add_middleware(CountRequests, request_metrics=service.metrics)


def _build_service(settings: Settings) -> Service:
    give_back_large_blocks()
    preprocessing.LIMITS.max_bytes = settings.max_decoding_bytes
    preprocessing.LIMITS.max_jpeg_scans = settings.max_jpeg_scans
    store = open_store(settings)
    live_model = LiveModelHolder(settings.max_image_pixels)
    files = ModelFiles(settings.live_model)
    registry = open_registry(settings, store, files, live_model)
    features = FeatureExtractor(settings, live_model)
    webhooks = open_webhooks(settings)
    publish = webhooks.publish if webhooks else publish_nothing
    audit = AuditLog(store)
    ingestion = IngestionService(settings, store, features, publish)
    shadow = Shadow(settings, store, live_model, registry)
    prediction = PredictionService(settings, live_model, store, shadow.observe)
    corrections = CorrectionService(store, ingestion, features)
    retrainer = Retrainer(settings, store, live_model, files, registry, features, publish, tune_of(settings))
    monitor = Monitor(settings, store, live_model, files, features, prediction.recent, publish)
    return Service(
        settings=settings,
        store=store,
        live_model=live_model,
        prediction=prediction,
        features=features,
        ingestion=ingestion,
        corrections=corrections,
        audit=audit,
        retention=Retention(settings, store, audit),
        labels=LabelService(store, live_model, ingestion),
        label_summaries=LabelSummaries(store, live_model, files.live),
        data_quality=DataQualityService(settings, store, live_model, features),
        model_registry=registry,
        bodies=BodyLimits(settings),
        retrainer=retrainer,
        monitor=monitor,
        review_queue=ReviewQueue(store, live_model, prediction.recent, monitor, shadow.disputed),
        review=ReviewService(store, ingestion, corrections, monitor),
        auto_retrain=AutoRetrain(settings, store, retrainer),
        webhooks=webhooks,
        shadow=shadow,
        export=TrainingExport(settings, store),
        model_export=ModelExport(settings, store, registry),
    )
