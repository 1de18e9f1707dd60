"""A small network for the tests, and noise to train it with."""

import numpy as np

from shoe_classifier.ml.dataset import LabelledPictures


def small_stages() -> tuple[object, ...]:
    from shoe_classifier.ml.architecture import Stage

    return (Stage(3, 1, 1, 8, 1), Stage(3, 2, 4, 12, 1), Stage(3, 2, 4, 24, 2))


def random_pictures(count: int, size: int, labels: int, first: int = 0) -> LabelledPictures:
    """Noise, `uint8 (count, size, size, 3)`, with labels from `first` on."""
    rng = np.random.default_rng(first)
    images = rng.integers(0, 256, (count, size, size, 3), np.uint8)
    return LabelledPictures(images, first + np.arange(count) % labels, [f"{i:064x}" for i in range(count)])
