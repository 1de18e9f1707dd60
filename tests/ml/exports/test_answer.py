from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike

from helpers.pictures import SHAPES, SIDE, draw
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml.exports.answer import DECISIONS, add_answer
from shoe_classifier.ml.head import softmax
from shoe_classifier.ml.live_model import LiveModel
from shoe_classifier.ml.preprocessing import decode

OPERATIONS = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "exp": np.exp,
    "log": np.log,
    "greater": np.greater,
    "less": np.less,
    "or": np.logical_or,
    "select": np.where,
}


class NumpyGraph:
    """Computes each operation as soon as it is added."""

    def constant(self, values: ArrayLike) -> np.ndarray:
        return np.asarray(values)

    def apply(self, operation: str, *inputs: np.ndarray) -> np.ndarray:
        return OPERATIONS[operation](*inputs)

    def linear(self, x: np.ndarray, weights: np.ndarray, bias: np.ndarray) -> np.ndarray:
        return x @ weights + bias

    def softmax(self, x: np.ndarray) -> np.ndarray:
        return softmax(x)

    def reduce(self, operation: str, x: np.ndarray, axes: Sequence[int]) -> np.ndarray:
        return getattr(x, operation)(axis=tuple(axes))

    def argmax(self, x: np.ndarray) -> np.ndarray:
        return x.argmax(axis=1)

    def take(self, table: np.ndarray, index: np.ndarray) -> np.ndarray:
        return table[index]

    def slice(self, x: np.ndarray, starts: Sequence[int], ends: Sequence[int], steps: Sequence[int]) -> np.ndarray:
        return x[tuple(slice(*bounds) for bounds in zip(starts, ends, steps, strict=True))]


@pytest.mark.parametrize("uncertain_below", [0.5, 1.01])
def test_the_operations_answer_as_the_service(model_file: Path, uncertain_below: float) -> None:
    bundle = bundles.read(model_file)
    model = LiveModel(replace(bundle, head=replace(bundle.head, uncertain_threshold=uncertain_below)))
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    pictures = [decode(draw(label, seed), SIDE) for label in (*SHAPES, "hat") for seed in range(5)]
    seen = set()
    for picture in [*pictures, noise, np.full_like(noise, 90)]:
        features = model.backbone.features(picture)[None]
        probabilities, decision = add_answer(
            NumpyGraph(), model.bundle.head, picture[None].astype(np.float32), SIDE, features
        )
        expected = model.classify(picture)
        assert DECISIONS[int(decision[0])] == expected.decision
        assert np.allclose(probabilities[0], [*expected.probabilities.values()], atol=1e-6)
        seen.add(expected.decision)
    assert seen == ({"accepted", "unknown"} if uncertain_below == 0.5 else {"uncertain", "unknown"})
