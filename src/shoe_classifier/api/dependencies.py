"""The parts of the service, as named types for the signatures of endpoints."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Request

from shoe_classifier.api.body_limits import BodyLimits
from shoe_classifier.api.metrics import RequestMetrics
from shoe_classifier.ml.live_model import LiveModelHolder
from shoe_classifier.services.audit import AuditLog
from shoe_classifier.services.auto_retrain import AutoRetrain
from shoe_classifier.services.corrections import CorrectionService
from shoe_classifier.services.data_quality import DataQualityService
from shoe_classifier.services.export import TrainingExport
from shoe_classifier.services.ingestion import IngestionService
from shoe_classifier.services.label_summaries import LabelSummaries
from shoe_classifier.services.labels import LabelService
from shoe_classifier.services.model_export import ModelExport
from shoe_classifier.services.model_registry import ModelRegistry
from shoe_classifier.services.monitoring import Monitor
from shoe_classifier.services.picture_features import FeatureExtractor
from shoe_classifier.services.prediction import PredictionService
from shoe_classifier.services.retention import Retention
from shoe_classifier.services.retraining import Retrainer
from shoe_classifier.services.review import ReviewService
from shoe_classifier.services.review_queue import ReviewQueue
from shoe_classifier.services.shadow import Shadow
from shoe_classifier.services.webhooks import Webhooks
from shoe_classifier.settings import Settings
from shoe_classifier.storage.protocols import Store


@dataclass(frozen=True)
class Service:
    """All parts of one running app, built in `main` and kept in `app.state.service`.

    Attributes:
        webhooks: None when the settings name no receiver.
        stopping: set when the app begins to shut down; streams and retries end then.
    """

    settings: Settings
    store: Store
    live_model: LiveModelHolder
    prediction: PredictionService
    features: FeatureExtractor
    ingestion: IngestionService
    model_registry: ModelRegistry
    corrections: CorrectionService
    labels: LabelService
    label_summaries: LabelSummaries
    data_quality: DataQualityService
    audit: AuditLog
    retention: Retention
    retrainer: Retrainer
    bodies: BodyLimits
    monitor: Monitor
    review_queue: ReviewQueue
    review: ReviewService
    auto_retrain: AutoRetrain
    webhooks: Webhooks | None
    shadow: Shadow
    export: TrainingExport
    model_export: ModelExport
    metrics: RequestMetrics = field(default_factory=RequestMetrics)
    stopping: threading.Event = field(default_factory=threading.Event)


def _part(select: Callable[[Service], object]) -> Any:
    async def get(request: Request) -> object:  # async, because FastAPI runs a plain function on a thread
        return select(request.app.state.service)

    return Depends(get)


BodiesDep = Annotated[BodyLimits, _part(lambda service: service.bodies)]
SettingsDep = Annotated[Settings, _part(lambda service: service.settings)]
StoreDep = Annotated[Store, _part(lambda service: service.store)]
ModelDep = Annotated[LiveModelHolder, _part(lambda service: service.live_model)]
PredictionDep = Annotated[PredictionService, _part(lambda service: service.prediction)]
IngestionDep = Annotated[IngestionService, _part(lambda service: service.ingestion)]
RegistryDep = Annotated[ModelRegistry, _part(lambda service: service.model_registry)]
CorrectionsDep = Annotated[CorrectionService, _part(lambda service: service.corrections)]
LabelsDep = Annotated[LabelService, _part(lambda service: service.labels)]
LabelSummariesDep = Annotated[LabelSummaries, _part(lambda service: service.label_summaries)]
DataQualityDep = Annotated[DataQualityService, _part(lambda service: service.data_quality)]
RetentionDep = Annotated[Retention, _part(lambda service: service.retention)]
RetrainerDep = Annotated[Retrainer, _part(lambda service: service.retrainer)]
MonitorDep = Annotated[Monitor, _part(lambda service: service.monitor)]
ReviewQueueDep = Annotated[ReviewQueue, _part(lambda service: service.review_queue)]
ReviewDep = Annotated[ReviewService, _part(lambda service: service.review)]
AutoRetrainDep = Annotated[AutoRetrain, _part(lambda service: service.auto_retrain)]
WebhooksDep = Annotated[Webhooks | None, _part(lambda service: service.webhooks)]
ShadowDep = Annotated[Shadow, _part(lambda service: service.shadow)]
ExportDep = Annotated[TrainingExport, _part(lambda service: service.export)]
ModelExportDep = Annotated[ModelExport, _part(lambda service: service.model_export)]
MetricsDep = Annotated[RequestMetrics, _part(lambda service: service.metrics)]
StoppingDep = Annotated[threading.Event, _part(lambda service: service.stopping)]
