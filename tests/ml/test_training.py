from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from helpers.model import random_pictures, tiny_stages
from shoe_classifier.ml import architecture, training
from shoe_classifier.ml.batches import Batch, BatchCounts, training_batches
from shoe_classifier.types import TrainingEvent


@pytest.fixture
def plain_views(monkeypatch: pytest.MonkeyPatch) -> None:
    """Views without augmentation, which takes TensorFlow seconds to trace."""

    def views(batch: Batch, outputs: int, *ignored: object) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels, _ = batch["plain"]
        return tf.cast(images[:, :32, :32], tf.float32), tf.one_hot(labels, outputs)

    monkeypatch.setattr(training, "views", views)


def quiet(event: TrainingEvent) -> None:
    pass


@pytest.mark.usefixtures("plain_views")
@pytest.mark.slow
def test_training_goes_on_from_its_checkpoints(tmp_path: Path) -> None:
    config = training.TrainingConfig(image_size=32, stages=tiny_stages(), epochs=3, steps=1, plain=4, pasted=0)
    pictures = random_pictures(8, config.load_size, 2)
    events: list[TrainingEvent] = []

    def interrupt_in_the_second_epoch(event: TrainingEvent) -> None:
        if event.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(pictures, None, None, 2, config, interrupt_in_the_second_epoch, tmp_path)
    training.train(pictures, None, None, 2, config, events.append, tmp_path)
    assert [(event.epoch, event.epochs, event.progress) for event in events] == [(3, 3, 1.0)]


def test_views_mix_all_sources() -> None:
    config = training.TrainingConfig(image_size=32)
    photos, negatives = random_pictures(5, 42, 2), random_pictures(6, 42, 2, first=2)
    counts = BatchCounts(plain=4, pasted=3, photos=2, negatives=2)
    batch = training_batches(random_pictures(8, 42, 2), photos, negatives, counts)(0)
    images, labels = training.views(batch, 4, config, tf.constant([0, 0]))
    assert (images.shape, labels.shape) == ((11, 32, 32, 3), (11, 4))
    assert 0 <= images.numpy().min() <= images.numpy().max() <= 255
    assert np.allclose(labels.numpy().sum(axis=1), 1)
    assert labels.numpy()[:4, 2:].sum() == 0  # plain pictures come first, and have no label of a negative


def test_training_starts_from_a_model_and_keeps_its_frozen_blocks() -> None:
    config = training.TrainingConfig(
        image_size=32, stages=tiny_stages(), epochs=1, steps=2, plain=4, pasted=0, frozen=1, learning_rate=1e-5
    )
    start = architecture.build(32, 5, tiny_stages())
    model = training.train(random_pictures(8, config.load_size, 2), None, None, 2, config, quiet, start=start)
    changed = set()
    for layer, old in zip(model.layers[:-1], start.layers[:-1], strict=True):
        pairs = list(zip(layer.get_weights(), old.get_weights(), strict=True))
        changed |= {layer.name.split("_")[0] for a, b in pairs if not np.array_equal(a, b)}
        assert all(np.allclose(a, b, atol=0.01) for a, b in pairs if a.ndim == 4)  # kernels, after two small steps
    assert changed == {"block1", "top"}


def test_without_epochs_the_network_stays() -> None:
    config = training.TrainingConfig(image_size=32, stages=tiny_stages(), epochs=0)
    start = architecture.build(32, 2, tiny_stages())
    model = training.train(random_pictures(8, 42, 2), None, None, 2, config, quiet, start=start)
    for layer, old in zip(model.layers[:-1], start.layers[:-1], strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(layer.get_weights(), old.get_weights(), strict=True))
