"""What heads that were fitted without a training picture say about it, for all pictures in turn."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from shoe_classifier.ml.head import softmax
from shoe_classifier.ml.softmax_regression import PrincipalAxes, SoftmaxRegression

FOLDS = 5
_STEPS = 15
# Stronger regularisation than a head's: with weaker, wrong labels are learned by heart and explain each other.
_INVERSE_PENALTY = 0.0002
_OTHERS_WEIGHT = 0.3  # of the replay buffer's samples, which are often unlike what users bring
_KEPT_VARIANCE = 0.9
_AXES_PICTURES = 4000  # from which the axes are found
_AT_ONCE = 2000  # pictures whose features are in single precision at one time


@dataclass(frozen=True)
class Examined:
    """Training pictures to cross-validate, and others with known labels that always teach.

    Attributes:
        coordinates: of the `n` pictures, `float32 (n, r)`, in the principal axes of their standardised features.
        labels: `int (n,)`, 0..classes-1.
        other_coordinates, other_labels: of the others, `(m, r)` and `(m,)`.
        variances: of the axes, `(r,)`.
        classes: number of labels.
    """

    coordinates: np.ndarray
    labels: np.ndarray
    other_coordinates: np.ndarray
    other_labels: np.ndarray
    variances: np.ndarray
    classes: int

    def __getitem__(self, keep: np.ndarray) -> "Examined":
        """Choose pictures by indices `int (k,)`; the others stay."""
        return Examined(
            self.coordinates[keep],
            self.labels[keep],
            self.other_coordinates,
            self.other_labels,
            self.variances,
            self.classes,
        )

    def probabilities(self, share: float = 1.0, go_on: Callable[[], None] = lambda: None) -> np.ndarray:
        """Probabilities of each label, `float32 (n, classes)`, from heads that have not seen the picture.

        Args:
            share: of the pictures of each label that may be learned from, above 0 and up to 1.
            go_on: called before each fit; may raise to stop.
        """
        place = _places(self.labels)
        counts = np.bincount(self.labels, minlength=self.classes)
        allowed = place < np.ceil(share * counts)[self.labels]
        result = np.zeros((len(self.labels), self.classes), np.float32)
        for fold in range(FOLDS):
            go_on()
            out = place % FOLDS == fold
            if out.any():
                result[out] = self._fit(allowed & ~out, self.coordinates[out])
        return result

    def _fit(self, learned: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
        targets = np.concatenate([self.labels[learned], self.other_labels])
        if not len(targets):
            return np.full((len(coordinates), self.classes), 1 / self.classes, np.float32)
        known = np.concatenate([self.coordinates[learned], self.other_coordinates])
        weights = np.where(np.arange(len(targets)) < learned.sum(), 1.0, _OTHERS_WEIGHT)
        problem = SoftmaxRegression(known, self.variances, targets, weights, self.classes)
        solution, _ = problem.solve(np.full(self.classes, _INVERSE_PENALTY), _STEPS)
        return softmax(coordinates @ solution[:-1] + solution[-1])


def examine(
    features: np.ndarray, labels: np.ndarray, other_features: np.ndarray, other_labels: np.ndarray, classes: int
) -> Examined:
    """Prepare pictures for cross-validation.

    Args:
        features: `float16 (n, d)`, of at least one picture.
        labels: `int (n,)`.
        other_features, other_labels: `float16 (m, d)` and `int (m,)`, of pictures that always teach.
        classes: number of labels.
    """
    every = max(1, -(-len(features) // _AXES_PICTURES))
    sample = features[::every].astype(np.float32)
    axes = PrincipalAxes.of(sample, np.ones(len(sample)), _KEPT_VARIANCE)
    return Examined(
        _coordinates(axes, features),
        labels,
        _coordinates(axes, other_features),
        other_labels,
        axes.variances,
        classes,
    )


def _coordinates(axes: PrincipalAxes, features: np.ndarray) -> np.ndarray:
    result = np.zeros((len(features), len(axes.variances)), np.float32)
    for start in range(0, len(features), _AT_ONCE):
        result[start : start + _AT_ONCE] = axes.coordinates(features[start : start + _AT_ONCE].astype(np.float32))
    return result


def _places(labels: np.ndarray) -> np.ndarray:
    """The place of each picture among those of its label, in an order that is random and always the same."""
    order = np.random.default_rng(0).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    counts = np.bincount(labels)
    places = np.empty(len(labels), int)
    places[order] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return places
