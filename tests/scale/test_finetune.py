import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.model import random_pictures, tiny_stages
from helpers.ray_cluster import actors_of, kill, ray_cluster
from shoe_classifier.ml.batches import Share
from shoe_classifier.ml.image_file import ImageCollector
from shoe_classifier.ml.tuning import Tuning
from shoe_classifier.scale import finetune
from shoe_classifier.scale.finetune import RayTuning
from shoe_classifier.types import TrainingEvent

pytestmark = [
    pytest.mark.scale,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:::ray", "ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.timeout(900),  # a busy machine starts TensorFlow in minutes, and here it starts five times
]
SIZE = 32


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with ray_cluster(2) as started:
        yield started


@pytest.fixture
def tuning(tmp_path: Path) -> Tuning:
    from shoe_classifier.ml import architecture

    model = architecture.build(SIZE, 2, tiny_stages(), width=8)
    model.save(tmp_path / "model.h5", include_optimizer=False)
    latents = np.random.default_rng(1).integers(0, 127, (11, *architecture.lower(model).output.shape[1:]), np.int8)
    pictures = random_pictures(13, SIZE, 2)
    with ImageCollector(SIZE, tmp_path / "pictures") as collector:
        for image in pictures.images:
            collector.add(image)
    return Tuning(
        tmp_path / "model.h5",
        Share(collector.collected(), pictures.labels, 13),
        Share(latents, np.arange(11) % 3, 11),
        latent_scale=0.01,
        classes=2,
        deadline=time.monotonic() + 1000,
        fingerprint="a",
        epochs=3,
        batch=6,
    )


def tuned(tuning: Tuning, tune: Callable[..., None], report: Callable[[TrainingEvent], None]) -> list[np.ndarray]:
    """The weights that a tuning reaches."""
    from shoe_classifier.ml import architecture

    model = architecture.load(tuning.source)
    tune(model, tuning, report)
    weights: list[np.ndarray] = model.get_weights()
    return weights


def test_two_workers_reach_the_weights_of_one_though_one_is_killed(
    cluster: Any, tuning: Tuning, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shoe_classifier.ml import upper_layers

    monkeypatch.setattr(finetune, "_POLL_SECONDS", 0.05)  # an idle machine is through so short an epoch before 0.5 s
    alone = tuned(tuning, upper_layers.tune, lambda event: None)
    killed: list[int] = []
    events: list[TrainingEvent] = []

    def report(event: TrainingEvent) -> None:
        events.append(event)
        if event.epoch == 2 and not killed:
            for pid in actors_of(cluster, "RayTrainWorker")[:1]:
                killed.append(pid)
                kill(pid)

    together = tuned(tuning, RayTuning(cluster.address, 2), report)
    assert killed
    epochs = [event.epoch for event in events if event.epoch]
    assert epochs == sorted(epochs)  # the first was not learned again
    assert "of 2 workers" in events[-1].message
    for one, two in zip(alone, together, strict=True):
        assert np.allclose(one, two, atol=1e-4)
    start = tuned(tuning, lambda *ignored: None, report)
    assert max(np.abs(before - two).max() for before, two in zip(start, together, strict=True)) > 1e-3
