from collections.abc import Iterator
from typing import Any

import pytest

from helpers.ray_cluster import ray_cluster
from helpers.retraining import PICTURES, Machine
from shoe_classifier.errors import ConfigurationError
from shoe_classifier.ml.finetune import tune_here
from shoe_classifier.scale import cluster as clusters
from shoe_classifier.scale.finetune import RayTuning, tune_of
from shoe_classifier.scale.retrain import retrain
from shoe_classifier.settings import Settings
from shoe_classifier.types import RetrainJob

pytestmark = pytest.mark.filterwarnings("ignore:::ray", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def on_ray(settings: Settings) -> Settings:
    return settings.model_copy(update={"retrain_in": "ray", "ray_address": "127.0.0.1:6379"})


def test_a_service_without_ray_says_at_its_start_how_to_install_it(
    on_ray: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "ray_installed", lambda: False)
    with pytest.raises(ConfigurationError, match=r"RETRAIN_IN=ray: Expected Ray.*make \.venv-scale"):
        tune_of(on_ray)
    monkeypatch.setattr(clusters, "ray_installed", lambda: True)
    assert tune_of(on_ray) == RayTuning("127.0.0.1:6379", 2)


def test_other_retrains_tune_here(settings: Settings) -> None:
    assert tune_of(settings) is tune_here


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with ray_cluster(2) as started:
        yield started


@pytest.mark.scale
@pytest.mark.slow
@pytest.mark.timeout(900)  # a busy machine starts TensorFlow in minutes
def test_a_retrain_on_a_cluster_is_published_to_the_service(cluster: Any, on_ray: Settings) -> None:
    service = Machine(on_ray, shared=False).start()
    service.upload()
    before = service.holder.live.bundle.version
    jobs: list[RetrainJob] = []
    done = retrain(on_ray.model_copy(update={"ray_address": cluster.address}), True, jobs.append)
    assert (done.state, done.mode, done.samples) == ("published", "full", PICTURES), done.message
    assert any("of 2 workers" in job.message for job in jobs)
    service.registry.refresh()
    assert service.holder.live.bundle.version == done.model_version != before
    assert service.story().unprocessed == 0
    service.close()
