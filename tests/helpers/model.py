"""A small network for the tests, and noise to train it with."""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from helpers.pictures import SIDE
from shoe_classifier.ml.dataset import LabelledPictures


def small_stages() -> tuple[Any, ...]:
    """Those of `fixtures/shapes.h5`."""
    from shoe_classifier.ml.architecture import Stage

    return (Stage(3, 1, 1, 8, 1), Stage(3, 2, 4, 12, 1), Stage(3, 2, 4, 24, 2))


def tiny_stages() -> tuple[Any, ...]:
    """As few layers as a full retrain needs: one block below the latents, and one above."""
    from shoe_classifier.ml.architecture import Stage

    return (Stage(3, 1, 1, 8, 1), Stage(3, 2, 2, 8, 1))


def small_config() -> Callable[..., object]:
    """Stands in for `training.TrainingConfig`: the network is that of `fixtures/shapes.h5`, unless told otherwise."""
    from shoe_classifier.ml.training import TrainingConfig

    return partial(TrainingConfig, image_size=SIDE, stages=small_stages(), width=32)


def random_pictures(count: int, size: int, labels: int, first: int = 0, seed: int = 0) -> LabelledPictures:
    """Noise, `uint8 (count, size, size, 3)`, with labels from `first` on."""
    images = np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8)
    hashes = [hashlib.sha256(image.tobytes()).hexdigest() for image in images]
    return LabelledPictures(images, first + np.arange(count) % labels, hashes)
