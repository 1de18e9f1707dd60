"""The parts of the service, as named types for the signatures of endpoints."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Request

from shoe_classifier.api.metrics import RequestMetrics
from shoe_classifier.ml.live_model import LiveModelHolder
from shoe_classifier.services.corrections import CorrectionService
from shoe_classifier.services.data_quality import DataQualityService
from shoe_classifier.services.ingestion import IngestionService
from shoe_classifier.services.labels import LabelService
from shoe_classifier.services.model_registry import ModelRegistry
from shoe_classifier.services.picture_features import FeatureExtractor
from shoe_classifier.services.prediction import PredictionService
from shoe_classifier.services.retraining import Retrainer
from shoe_classifier.settings import Settings
from shoe_classifier.storage.protocols import Store


@dataclass(frozen=True)
class Service:
    """All parts of one running app, built in `main` and kept in `app.state.service`.

    Attributes:
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
    data_quality: DataQualityService
    retrainer: Retrainer
    metrics: RequestMetrics = field(default_factory=RequestMetrics)
    stopping: threading.Event = field(default_factory=threading.Event)


def _part(select: Callable[[Service], object]) -> Any:
    async def get(request: Request) -> object:  # async, because FastAPI runs a plain function on a thread
        return select(request.app.state.service)

    return Depends(get)


SettingsDep = Annotated[Settings, _part(lambda service: service.settings)]
StoreDep = Annotated[Store, _part(lambda service: service.store)]
ModelDep = Annotated[LiveModelHolder, _part(lambda service: service.live_model)]
PredictionDep = Annotated[PredictionService, _part(lambda service: service.prediction)]
IngestionDep = Annotated[IngestionService, _part(lambda service: service.ingestion)]
RegistryDep = Annotated[ModelRegistry, _part(lambda service: service.model_registry)]
CorrectionsDep = Annotated[CorrectionService, _part(lambda service: service.corrections)]
LabelsDep = Annotated[LabelService, _part(lambda service: service.labels)]
DataQualityDep = Annotated[DataQualityService, _part(lambda service: service.data_quality)]
RetrainerDep = Annotated[Retrainer, _part(lambda service: service.retrainer)]
MetricsDep = Annotated[RequestMetrics, _part(lambda service: service.metrics)]
StoppingDep = Annotated[threading.Event, _part(lambda service: service.stopping)]
