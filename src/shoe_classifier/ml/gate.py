"""The gate: whether a candidate may replace the live model.

It asks four questions. Does the candidate lose what is known, on anchor pictures that no retrain changes? Do the new
pictures contradict the live model? Do they agree with each other? And does the candidate accept anything? Counts are
judged by exact tests, so that few pictures are not judged by chance; the anchors keep many small losses from adding up.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class GatePolicy:
    """Thresholds of the gate. Shares and probabilities are 0..1; counts are pictures.

    Attributes:
        max_macro_f1_loss: how much macro-F1 over the old labels may fall below the live model's.
        max_recall_loss: how much the recall of any one old label may fall.
        min_lost: fewer lost pictures of a label than this may be chance, whatever share they are.
        max_anchor_loss: share of the anchors of each kind that one retrain may lose.
        max_drift: share of the anchors of a kind or label that all retrains together may lose.
        min_drift: fewer lost anchors than this are not counted as drift.
        significance, high_significance: how often a correct retrain may be rejected by one test; the second is for
            tests that judge by what the live model thinks.
        tolerated_corrections: contradictions of the live model that always pass: users correct it with them.
        hard_photo_share: share of correctly labelled photos that contradict a good model; its own share if that is
            larger.
        min_agreement, min_agreement_of_few: how far, from chance to certainty, cross-validation must agree with the new
            labels; the second is for labels of up to three pictures.
        max_bold_share: share of correctly labelled pictures that look like another new label as surely as most
            pictures look like their own.
        bold_quantile: what "as surely as most" means, among the leads of pictures that agree.
        min_pictures_for_bold: with fewer pictures, that share is chance.
        min_distinct_share: share of a label's pictures that must look different from each other.
        min_distinct: how many must look different at the least.
        min_pictures_for_distinct: with fewer pictures of a label, all of them may well look alike.
        max_false_accept_rise: how much the share of negatives accepted as an old label may rise.
    """

    max_macro_f1_loss: float = 0.01
    max_recall_loss: float = 0.03
    min_lost: int = 2
    max_anchor_loss: float = 0.02
    max_drift: float = 0.03
    min_drift: int = 3
    significance: float = 0.05
    high_significance: float = 0.01
    tolerated_corrections: int = 8
    hard_photo_share: float = 0.12
    min_agreement: float = 0.35
    min_agreement_of_few: float = 0.20
    max_bold_share: float = 0.07
    bold_quantile: float = 0.25
    min_pictures_for_bold: int = 60
    min_distinct_share: float = 0.2
    min_distinct: int = 2
    min_pictures_for_distinct: int = 4
    max_false_accept_rise: float = 0.05


@dataclass(frozen=True)
class Anchors:
    """Held-out pictures that no retrain changes, in columns of length `n`.

    Attributes:
        labels: `int (n,)`, indices into the list of labels.
        photo: `bool (n,)`, as users take pictures, and no product picture.
        before, after: `bool (n,)`, whether the live model and the candidate name the label.
        reference: `bool (n,)`, whether the model did by which the picture became an anchor.
    """

    labels: np.ndarray
    photo: np.ndarray
    before: np.ndarray
    after: np.ndarray
    reference: np.ndarray


@dataclass(frozen=True)
class CrossValidation:
    """What heads that were fitted without them say about new pictures of new labels, in columns of length `m`.

    Attributes:
        given: `int (m,)`, their labels.
        predicted: `int (m,)`, the labels that those heads name.
        lead: `float (m,)`, by how much the predicted label's logit leads the next one's.
    """

    given: np.ndarray
    predicted: np.ndarray
    lead: np.ndarray


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
        anchors: those pictures one by one.
        labels: of the candidate, in output order.
        contradicted: how many of this retrain's pictures with old labels the live model is sure to show something else.
        with_old_label: of how many.
        missed_photo_share: share of the anchors' photos that contradict it in the same way, 0..1.
        cross_validation: of this retrain's pictures with new labels.
        distinct: for each label of this retrain, how many of its pictures look different, and out of how many.
        background_false_accepts: share of the held-out negatives that the live model and the candidate accept as one
            of the live model's labels, 0..1. New labels do not count, because they may well resemble negatives.
    """

    metrics: dict[str, Any]
    baseline: dict[str, Any]
    retained: dict[str, Any]
    learned: dict[str, Any]
    anchors: Anchors
    labels: tuple[str, ...]
    contradicted: int
    with_old_label: int
    missed_photo_share: float
    cross_validation: CrossValidation
    distinct: dict[str, tuple[int, int]]
    background_false_accepts: tuple[float, float]


def judge(evidence: GateEvidence, policy: GatePolicy = GatePolicy()) -> list[str]:
    """Reasons why the candidate must not replace the live model. None of them means: publish."""
    return [
        *_forgotten(evidence, policy),
        *_lost_anchors(evidence.anchors, policy),
        *_drifted(evidence, policy),
        *_contradicting(evidence, policy),
        *_disagreeing(evidence.cross_validation, policy),
        *_too_alike(evidence, policy),
        *_accepts_anything(evidence, policy),
    ]


def _forgotten(evidence: GateEvidence, policy: GatePolicy) -> list[str]:
    """By the metrics of all old labels, and of each."""
    reasons = []
    before, after = evidence.baseline["per_class"], evidence.retained["per_class"]
    old = [name for name, figures in before.items() if figures["support"]]
    f1_before = evidence.baseline["macro_f1"]
    f1_after = float(np.mean([after[name]["f1"] for name in old])) if old else 1.0
    lost = sum(_lost_pictures(before[name], after[name]) for name in old)
    enough_lost = not lost < policy.min_lost  # `not <`, so that NaN is judged, too
    if enough_lost and not f1_after >= f1_before - policy.max_macro_f1_loss:
        reasons.append(f"macro-F1 over the old labels fell from {f1_before:.3f} to {f1_after:.3f}")
    for name in old:
        few = _lost_pictures(before[name], after[name]) < policy.min_lost
        if not few and not after[name]["recall"] >= before[name]["recall"] - policy.max_recall_loss:
            reasons.append(f"recall of {name!r} fell from {before[name]['recall']:.3f} to {after[name]['recall']:.3f}")
    return reasons


def _lost_pictures(before: dict[str, float], after: dict[str, float]) -> float:
    return float(round((before["recall"] - after["recall"]) * before["support"], 6))


def _lost_anchors(anchors: Anchors, policy: GatePolicy) -> list[str]:
    """Product pictures and photos apart: there are few photos, and they are what users send."""
    reasons = []
    for name, chosen in (("product pictures", ~anchors.photo), ("photos", anchors.photo)):
        lost = int((chosen & anchors.before & ~anchors.after).sum())
        won = int((chosen & ~anchors.before & anchors.after).sum())
        # McNemar 1947, exact: by chance, as many are lost as won.
        if (
            lost - won > policy.max_anchor_loss * chosen.sum()
            and _at_least(lost, lost + won, 0.5) < policy.significance
        ):
            reasons.append(
                f"of {int(chosen.sum())} held-out {name}, it loses {lost} that the live model knows, and gains {won}"
            )
    return reasons


def _drifted(evidence: GateEvidence, policy: GatePolicy) -> list[str]:
    """Against what was known at first, so that many small losses do not add up."""
    anchors = evidence.anchors
    groups = [("product pictures", ~anchors.photo), ("photos", anchors.photo)]
    groups += [(f"pictures of {evidence.labels[i]!r}", anchors.labels == i) for i in np.unique(anchors.labels)]
    reasons = []
    for name, chosen in groups:
        now = int((chosen & anchors.after).sum())
        drift = int((chosen & anchors.reference).sum()) - now
        worse = now < (chosen & anchors.before).sum()
        if worse and drift >= policy.min_drift and drift > policy.max_drift * chosen.sum():
            reasons.append(f"of {int(chosen.sum())} held-out {name}, it knows {drift} fewer than were known at first")
    return reasons


def _contradicting(evidence: GateEvidence, policy: GatePolicy) -> list[str]:
    usual = max(policy.hard_photo_share, evidence.missed_photo_share)
    count, pictures = evidence.contradicted, evidence.with_old_label
    if count <= policy.tolerated_corrections or _at_least(count, pictures, usual) >= policy.high_significance:
        return []
    return [
        f"the live model is sure that {count} of {pictures} new pictures show something else; "
        f"of correctly labelled photos, about {100 * usual:.0f} % are to be expected"
    ]


def _disagreeing(new: CrossValidation, policy: GatePolicy) -> list[str]:
    if not len(new.given):
        return []
    reasons, right = [], new.predicted == new.given
    counts = np.unique(new.given, return_counts=True)[1]
    chance = float(np.square(counts / counts.sum()).sum()) if len(counts) > 1 else 0.0
    wanted = policy.min_agreement_of_few if np.median(counts) <= 3 else policy.min_agreement
    if _at_most(int(right.sum()), len(right), chance + wanted * (1 - chance)) < policy.significance:
        reasons.append(f"only {int(right.sum())} of {len(right)} new pictures look like the others of their label")
    if len(right) >= policy.min_pictures_for_bold and right.any():
        bold = int((~right & (new.lead >= np.quantile(new.lead[right], policy.bold_quantile))).sum())
        if _at_least(bold, len(right), policy.max_bold_share) < policy.high_significance:
            reasons.append(f"{bold} of {len(right)} new pictures clearly look like another label")
    return reasons


def _too_alike(evidence: GateEvidence, policy: GatePolicy) -> list[str]:
    return [
        f"only {different} of the {pictures} pictures of {name!r} look different"
        for name, (different, pictures) in evidence.distinct.items()
        if pictures >= policy.min_pictures_for_distinct
        and different < max(policy.min_distinct, policy.min_distinct_share * pictures)
    ]


def _accepts_anything(evidence: GateEvidence, policy: GatePolicy) -> list[str]:
    before, after = evidence.background_false_accepts
    if after <= before + policy.max_false_accept_rise:
        return []
    return [f"it accepts {100 * after:.0f} % of the held-out backgrounds, the live model {100 * before:.0f} %"]


def _at_least(hits: int, tries: int, share: float) -> float:
    """The probability of so many hits or more, each with the probability `share`."""
    from scipy.special import bdtrc  # `scipy.stats` would keep 17 MB more

    return float(bdtrc(hits - 1, tries, share))


def _at_most(hits: int, tries: int, share: float) -> float:
    """The probability of so few hits or fewer."""
    from scipy.special import bdtr

    return float(bdtr(hits, tries, share))
