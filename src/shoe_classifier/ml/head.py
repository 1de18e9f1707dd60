"""What stands on the backbone's features: a linear softmax head, its calibration, and when a picture is unknown.

Serving uses NumPy alone. `head_fitting` fits a head.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from shoe_classifier.types import Decision

BACKGROUND = -1  # label of pictures that show none of the labels


class Answering(Protocol):
    """What answers for features: a head of any kind, with the methods of `Head`."""

    def logits(self, features: np.ndarray) -> np.ndarray: ...

    def probabilities(self, features: np.ndarray) -> np.ndarray: ...

    def decide(self, features: np.ndarray, probabilities: np.ndarray) -> list[Decision]: ...


@dataclass(frozen=True)
class Head:
    """The fitted parameters; `d` features, `k` labels. Arrays are `float32`.

    All logits are divided by the temperature (Guo et al. 2017, "On Calibration of Modern Neural Networks").

    Attributes:
        kernel, bias: `(d, k)` and `(k,)`, the labels' logits.
        background_weights, background_bias: `(d,)` and a number: the logit of showing none of the labels.
        unknown_thresholds: `(k,)`, for each label the largest log-odds of the background at which a picture that looks
            most like this label still counts as known.
        uncertain_threshold: smallest confidence that is accepted, 0..1.
        temperature: above 0.
    """

    kernel: np.ndarray
    bias: np.ndarray
    background_weights: np.ndarray
    background_bias: float
    unknown_thresholds: np.ndarray
    uncertain_threshold: float
    temperature: float

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Features `(n, d)` to calibrated logits `(n, k)`."""
        return features @ self.kernel + self.bias

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Features `(n, d)` to probabilities `(n, k)`, 0..1, in label order."""
        return softmax(self.logits(features))

    def background_odds(self, features: np.ndarray) -> np.ndarray:
        """Features `(n, d)` to the log-odds of the background against all labels together, `(n,)`.

        They are not divided by the temperature, so that thresholds outlive a calibration.
        """
        background = features @ self.background_weights + self.background_bias
        return log_odds(self.logits(features) * self.temperature, background * self.temperature)

    def decide(self, features: np.ndarray, probabilities: np.ndarray) -> list[Decision]:
        """`accepted`, `uncertain` or `unknown` for each of features `(n, d)` with probabilities `(n, k)`."""
        thresholds = self.unknown_thresholds[probabilities.argmax(axis=1)]  # (n,)
        unknown = self.background_odds(features) > thresholds
        sure = probabilities.max(axis=1) >= self.uncertain_threshold
        return ["unknown" if u else "accepted" if s else "uncertain" for u, s in zip(unknown, sure, strict=True)]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Logits of any shape to probabilities, 0..1, that add up to 1 along the last axis."""
    exponent = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponent / exponent.sum(axis=-1, keepdims=True)


def log_odds(logits: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Logits `(n, k)` and the background's `(n,)` to the log-odds of the background against the labels, `(n,)`."""
    top = logits.max(axis=1)
    return background - top - np.log(np.exp(logits - top[:, None]).sum(axis=1))


def activation_map(feature_map: np.ndarray, kernel: np.ndarray, label: int) -> np.ndarray:
    """Where a head recognises `label` (Zhou et al. 2016, class activation mapping).

    Args:
        feature_map: `float32 (h, w, d)`.
        kernel: of the head, `(d, k)`.
        label: index of the label.

    Returns:
        `float (h, w)`, 0..1.
    """
    others = np.delete(kernel, label, axis=1).mean(axis=1) if kernel.shape[1] > 1 else 0
    heat = feature_map @ (kernel[:, label] - others)
    heat = np.maximum(heat - heat.min(), 0)
    return heat / (heat.max() + 1e-9)
