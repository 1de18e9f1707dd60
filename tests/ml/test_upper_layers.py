import time
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers.model import random_pictures, tiny_stages
from shoe_classifier.ml import architecture, upper_layers
from shoe_classifier.ml.batches import Share
from shoe_classifier.ml.dataset import LabelledPictures
from shoe_classifier.ml.tuning import Tuning
from shoe_classifier.types import Report, TrainingEvent


def quiet(event: TrainingEvent) -> None:
    pass


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
    upper_layers.tune(model, tuning_of(random_pictures(16, 32, 2), random_latents(model, 10)), quiet)
    changed = {
        variable.path.split("/")[0]
        for variable, old in zip(model.weights, before, strict=True)
        if not np.array_equal(variable.numpy(), old)
    }
    assert changed
    assert all(name.startswith(("block1", "top")) for name in changed)


@pytest.mark.slow
def test_a_killed_tuning_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    pictures = random_pictures(16, 32, 2)

    def killed(event: TrainingEvent) -> None:
        if event.epoch == 2 and event.progress > 0.5:
            raise KeyboardInterrupt

    model = tiny_network()
    latents = random_latents(model, 10)
    upper_layers.tune(model, tuning_of(pictures, latents), quiet)
    other = tiny_network()
    with pytest.raises(KeyboardInterrupt):
        upper_layers.tune(other, tuning_of(pictures, latents, checkpoint=tmp_path / "state.npz"), killed)
    events: list[TrainingEvent] = []
    again = tiny_network()
    upper_layers.tune(again, tuning_of(pictures, latents, checkpoint=tmp_path / "state.npz"), events.append)
    assert {event.epoch for event in events} == {2}
    for expected, reached in zip(model.get_weights(), again.get_weights(), strict=True):
        assert np.allclose(expected, reached, atol=1e-6)


def tune(report: Report, seconds: float = 100) -> None:
    model = tiny_network()
    upper_layers.tune(model, tuning_of(random_pictures(16, 32, 2), random_latents(model, 0), seconds), report)


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
    monkeypatch.setattr(upper_layers, "tune", tune)
    with pytest.raises(tf.errors.ResourceExhaustedError):
        upper_layers.tune_here(model, wanted, quiet)
    tuned.clear()
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [kind])
    upper_layers.tune_here(model, wanted, quiet)
    assert len(tuned) == 2
    assert tuned[1] is not model
    assert model.get_layer("top").bias.numpy().tolist() == [7.0] * 8


def test_distillation_holds_features_where_they_were() -> None:
    before = np.random.default_rng(0).normal(0, 3, (20, 4)).astype(np.float32)
    assert float(upper_layers.distillation_loss(before, before, 20)) == 0
    assert float(upper_layers.distillation_loss(before + before.std(axis=0), before, 20)) == pytest.approx(1, abs=0.01)
