"""The head of model files that 0.1.0 wrote (format 2). It still predicts; the next retrain replaces it."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from shoe_classifier.ml.head import log_odds, softmax
from shoe_classifier.types import Decision


@dataclass(frozen=True)
class CentroidHead:
    """The fitted parameters. Arrays are `float32` unless they say otherwise; `d` features, `k` labels, `m` centroids.

    Attributes:
        kernel, bias: `(d, k)` and `(k,)`, already divided by the temperature.
        temperature: what the raw logits were divided by (Guo et al. 2017, "On Calibration of Modern Neural Networks"),
            above 0.
        mean, whitening, centroids: `(d,)`, `(d, d)`, `(m, d)`. The distance to a label's nearest centroid in whitened
            space tells how unlike the label a picture is (Lee et al. 2018, "A Simple Unified Framework for Detecting
            Out-of-Distribution Samples", with several centroids per label).
        centroid_labels: `int (m,)`, the label of each centroid, ascending; each label has one or more.
        background_weights, background_bias: `(d,)` and a number: the raw logit of showing no label, not divided by the
            temperature.
        unknown_thresholds: `(k,)`, for each label the largest distance that counts as known, above 0.
        uncertain_threshold: smallest confidence that is accepted, 0..1.
    """

    kernel: np.ndarray
    bias: np.ndarray
    temperature: float
    mean: np.ndarray
    whitening: np.ndarray
    centroids: np.ndarray
    centroid_labels: np.ndarray
    background_weights: np.ndarray
    background_bias: float
    unknown_thresholds: np.ndarray
    uncertain_threshold: float

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Features `(n, d)` to calibrated logits `(n, k)`."""
        return features @ self.kernel + self.bias

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Features `(n, d)` to probabilities `(n, k)`, 0..1, in label order."""
        return softmax(self.logits(features))

    def ood_score(self, features: np.ndarray) -> np.ndarray:
        """How unlike anything learned features `(n, d)` are: `(n,)`, 0 or more; above 1 means unknown."""
        distance = (self.distances(features) / self.unknown_thresholds).min(axis=1)
        # `1 + tanh` puts even odds at 1, as the thresholds do with distances: the larger of both decides.
        return np.maximum(distance, 1 + np.tanh(self.background_odds(features)))

    def distances(self, features: np.ndarray) -> np.ndarray:
        """Features `(n, d)` to the distance from the nearest centroid of each label, `(n, k)`, 0 or more."""
        white = (features - self.mean) @ self.whitening  # (n, d)
        norms, starts = self._centroid_norms_and_starts
        # |a - b|² = |a|² - 2ab + |b|², (n, m): no array of (n, m, d) is needed; rounding may leave it just below 0.
        squares = np.square(white).sum(1)[:, None] - 2 * white @ self.centroids.T + norms
        return np.sqrt(np.maximum(np.minimum.reduceat(squares, starts, axis=1), 0))

    @cached_property
    def _centroid_norms_and_starts(self) -> tuple[np.ndarray, np.ndarray]:
        """Squared lengths of the centroids `(m,)`, and the index of each label's first centroid `(k,)`."""
        return np.square(self.centroids).sum(1), np.unique(self.centroid_labels, return_index=True)[1]

    def background_odds(self, features: np.ndarray) -> np.ndarray:
        """Features `(n, d)` to the log-odds of showing none of the labels, judging by the negatives learned: `(n,)`."""
        background = features @ self.background_weights + self.background_bias
        return log_odds(self.logits(features) * self.temperature, background)

    def decide(self, features: np.ndarray, probabilities: np.ndarray) -> list[Decision]:
        """`accepted`, `uncertain` or `unknown` for each of features `(n, d)` with probabilities `(n, k)`."""
        unknown = self.ood_score(features) > 1
        sure = probabilities.max(axis=1) >= self.uncertain_threshold
        return ["unknown" if u else "accepted" if s else "uncertain" for u, s in zip(unknown, sure, strict=True)]
