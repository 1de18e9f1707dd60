from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from helpers.model import random_pictures, tiny_stages
from shoe_classifier.ml import architecture, training
from shoe_classifier.ml.dataset import LabelledPictures
from shoe_classifier.types import Report, TrainingEvent


@pytest.fixture
def plain_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches without augmentation, which takes TensorFlow seconds to trace; `test_batches.py` tests the real ones."""

    def batches(pictures: LabelledPictures, *ignored: object) -> tf.data.Dataset:
        images = pictures.images[:, :32, :32].astype(np.float32)
        return tf.data.Dataset.from_tensor_slices((images, np.eye(2)[pictures.labels])).batch(4).repeat()

    monkeypatch.setattr(training, "training_batches", batches)


def quiet(event: TrainingEvent) -> None:
    pass


@pytest.mark.usefixtures("plain_batches")
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
    assert [(event.epoch, event.epochs) for event in events] == [(2, 3), (3, 3)]
    assert [event.progress for event in events] == pytest.approx([2 / 3, 1])


def test_tuning_changes_the_upper_layers_only() -> None:
    model = architecture.build(32, 2, tiny_stages(), width=8)
    before = [weights.copy() for weights in model.get_weights()]
    pictures = random_pictures(16, 32, 2)
    latents = np.random.default_rng(1).random((10, *architecture.lower(model).output.shape[1:]), np.float32)
    training.finetune_upper_layers(
        model, pictures, latents, np.arange(10) % 3, 2, quiet, lambda: False, epochs=1, batch=4
    )
    changed = {
        variable.path.split("/")[0]
        for variable, old in zip(model.weights, before, strict=True)
        if not np.array_equal(variable.numpy(), old)
    }
    assert changed
    assert all(name.startswith(("block1", "top")) for name in changed)


def tune(report: Report, out_of_time: Callable[[], bool] = lambda: False) -> None:
    model = architecture.build(32, 2, tiny_stages(), width=8)
    pictures, latents = (
        random_pictures(16, 32, 2),
        np.zeros((0, *architecture.lower(model).output.shape[1:]), np.float32),
    )
    training.finetune_upper_layers(
        model, pictures, latents, np.zeros(0, np.int64), 2, report, out_of_time, epochs=2, batch=4
    )


def test_tuning_reports_epochs_and_loss() -> None:
    events: list[TrainingEvent] = []
    tune(events.append)
    assert {event.phase for event in events} == {"train"}
    assert {event.epochs for event in events} == {2}
    assert sorted({event.epoch or 0 for event in events}) == [1, 2]
    assert all(event.loss is not None and np.isfinite(event.loss) for event in events)
    assert [event.progress for event in events] == sorted(event.progress for event in events)
    assert events[-1].progress == 1


def test_tuning_ends_when_its_time_is_over() -> None:
    events: list[TrainingEvent] = []
    tune(events.append, lambda: len(events) == 2)
    assert len(events) == 2


def test_distillation_holds_features_where_they_were() -> None:
    before = np.random.default_rng(0).normal(0, 3, (20, 4)).astype(np.float32)
    assert float(training.distillation_loss(before, before)) == 0
    assert float(training.distillation_loss(before + before.std(axis=0), before)) == pytest.approx(1, abs=0.01)


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
