"""A full retrain on a Ray cluster, from a terminal: meanwhile, this process is a machine of the service."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from shoe_classifier.ml.live_model import LiveModelHolder
from shoe_classifier.scale.finetune import tune_of
from shoe_classifier.services.factories import open_registry, open_store, open_webhooks
from shoe_classifier.services.picture_features import FeatureExtractor
from shoe_classifier.services.retraining import Retrainer
from shoe_classifier.settings import Settings
from shoe_classifier.storage.model_files import ModelFiles
from shoe_classifier.types import RetrainJob, publish_nothing

_BEAT_SECONDS = 1.0


def retrain(settings: Settings, force: bool, show: Callable[[RetrainJob], None]) -> RetrainJob:
    """Start a full retrain of what waits, and follow it to its end.

    The same lock keeps others from retraining, the same gate judges, and the same steps publish, as in the service.

    Args:
        settings: say `RETRAIN_IN=ray`, and where the cluster is.
        force: publish even a model that is worse.
        show: is told the job every second.

    Returns:
        The finished job.

    Raises:
        ConfigurationError: Ray is not installed.
        RetrainRunning, NoNewData, NotReady, NotOffered, StoreUnavailable: see `Retrainer.start`.
    """
    with _retrainer(settings) as retrainer:
        job = retrainer.start("full", None, force)
        try:
            while not job.finished:
                time.sleep(_BEAT_SECONDS)
                retrainer.beat()
                job = retrainer.job(job.job_id)
                show(job)
        finally:
            retrainer.stop()
        return job


@contextmanager
def _retrainer(settings: Settings) -> Iterator[Retrainer]:
    tune, store, holder = tune_of(settings), open_store(settings), LiveModelHolder(settings.max_image_pixels)
    files = ModelFiles(settings.live_model)
    registry, features = open_registry(settings, store, files, holder), FeatureExtractor(settings, holder)
    webhooks = open_webhooks(settings)  # only queued here; the service delivers them
    publish = webhooks.publish if webhooks else publish_nothing
    try:
        store.start()
        registry.restore()
        yield Retrainer(settings, store, holder, files, registry, features, publish, tune)
    finally:
        features.close()
        store.close()
