"""What a model answers to a picture, as operations of a graph: `head.Head` and `shows_nothing` in any format.

Formats differ in how they write an operation, so each has a `Graph` of its own; what is computed is here, once.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from shoe_classifier.ml import preprocessing
from shoe_classifier.ml.head import Head
from shoe_classifier.types import Decision

PICTURE, PROBABILITIES, DECISION = "picture", "probabilities", "decision"  # input and outputs of every export
DECISIONS: tuple[Decision, ...] = ("accepted", "uncertain", "unknown")  # what the numbers of the output `decision` mean

Tensor = Any  # of the format: an index, or a name


class Graph(Protocol):
    """Adds operations to a graph. A tensor is what the method that made it returned; the first dimension is 1."""

    def constant(self, values: ArrayLike) -> Tensor: ...
    def apply(self, operation: str, *inputs: Tensor) -> Tensor:
        """One of add, sub, mul, exp, log, greater, less, or, select, element by element, with broadcasting."""

    def linear(self, x: Tensor, weights: np.ndarray, bias: np.ndarray) -> Tensor:
        """`(1, d)`, weights `(d, k)` and bias `(k,)` to `(1, k)`."""

    def softmax(self, x: Tensor) -> Tensor: ...
    def reduce(self, operation: str, x: Tensor, axes: Sequence[int]) -> Tensor:
        """One of max, sum, mean; the axes are gone afterwards."""

    def argmax(self, x: Tensor) -> Tensor:
        """`(1, k)` to `(1,)`."""

    def take(self, table: np.ndarray, index: Tensor) -> Tensor:
        """A constant `(k,)` and an index `(1,)` to `(1,)`."""

    def slice(self, x: Tensor, starts: Sequence[int], ends: Sequence[int], steps: Sequence[int]) -> Tensor: ...


def add_answer(graph: Graph, head: Head, picture: Tensor, side: int, features: Tensor) -> tuple[Tensor, Tensor]:
    """Add a head to a backbone.

    Args:
        picture: `float32 (1, side, side, 3)`, RGB 0-255.
        features: `float32 (1, d)`.

    Returns:
        The probabilities, `float32 (1, k)`, and the decision, `int32 (1,)`, an index into `DECISIONS`.
    """
    logits = graph.linear(features, head.kernel, head.bias)
    probabilities = graph.softmax(logits)
    thresholds = graph.take(head.unknown_thresholds, graph.argmax(logits))
    strange = graph.apply("greater", _background_odds(graph, head, features, logits), thresholds)
    unknown = graph.apply("or", strange, _shows_nothing(graph, picture, side))
    confidence = graph.reduce("max", probabilities, [1])
    unsure = graph.apply("less", confidence, graph.constant(head.uncertain_threshold))
    accepted, uncertain, unknown_number = (graph.constant(np.int32(number)) for number in range(len(DECISIONS)))
    known = graph.apply("select", unsure, uncertain, accepted)
    return probabilities, graph.apply("select", unknown, unknown_number, known)


def _background_odds(graph: Graph, head: Head, features: Tensor, logits: Tensor) -> Tensor:
    """`Head.background_odds`, `(1,)`."""
    temperature = graph.constant(head.temperature)
    column = graph.linear(
        features, head.background_weights[:, None], np.array([head.background_bias], np.float32)
    )  # (1, 1)
    background = graph.reduce("sum", column, [1])  # (1,)
    top = graph.reduce("max", logits, [1])
    below = graph.apply("mul", graph.apply("sub", logits, top), temperature)  # (1, k), 0 or less
    labels = graph.apply("log", graph.reduce("sum", graph.apply("exp", below), [1]))
    return graph.apply("sub", graph.apply("mul", graph.apply("sub", background, top), temperature), labels)


def _shows_nothing(graph: Graph, picture: Tensor, side: int) -> Tensor:
    """`preprocessing.shows_nothing`, `bool (1,)`."""
    step = preprocessing.SAMPLING_STEP
    sample = graph.slice(picture, [0, 0, 0, 1], [1, side, side, 2], [1, step, step, 1])  # (1, h, w, 1)
    count = -(-side // step)
    left = graph.slice(sample, [0, 0, 0, 0], [1, count, count - 1, 1], [1, 1, 1, 1])
    right = graph.slice(sample, [0, 0, 1, 0], [1, count, count, 1], [1, 1, 1, 1])
    variance = _mean_square(graph, graph.apply("sub", sample, graph.reduce("mean", sample, [1, 2, 3])))
    steps = _mean_square(graph, graph.apply("sub", right, left))
    even = graph.apply("less", variance, graph.constant(preprocessing.LEAST_VARIANCE))
    noise = graph.apply("greater", steps, graph.apply("mul", variance, graph.constant(preprocessing.NOISE)))
    return graph.apply("or", even, noise)


def _mean_square(graph: Graph, x: Tensor) -> Tensor:
    return graph.reduce("mean", graph.apply("mul", x, x), [1, 2, 3])
