from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers.model import small_stages
from shoe_classifier.ml import architecture, training
from shoe_classifier.ml.dataset import LabelledPictures


def random_pictures(count: int, side: int, labels: int, first: int = 0) -> LabelledPictures:
    rng = np.random.default_rng(first)
    images = rng.integers(0, 256, (count, side, side, 3), np.uint8)
    return LabelledPictures(images, first + np.arange(count) % labels, [f"{i:064x}" for i in range(count)])


def test_batches_mix_all_sources() -> None:
    recipe = training.TrainingConfig(side=32, plain=4, pasted=3, photos=2, others=2)
    photos, backgrounds = random_pictures(5, recipe.load_side, 2), random_pictures(6, recipe.load_side, 2, first=2)
    batches = training._batches(random_pictures(8, recipe.load_side, 2), photos, backgrounds, 4, recipe)
    images, labels = next(iter(batches))
    assert images.shape == (11, 32, 32, 3)
    assert labels.shape == (11, 4)
    assert 0 <= images.numpy().min() <= images.numpy().max() <= 255
    assert np.allclose(labels.numpy().sum(axis=1), 1)
    assert labels.numpy()[:4, 2:].sum() == 0


def test_sampling_with_no_change_is_resizing() -> None:
    ramp = np.tile(np.linspace(0, 255, 64, dtype=np.float32)[None, None, :, None], (1, 64, 1, 3))
    zero, one = tf.zeros([1]), tf.ones([1])
    small = training.warp(tf.constant(ramp), training._matrix(zero, one, one, tf.zeros([1, 2])), 32, "REFLECT")
    assert np.abs(small.numpy()[0, 16, :, 0] - ramp[0, 0, ::2, 0]).max() < 5


def test_pasted_objects_show_and_their_surroundings_stay() -> None:
    keras.utils.set_random_seed(0)
    cut = np.zeros((6, 32, 32, 4), np.uint8)
    cut[:, 8:24, 8:24] = (255, 0, 0, 255)
    green = np.zeros((6, 32, 32, 3), np.float32)
    green[..., 1] = 255
    pasted = training.paste_on_background(tf.constant(cut), tf.constant(green), 32).numpy()
    red = (pasted[..., 0] > 200).mean(axis=(1, 2))
    assert np.all((red > 0.02) & (red < 0.9))
    assert np.all((pasted[..., 1] > 200).any(axis=(1, 2)))


def test_training_goes_on_from_its_checkpoints(tmp_path: Path) -> None:
    recipe = training.TrainingConfig(side=32, stages=small_stages(), epochs=3, steps=2, plain=4, pasted=0)
    pictures = random_pictures(8, recipe.load_side, 2)
    told: list[str] = []

    def cut_off_in_the_second_epoch(_: float, message: str) -> None:
        if message.startswith("epoch 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(pictures, None, None, 2, recipe, cut_off_in_the_second_epoch, tmp_path)
    training.train(pictures, None, None, 2, recipe, lambda _, message: told.append(message), tmp_path)
    assert [message.split(":")[0] for message in told] == ["epoch 2 of 3", "epoch 3 of 3"]


def test_training_starts_from_a_model() -> None:
    recipe = training.TrainingConfig(
        side=32, stages=small_stages(), epochs=1, steps=1, plain=4, pasted=0, learning_rate=1e-9
    )
    start = architecture.build(32, 5, small_stages())
    model = training.train(random_pictures(8, 42, 2), None, None, 2, recipe, lambda *_: None, start=start)
    kernel = start.get_layer("stem_conv").get_weights()[0]
    assert np.allclose(model.get_layer("stem_conv").get_weights()[0], kernel, atol=1e-3)


def test_tuning_changes_the_upper_layers_only() -> None:
    model = architecture.build(32, 2, small_stages(), width=8)
    before = [weights.copy() for weights in model.get_weights()]
    pictures = random_pictures(16, 32, 2)
    latents = np.random.default_rng(1).random((10, *architecture.lower(model).output.shape[1:]), np.float32)
    training.finetune_upper_layers(
        model, pictures, latents, np.arange(10) % 3, 2, lambda *_: None, lambda: False, epochs=1, batch=4
    )
    changed = {
        variable.path.split("/")[0]
        for variable, old in zip(model.weights, before, strict=True)
        if not np.array_equal(variable.numpy(), old)
    }
    assert changed
    assert all(name.startswith(("block2", "block3", "top")) for name in changed)


def test_weights_stay_below_four_megabytes() -> None:
    assert architecture.build(128, 3).count_params() * 4 <= 4_000_000


def test_frozen_blocks_keep_their_weights() -> None:
    recipe = training.TrainingConfig(side=32, stages=small_stages(), epochs=1, steps=2, plain=4, pasted=0, frozen=2)
    start = architecture.build(32, 2, small_stages())
    model = training.train(
        random_pictures(8, recipe.load_side, 2), None, None, 2, recipe, lambda *progress: None, start=start
    )
    changed = {
        layer.name.split("_")[0]
        for layer, old in zip(model.layers, start.layers, strict=True)
        if not all(np.array_equal(a, b) for a, b in zip(layer.get_weights(), old.get_weights(), strict=True))
    }
    assert changed == {"block2", "block3", "top", "head"}


def test_without_epochs_the_network_stays() -> None:
    recipe = training.TrainingConfig(side=32, stages=small_stages(), epochs=0)
    start = architecture.build(32, 2, small_stages())
    model = training.train(random_pictures(8, 42, 2), None, None, 2, recipe, lambda *progress: None, start=start)
    for layer, old in zip(model.layers[:-1], start.layers[:-1], strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(layer.get_weights(), old.get_weights(), strict=True))


def test_rare_labels_are_drawn_as_often() -> None:
    places = training._balanced(np.array([0, 0, 0, 0, 0, 1, 1, 2]))
    assert np.bincount(np.array([0, 0, 0, 0, 0, 1, 1, 2])[places]).tolist() == [5, 5, 5]
    assert set(places) == set(range(8))
