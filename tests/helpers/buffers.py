"""Replay buffers, compared."""

import numpy as np

from shoe_classifier.ml.replay_buffer import ReplayBuffer


def assert_same(first: ReplayBuffer, second: ReplayBuffer) -> None:
    """Compare two buffers, whose samples may stand in any order."""
    first, second = first[np.argsort(first.keys)], second[np.argsort(second.keys)]
    for name in ("features", "labels", "held_out", "photo", "shipped", "named", "keys", "has_latent"):
        assert np.array_equal(getattr(first, name), getattr(second, name)), name
    assert np.array_equal(first.float_latents(), second.float_latents())
