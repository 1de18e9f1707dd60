"""How good a model is on pictures it has not learnt from."""

from collections.abc import Sequence
from typing import Any

import numpy as np

MACRO_F1_LOSS = 0.01  # a candidate may lose so much against the live model
RECALL_LOSS = 0.03  # and so much on any one label
LESSON_RECALL = 0.5  # what it must reach on each label's new pictures: their labels may be wrong, or hopeless
LESSON_PICTURES = 8  # with fewer of them held out, chance decides
CONTRADICTED_SHARE = 0.2  # labels that the live model is sure are wrong, among those that it is sure of
CONTRADICTIONS = 12  # fewer may be what users correct it with
DISPUTED_SHARE = 1 / 3  # of labels that the rest of the lesson contradicts; hard pictures reach a quarter
DISTINCT_SHARE = 0.2  # of a label's pictures that must look different from each other
DISTINCT_FROM = 10  # pictures; fewer may well be alike
NEW_LABEL_PICTURES = 5  # a new label cannot be learnt from fewer different ones
INTRUDERS = 0.05  # rise of the share of backgrounds that are taken for an old label
_BINS = 15
_MISTAKES = 12


def evaluate(
    probabilities: np.ndarray,
    labels: np.ndarray,
    names: list[str],
    decisions: Sequence[str] = (),
    pictures: Sequence[str] = (),
) -> dict[str, Any]:
    """Metrics of `(n, k)` probabilities against `(n,)` labels.

    Args:
        decisions: `accepted`, `uncertain` or `unknown` for each, if they are known.
        pictures: what each picture is called, if that is known.

    Returns:
        `accuracy`, `balanced_accuracy` (mean recall) and `macro_f1` over the labels that occur, and `ece` (calibration
        error, 15 bins), each 0..1; `accuracy_interval`, 95 %;
        `per_class` of each name: `precision`, `recall`, `f1`, 0..1, and `support`; `samples`; `labels`;
        `confusion_matrix`, a row for each true label; `decisions`, the share of each, 0..1, and `unknown_rate` of each
        of `per_class`; `mistakes`, the most confident ones first: `picture`, `label`, `predicted_class`, `confidence`.
    """
    from sklearn.metrics import precision_recall_fscore_support

    places = np.arange(len(names))
    guesses = probabilities.argmax(axis=1)
    figures = np.zeros((4, len(names)))
    if len(labels):
        figures = np.array(precision_recall_fscore_support(labels, guesses, labels=places, zero_division=0))
    precision, recall, f1, support = figures.tolist()
    confusion = np.zeros((len(names), len(names)), int)
    np.add.at(confusion, (labels, guesses), 1)
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
                "unknown_rate": _share(decided[labels == place] == "unknown") if len(decided) else 0.0,
            }
            for place, (name, p, r, f, s) in enumerate(zip(names, precision, recall, f1, support, strict=True))
        },
        "confusion_matrix": confusion.tolist(),
        "mistakes": _mistakes(probabilities, labels, names, pictures),
        "decisions": {name: _share(decided == name) for name in ("accepted", "uncertain", "unknown")},
    }


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
    """The 95 % interval of a share, 0..1 (Wilson 1927), which also holds for few tries and shares near 1."""
    if not tries:
        return [0.0, 1.0]
    share, z = hits / tries, 1.96
    centre = (share + z * z / (2 * tries)) / (1 + z * z / tries)
    half = z / (1 + z * z / tries) * np.sqrt(share * (1 - share) / tries + z * z / (4 * tries * tries))
    return [round(max(0.0, float(centre - half)), 5), round(min(1.0, float(centre + half)), 5)]


def calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Expected calibration error, 0..1: confidence less accuracy, over bins of confidence (Naeini et al. 2015)."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    gaps = [abs(confidence[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)]
    return float(sum(gaps))


def gate(
    baseline: dict[str, Any],
    retained: dict[str, Any],
    lesson: dict[str, Any],
    *,
    contradictions: tuple[int, int] = (0, 0),
    label_disagreements: tuple[int, int] = (0, 0),
    distinct: dict[str, tuple[int, int]] | None = None,
    background_false_accepts: tuple[float, float] = (0.0, 0.0),
) -> list[str]:
    """Reasons why a model must not replace the live one; none means that it may.

    Args:
        baseline: metrics of the live model, on the pictures that were held out before.
        retained: of the candidate, on those same pictures.
        lesson: of the candidate, on the held-out pictures of what it was just taught.
        contradictions: `sure` and `contradicted` of `finetune.GateEvidence`.
        label_disagreements: `label_disagreements` and `asked` of `finetune.GateEvidence`.
        distinct, background_false_accepts: see `finetune.GateEvidence`.
    """
    reasons = []
    sure, contradicted = contradictions
    old = [name for name, figures in baseline["per_class"].items() if figures["support"]]
    f1 = float(np.mean([retained["per_class"][name]["f1"] for name in old])) if old else 1.0
    if not f1 >= baseline["macro_f1"] - MACRO_F1_LOSS:  # not a number is not enough, either
        reasons.append(f"macro-F1 over the old labels fell from {baseline['macro_f1']:.3f} to {f1:.3f}")
    for name in old:
        before, after = baseline["per_class"][name]["recall"], retained["per_class"][name]["recall"]
        if after < before - RECALL_LOSS:
            reasons.append(f"recall of {name!r} fell from {before:.3f} to {after:.3f}")
    for name, figures in lesson["per_class"].items():
        if figures["support"] >= LESSON_PICTURES and figures["recall"] < LESSON_RECALL:
            reasons.append(f"it knows only {figures['recall']:.0%} of the new pictures of {name!r} that were held out")
    reasons += _too_alike(distinct or {}, old)
    if contradicted >= CONTRADICTIONS and contradicted > CONTRADICTED_SHARE * sure:
        reasons.append(f"the live model is sure of another label for {contradicted} of {sure} of the new pictures")
    disagreeing, asked = label_disagreements
    if disagreeing > DISPUTED_SHARE * asked:
        reasons.append(
            f"{disagreeing} of {asked} new pictures look like another label to a head that saw only the others"
        )
    before, after = background_false_accepts
    if after > before + INTRUDERS:
        reasons.append(f"it accepts {after:.0%} of the held-out backgrounds, the live model {before:.0%}")
    return reasons


def _too_alike(distinct: dict[str, tuple[int, int]], old: list[str]) -> list[str]:
    reasons = []
    for name, (different, pictures) in distinct.items():
        if pictures >= DISTINCT_FROM and different < DISTINCT_SHARE * pictures:
            reasons.append(f"only {different} of the {pictures} pictures of {name!r} look different")
        elif name not in old and different < NEW_LABEL_PICTURES:
            reasons.append(f"{name!r} is new and has {different} different pictures; it needs {NEW_LABEL_PICTURES}")
    return reasons
