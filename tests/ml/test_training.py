import time
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers.model import random_pictures, tiny_stages
from shoe_classifier.ml import architecture, training
from shoe_classifier.ml.batches import Batch, BatchCounts, Share, training_batches
from shoe_classifier.ml.dataset import LabelledPictures
from shoe_classifier.ml.tuning import Tuning
from shoe_classifier.types import Report, TrainingEvent


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


def test_a_checkpoint_of_another_training_or_a_damaged_one_is_not_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    kept, fresh = keras.Variable([1.0, 2.0]), keras.Variable([0.0, 0.0])
    assert training._CheckpointFile(path, "a").restore([fresh]) == 0
    training._CheckpointFile(path, "a").save([kept], 3)
    assert training._CheckpointFile(path, "b").restore([fresh]) == 0
    assert fresh.numpy().tolist() == [0.0, 0.0]
    assert training._CheckpointFile(path, "a").restore([fresh]) == 3
    assert fresh.numpy().tolist() == [1.0, 2.0]
    path.write_bytes(path.read_bytes()[:100])
    assert training._CheckpointFile(path, "a").restore([fresh]) == 0


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


def tuning_of(
    pictures: LabelledPictures, latents: np.ndarray, seconds: float = 100, checkpoint: Path | None = None
) -> Tuning:
    return Tuning(
        Path("unused"),
        Share(pictures.images, pictures.labels, len(pictures)),
        Share(latents, np.arange(len(latents)) % 3, len(latents)),
        latent_scale=0.01,
        classes=2,
        deadline=time.monotonic() + seconds,
        fingerprint="a",
        checkpoint=checkpoint,
        epochs=2,
        batch=4,
    )


def tiny_network() -> keras.Model:
    keras.utils.set_random_seed(0)
    return architecture.build(32, 2, tiny_stages(), width=8)


def random_latents(model: keras.Model, count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 127, (count, *architecture.lower(model).output.shape[1:]), np.int8)


def test_tuning_changes_the_upper_layers_only() -> None:
    model = tiny_network()
    before = [weights.copy() for weights in model.get_weights()]
    training.tune(model, tuning_of(random_pictures(16, 32, 2), random_latents(model, 10)), quiet)
    changed = {
        variable.path.split("/")[0]
        for variable, old in zip(model.weights, before, strict=True)
        if not np.array_equal(variable.numpy(), old)
    }
    assert changed
    assert all(name.startswith(("block1", "top")) for name in changed)


def test_a_killed_tuning_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    pictures = random_pictures(16, 32, 2)

    def killed(event: TrainingEvent) -> None:
        if event.epoch == 2 and event.progress > 0.5:
            raise KeyboardInterrupt

    model = tiny_network()
    latents = random_latents(model, 10)
    training.tune(model, tuning_of(pictures, latents), quiet)
    other = tiny_network()
    with pytest.raises(KeyboardInterrupt):
        training.tune(other, tuning_of(pictures, latents, checkpoint=tmp_path / "state.npz"), killed)
    events: list[TrainingEvent] = []
    again = tiny_network()
    training.tune(again, tuning_of(pictures, latents, checkpoint=tmp_path / "state.npz"), events.append)
    assert {event.epoch for event in events} == {2}
    for expected, reached in zip(model.get_weights(), again.get_weights(), strict=True):
        assert np.allclose(expected, reached, atol=1e-6)


def tune(report: Report, seconds: float = 100) -> None:
    model = tiny_network()
    training.tune(model, tuning_of(random_pictures(16, 32, 2), random_latents(model, 0), seconds), report)


def test_tuning_reports_epochs_and_loss() -> None:
    events: list[TrainingEvent] = []
    tune(events.append)
    assert {event.phase for event in events} == {"train"}
    assert events[0].message.startswith("Epoch 1 of 2 on the CPU, loss ")
    assert {event.epochs for event in events} == {2}
    assert sorted({event.epoch or 0 for event in events}) == [1, 2]
    assert all(event.loss is not None and np.isfinite(event.loss) for event in events)
    assert [event.progress for event in events] == sorted(event.progress for event in events)
    assert events[-1].progress == 1


def test_tuning_ends_when_its_time_is_over() -> None:
    events: list[TrainingEvent] = []
    tune(events.append, seconds=-1)
    assert [event.epoch for event in events] == [1]


def test_a_gpu_that_fails_gives_way_to_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tuned: list[keras.Model] = []

    def tune(model: keras.Model, *ignored: object) -> None:
        tuned.append(model)
        if len(tuned) == 1:
            raise tf.errors.ResourceExhaustedError(None, None, "no memory")
        model.get_layer("top").bias.assign(np.full(8, 7.0))

    model = tiny_network()
    model.save(tmp_path / "model.h5", include_optimizer=False)
    wanted = replace(tuning_of(random_pictures(4, 32, 2), random_latents(model, 0)), source=tmp_path / "model.h5")
    monkeypatch.setattr(training, "tune", tune)
    with pytest.raises(tf.errors.ResourceExhaustedError):
        training.tune_here(model, wanted, quiet)
    tuned.clear()
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [kind])
    training.tune_here(model, wanted, quiet)
    assert len(tuned) == 2
    assert tuned[1] is not model
    assert model.get_layer("top").bias.numpy().tolist() == [7.0] * 8


def test_distillation_holds_features_where_they_were() -> None:
    before = np.random.default_rng(0).normal(0, 3, (20, 4)).astype(np.float32)
    assert float(training.distillation_loss(before, before, 20)) == 0
    assert float(training.distillation_loss(before + before.std(axis=0), before, 20)) == pytest.approx(1, abs=0.01)


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
