"""A small network for the tests, and noise to train it with."""

import hashlib

import numpy as np

from shoe_classifier.ml.dataset import LabelledPictures


def small_stages() -> tuple[object, ...]:
    from shoe_classifier.ml.architecture import Stage

    return (Stage(3, 1, 1, 8, 1), Stage(3, 2, 4, 12, 1), Stage(3, 2, 4, 24, 2))


def tiny_stages() -> tuple[object, ...]:
    """As few layers as a full retrain needs: one block below the latents, and one above."""
    from shoe_classifier.ml.architecture import Stage

    return (Stage(3, 1, 1, 8, 1), Stage(3, 2, 2, 8, 1))


def random_pictures(count: int, size: int, labels: int, first: int = 0, seed: int = 0) -> LabelledPictures:
    """Noise, `uint8 (count, size, size, 3)`, with labels from `first` on."""
    images = np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8)
    hashes = [hashlib.sha256(image.tobytes()).hexdigest() for image in images]
    return LabelledPictures(images, first + np.arange(count) % labels, hashes)
