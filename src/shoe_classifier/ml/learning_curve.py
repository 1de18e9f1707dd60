"""How well a label is recognised with fewer pictures of it, and what more pictures would bring."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from shoe_classifier.ml.cross_validation import FOLDS, Examined

MORE = 20  # pictures whose gain is estimated
_SHARES = (0.25, 0.5, 1.0)
_FEWEST = 8  # pictures of a label for which a curve says anything
_MOST = 200  # pictures of a label that are examined
_MOST_IN_ALL = 2000
_HARDLY = 0.01  # gain of recall that is not worth more pictures


@dataclass(frozen=True)
class LearningCurve:
    """The learning curve of one label.

    Attributes:
        points: pairs of pictures learned from and recall, 0..1, on pictures not learned from; few pictures first.
        expected_gain: of recall, from 20 more pictures than there are, 0..1.
    """

    points: tuple[tuple[int, float], ...]
    expected_gain: float

    @property
    def enough(self) -> bool:
        """Whether more pictures would hardly help."""
        return self.expected_gain < _HARDLY


def learning_curves(examined: Examined, go_on: Callable[[], None] = lambda: None) -> dict[int, LearningCurve]:
    """Draw the curves of all labels with enough pictures, by their index. `go_on` may raise to stop."""
    counts = np.bincount(examined.labels, minlength=examined.classes)
    few = _sample(examined.labels)
    exam = examined[few]
    hits = [exam.probabilities(share, go_on).argmax(axis=1) == exam.labels for share in _SHARES]
    curves = {}
    for label in np.flatnonzero(counts >= _FEWEST):
        mine = exam.labels == label
        learned = [round(share * int(mine.sum()) * (FOLDS - 1) / FOLDS) for share in _SHARES]
        right = [int(hit[mine].sum()) for hit in hits]
        points = tuple((n, round(r / int(mine.sum()), 4)) for n, r in zip(learned, right, strict=True))
        gain = _gain(learned, right, int(mine.sum()), int(counts[label]))
        curves[int(label)] = LearningCurve(points, round(gain, 4))
    return curves


def _sample(labels: np.ndarray) -> np.ndarray:
    """Indices of pictures to examine, the same number of each label where there are many: `int (k,)`, ascending."""
    most = min(_MOST, max(_FEWEST, _MOST_IN_ALL // max(1, len(np.unique(labels)))))
    return np.sort(np.concatenate([np.flatnonzero(labels == label)[:most] for label in np.unique(labels)]))


def _gain(learned: list[int], right: list[int], tested: int, pictures: int) -> float:
    """Fit errors = a · pictures^-b (Cortes et al. 1993, "Learning Curves") and go 20 pictures further.

    The errors have half a picture added, so that none in a small test does not mean never. They do not rise.
    """
    errors = [(tested - hits + 0.5) / (tested + 1) for hits in right]
    slope = np.polyfit(np.log(np.maximum(learned, 1)), np.log(errors), 1)[0]
    rate = min(max(-slope, 0.0), 1.0)
    return float(errors[-1] * (1 - (pictures / (pictures + MORE)) ** rate))
