"""Metrics of a model on pictures that it has not learned from."""

from collections.abc import Sequence
from typing import Any

import numpy as np

_BINS = 15
_MISTAKES = 12


def evaluate(
    probabilities: np.ndarray,
    labels: np.ndarray,
    names: list[str],
    decisions: Sequence[str] = (),
    pictures: Sequence[str] = (),
) -> dict[str, Any]:
    """Measure predictions against the true labels.

    Args:
        probabilities: `float (n, k)`, 0..1, in label order.
        labels: `int (n,)`, the index of each true label, 0..k-1.
        names: the `k` labels, in order.
        decisions: `accepted`, `uncertain` or `unknown` for each of the `n` pictures, if known.
        pictures: the name of each of the `n` pictures, if known.

    Returns:
        `accuracy`, `balanced_accuracy` (mean recall) and `macro_f1` over the labels that occur, and `ece` (calibration
        error, 15 bins), each 0..1; `accuracy_interval`, 95 %;
        `per_class` of each name: `precision`, `recall`, `f1`, 0..1, and `support`; `samples`; `labels`;
        `confusion_matrix`, a row for each true label; `decisions`, the share of each, 0..1, and `unknown_rate` in each
        entry of `per_class`; `mistakes`, the most confident first: `picture`, `label`, `predicted_class`, `confidence`.
    """
    guesses = probabilities.argmax(axis=1)
    confusion = np.zeros((len(names), len(names)), int)
    np.add.at(confusion, (labels, guesses), 1)
    precision, recall, f1, support = _figures(confusion)
    decided = np.array(decisions)
    present = [f for f, s in zip(f1, support, strict=True) if s]
    return {
        "accuracy": round(float(np.mean(guesses == labels)), 5) if present else 0.0,
        "accuracy_interval": interval(int((guesses == labels).sum()), len(labels)),
        "balanced_accuracy": round(float(np.mean([r for r, s in zip(recall, support, strict=True) if s] or [0])), 5),
        "macro_f1": round(float(np.mean(present)), 5) if present else 0.0,
        "ece": round(calibration_error(probabilities, labels), 5),
        "samples": len(labels),
        "labels": list(names),
        "per_class": {
            name: {
                "precision": round(p, 5),
                "recall": round(r, 5),
                "f1": round(f, 5),
                "support": int(s),
                "unknown_rate": _share(decided[labels == index] == "unknown") if len(decided) else 0.0,
            }
            for index, (name, p, r, f, s) in enumerate(zip(names, precision, recall, f1, support, strict=True))
        },
        "confusion_matrix": confusion.tolist(),
        "mistakes": _mistakes(probabilities, labels, names, pictures),
        "decisions": {name: _share(decided == name) for name in ("accepted", "uncertain", "unknown")},
    }


def _figures(confusion: np.ndarray) -> list[list[float]]:
    """Precision, recall, F1 and support of each label; 0 where nothing was predicted, or nothing is.

    Not those of scikit-learn, whose import would keep 15 MB of the service's memory after the first retrain.
    """
    hits, guessed, support = np.diag(confusion), confusion.sum(axis=0), confusion.sum(axis=1)
    shares = hits / np.maximum(guessed, 1), hits / np.maximum(support, 1), 2 * hits / np.maximum(guessed + support, 1)
    return [figure.tolist() for figure in (*shares, support)]


def _share(chosen: np.ndarray) -> float:
    return round(float(chosen.mean()), 5) if chosen.size else 0.0


def _mistakes(
    probabilities: np.ndarray, labels: np.ndarray, names: list[str], pictures: Sequence[str]
) -> list[dict[str, Any]]:
    guesses, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(guesses != labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:_MISTAKES]
    return [
        {
            "picture": pictures[i] if len(pictures) else None,
            "label": names[labels[i]],
            "predicted_class": names[guesses[i]],
            "confidence": round(float(confidence[i]), 5),
        }
        for i in worst
    ]


def interval(hits: int, tries: int) -> list[float]:
    """The 95 % interval of a share, `[low, high]` in 0..1 (Wilson 1927), valid for few tries and shares near 1, too."""
    if not tries:
        return [0.0, 1.0]
    share, z = hits / tries, 1.96
    centre = (share + z * z / (2 * tries)) / (1 + z * z / tries)
    half = z / (1 + z * z / tries) * np.sqrt(share * (1 - share) / tries + z * z / (4 * tries * tries))
    return [round(max(0.0, float(centre - half)), 5), round(min(1.0, float(centre + half)), 5)]


def calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Expected calibration error, 0..1 (Naeini et al. 2015): the gap between confidence and accuracy in each of 15 bins
    of confidence, weighted by the bin's share of pictures.

    Args:
        probabilities: `float (n, k)`, 0..1.
        labels: `int (n,)`, 0..k-1.
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    gaps = [abs(confidence[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)]
    return float(sum(gaps))
