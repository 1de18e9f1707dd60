"""The gate: whether a candidate may replace the live model."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class GatePolicy:
    """Thresholds of the gate. Shares are 0..1; counts are pictures.

    Attributes:
        max_macro_f1_loss: how much macro-F1 over the old labels may fall below the live model's.
        max_recall_loss: how much the recall of any one old label may fall.
        min_new_recall: recall that each label must reach on the held-out pictures of this retrain. Below it, the
            labels are probably wrong or cannot be learned.
        min_new_held_out: with fewer held-out pictures of a label, chance decides its recall, so it is not checked.
        max_contradicted_share: share of the pictures the live model is confident about that it may label otherwise.
        min_contradictions: fewer contradictions than this may be users correcting the model, so they pass.
        max_disagreement_share: share of labels that cross-validation may contradict. Correct but hard pictures reach
            a quarter.
        min_distinct_share: share of a label's pictures that must look different from each other.
        min_pictures_for_distinct: with fewer pictures of a label, all of them may well look alike.
        min_distinct_of_new_label: a new label cannot be learned from fewer different pictures.
        max_false_accept_rise: how much the share of negatives accepted as an old label may rise.
    """

    max_macro_f1_loss: float = 0.01
    max_recall_loss: float = 0.03
    min_new_recall: float = 0.5
    min_new_held_out: int = 8
    max_contradicted_share: float = 0.2
    min_contradictions: int = 12
    max_disagreement_share: float = 1 / 3
    min_distinct_share: float = 0.2
    min_pictures_for_distinct: int = 10
    min_distinct_of_new_label: int = 5
    max_false_accept_rise: float = 0.05


@dataclass(frozen=True)
class GateEvidence:
    """What a retrain reports about its candidate. Metrics are as `evaluation.evaluate` gives them.

    Attributes:
        metrics: the candidate on all held-out pictures. Its entry `changed` lists the pictures of this retrain that
            the candidate labels differently from the live model.
        baseline: the live model on the pictures held out before this retrain. Newly uploaded pictures are not among
            them: whoever mislabels an upload must not set the exam, too.
        retained: the candidate on those same pictures.
        learned: the candidate on the held-out pictures of this retrain.
        confident: how many of this retrain's pictures with old labels the live model accepts with confidence.
        contradicted: how many of these it accepts as another label.
        label_disagreements: how many of this retrain's pictures get another label by cross-validation.
        queried: of how many; labels with few pictures are left out.
        distinct: for each label of this retrain, how many of its pictures look different, and out of how many.
        background_false_accepts: share of the held-out negatives that the live model and the candidate accept as one
            of the live model's labels, 0..1. New labels do not count, because they may well resemble negatives.
    """

    metrics: dict[str, Any]
    baseline: dict[str, Any]
    retained: dict[str, Any]
    learned: dict[str, Any]
    confident: int
    contradicted: int
    label_disagreements: int
    queried: int
    distinct: dict[str, tuple[int, int]]
    background_false_accepts: tuple[float, float]


def judge(evidence: GateEvidence, policy: GatePolicy = GatePolicy()) -> list[str]:
    """Reasons why the candidate must not replace the live model. None of them means: publish."""
    return [
        *_forgotten(evidence, policy),
        *_not_learned(evidence, policy),
        *_too_alike(evidence, policy),
        *_mislabelled(evidence, policy),
        *_accepts_anything(evidence, policy),
    ]


def _old_labels(evidence: GateEvidence) -> list[str]:
    return [name for name, figures in evidence.baseline["per_class"].items() if figures["support"]]


def _forgotten(evidence: GateEvidence, policy: GatePolicy) -> list[str]:
    reasons = []
    before, after = evidence.baseline["per_class"], evidence.retained["per_class"]
    old = _old_labels(evidence)
    f1_before = evidence.baseline["macro_f1"]
    f1_after = float(np.mean([after[name]["f1"] for name in old])) if old else 1.0
    if not f1_after >= f1_before - policy.max_macro_f1_loss:  # `not >=`, so that NaN fails, too
        reasons.append(f"macro-F1 over the old labels fell from {f1_before:.3f} to {f1_after:.3f}")
    for name in old:
        if not after[name]["recall"] >= before[name]["recall"] - policy.max_recall_loss:
            reasons.append(f"recall of {name!r} fell from {before[name]['recall']:.3f} to {after[name]['recall']:.3f}")
    return reasons


def _not_learned(evidence: GateEvidence, policy: GatePolicy) -> list[str]:
    return [
        f"it knows only {figures['recall']:.0%} of the new pictures of {name!r} that were held out"
        for name, figures in evidence.learned["per_class"].items()
        if figures["support"] >= policy.min_new_held_out and figures["recall"] < policy.min_new_recall
    ]


def _too_alike(evidence: GateEvidence, policy: GatePolicy) -> list[str]:
    reasons, old, least = [], _old_labels(evidence), policy.min_distinct_of_new_label
    for name, (different, pictures) in evidence.distinct.items():
        if pictures >= policy.min_pictures_for_distinct and different < policy.min_distinct_share * pictures:
            reasons.append(f"only {different} of the {pictures} pictures of {name!r} look different")
        elif name not in old and different < least:
            reasons.append(f"{name!r} is new and has {different} different pictures; it needs {least}")
    return reasons


def _mislabelled(evidence: GateEvidence, policy: GatePolicy) -> list[str]:
    reasons = []
    confident, contradicted = evidence.confident, evidence.contradicted
    if contradicted >= policy.min_contradictions and contradicted > policy.max_contradicted_share * confident:
        reasons.append(f"the live model is sure of another label for {contradicted} of {confident} of the new pictures")
    disagreeing, queried = evidence.label_disagreements, evidence.queried
    if disagreeing > policy.max_disagreement_share * queried:
        reasons.append(
            f"{disagreeing} of {queried} new pictures look like another label to a head that saw only the others"
        )
    return reasons


def _accepts_anything(evidence: GateEvidence, policy: GatePolicy) -> list[str]:
    before, after = evidence.background_false_accepts
    if after <= before + policy.max_false_accept_rise:
        return []
    return [f"it accepts {after:.0%} of the held-out backgrounds, the live model {before:.0%}"]
