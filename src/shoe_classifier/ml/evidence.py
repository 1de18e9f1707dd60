"""Evidence for the gate: what a retrain can say about its candidate, its pictures and their labels."""

from typing import Any, Protocol

import numpy as np

from shoe_classifier.ml.bundle import Bundle
from shoe_classifier.ml.evaluation import evaluate
from shoe_classifier.ml.features import LabelledFeatures
from shoe_classifier.ml.gate import Anchors, CrossValidation, GateEvidence
from shoe_classifier.ml.head import BACKGROUND, Answering
from shoe_classifier.ml.head_fitting import LeftOut
from shoe_classifier.ml.replay_buffer import ReplayBuffer, keys_of
from shoe_classifier.ml.thumbnails import count_distinct
from shoe_classifier.types import NONE_OF_THESE

PHOTO_WEIGHT = 3.0
PRODUCT_SHARE = 1.5  # weight of all product pictures of a label over that of its photos, at most
SYNTHETIC_WEIGHT = 10.0
IMPROBABLE = 0.1  # the probability of a label below which the live model is sure that a picture does not show it
_LISTED_CHANGES = 24  # pictures


class LiveAnswers(Protocol):
    """The live model as it answers, with the labels' present names."""

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def head(self) -> Answering: ...


def gather_evidence(
    live: LiveAnswers,
    before: ReplayBuffer,
    new: ReplayBuffer,
    candidate: Bundle,
    after: ReplayBuffer,
    left_out: LeftOut,
    pictures: LabelledFeatures,
    labels: list[str],
) -> GateEvidence:
    """Compare a candidate with the live model.

    Args:
        live: the live model.
        before: what was learned before this retrain.
        new: the same with the new pictures; their features are from the live backbone.
        candidate: the new model.
        after: the samples it was fitted to. When the backbone was tuned, their features differ from those in `new`.
        left_out: what cross-validation says about the new pictures; its rows are those of `after`.
        pictures: the new ones.
        labels: of the candidate, in output order.
    """
    keys = keys_of(pictures.hashes)
    # Only pictures held out in both buffers are comparable: trimming may have dropped some.
    both = np.intersect1d(before.keys[_is_judged(before)], after.keys[_is_judged(after)])
    old, now = _sorted(before, both), _sorted(after, both)
    known = len(live.labels)
    contradicted, with_old_label = _contradictions(live, new, keys)
    learned = after[np.isin(after.keys, keys)]
    distinct = count_distinct(pictures.thumbnails, pictures.labels)
    return GateEvidence(
        metrics=candidate.metrics | {"changed": _changes(candidate, learned, live, new, pictures)},
        baseline=metrics_of(live.head, old, list(live.labels)),
        retained=metrics_of(candidate.head, now, labels),
        learned=metrics_of(candidate.head, learned, labels),
        anchors=Anchors(old.labels, old.photo, named(live.head, old), named(candidate.head, now), old.named),
        labels=candidate.labels,
        contradicted=contradicted,
        with_old_label=with_old_label,
        missed_photo_share=_missed_photos(live, old),
        cross_validation=_cross_validation(left_out, after, known, len(labels)),
        distinct={NONE_OF_THESE if label == BACKGROUND else labels[label]: count for label, count in distinct.items()},
        background_false_accepts=(
            _background_false_accepts(live.head, before, known),
            _background_false_accepts(candidate.head, after, known),
        ),
    )


def named(head: Answering, buffer: ReplayBuffer) -> np.ndarray:
    """Whether a head names the label of each sample, `bool (n,)`."""
    return head.logits(buffer.features.astype(np.float32)).argmax(axis=1) == buffer.labels


def _sorted(buffer: ReplayBuffer, keys: np.ndarray) -> ReplayBuffer:
    """The samples with these keys, in the order of their keys."""
    chosen = np.flatnonzero(np.isin(buffer.keys, keys))
    return buffer[chosen[np.argsort(buffer.keys[chosen])]]


def metrics_of(head: Answering, buffer: ReplayBuffer, labels: list[str]) -> dict[str, Any]:
    """Metrics of a head on the held-out samples of a buffer, as `evaluation.evaluate` gives them.

    Its entry `backgrounds` says how many held-out negatives there are, `samples`, and which share of them is called
    unknown, `unknown_rate`, 0..1.
    """
    judged = buffer[_is_judged(buffer)]
    features = judged.features.astype(np.float32)
    probabilities = head.probabilities(features)
    names = [f"{key:016x}" for key in judged.keys]  # the first 16 digits of each SHA-256
    metrics = evaluate(probabilities, judged.labels, labels, head.decide(features, probabilities), names)
    return metrics | {"backgrounds": _background_metrics(head, buffer)}


def sample_weights(buffer: ReplayBuffer) -> np.ndarray:
    """How much each sample counts in the head: `float (n,)`, above 0.

    Photos count more where their label has product pictures, too, because photos are what users will send; and
    thousands of product pictures do not outweigh them. The few synthetic negatives count more as well, so that no
    retrain makes them look like a label.
    """
    weights = np.where(~buffer.photo & (buffer.labels == BACKGROUND), SYNTHETIC_WEIGHT, 1.0)
    learned = ~buffer.held_out
    for label in np.unique(buffer.labels[~buffer.photo & (buffer.labels != BACKGROUND)]):
        photos, products = buffer.photo & (buffer.labels == label), ~buffer.photo & (buffer.labels == label)
        if (photos & learned).any():
            weights[photos] = PHOTO_WEIGHT
            most = PRODUCT_SHARE * PHOTO_WEIGHT * (photos & learned).sum()
            weights[products] = min(1.0, most / max(1, (products & learned).sum()))
    return weights


def _is_judged(buffer: ReplayBuffer) -> np.ndarray:
    """Held out, and of some label: `bool (n,)`."""
    return buffer.held_out & (buffer.labels != BACKGROUND)


def _changes(
    candidate: Bundle, learned: ReplayBuffer, live: LiveAnswers, new: ReplayBuffer, pictures: LabelledFeatures
) -> dict[str, Any]:
    """The `count` of new pictures that both models label differently, and the first of these `pictures`: `sha256`,
    their `label`, and the predictions `before` and `after`.

    `learned` has the candidate's features of the new pictures, `new` the live model's. Negatives are left out.
    """
    learned = learned[learned.labels != BACKGROUND]
    guesses = live.head.logits(new.features.astype(np.float32)).argmax(axis=1)
    old = dict(zip(new.keys.tolist(), guesses, strict=True))
    guesses = candidate.head.logits(learned.features.astype(np.float32)).argmax(axis=1)
    hashes = dict(zip(keys_of(pictures.hashes).tolist(), pictures.hashes, strict=True))
    changed = [
        {
            "sha256": hashes[key],
            "label": candidate.labels[label],
            "before": live.labels[old[key]],
            "after": candidate.labels[guess],
        }
        for key, label, guess in zip(learned.keys.tolist(), learned.labels, guesses, strict=True)
        if key in old and old[key] != guess  # an old label's index is the same in both models
    ]
    return {"count": len(changed), "pictures": changed[:_LISTED_CHANGES]}


def _held_out_negatives(buffer: ReplayBuffer) -> np.ndarray:
    """Their features, `float32 (m, d)`."""
    return buffer.features[buffer.held_out & (buffer.labels == BACKGROUND)].astype(np.float32)


def _background_false_accepts(head: Answering, buffer: ReplayBuffer, known: int) -> float:
    """The share of held-out negatives that are accepted as one of the first `known` labels, 0..1."""
    features = _held_out_negatives(buffer)
    if not len(features):
        return 0.0
    probabilities = head.probabilities(features)
    accepted = np.array(head.decide(features, probabilities)) == "accepted"
    return float((accepted & (probabilities.argmax(axis=1) < known)).mean())


def _background_metrics(head: Answering, buffer: ReplayBuffer) -> dict[str, Any]:
    features = _held_out_negatives(buffer)
    decisions = head.decide(features, head.probabilities(features)) if len(features) else []
    share = decisions.count("unknown") / len(decisions) if decisions else 0.0
    return {"samples": len(decisions), "unknown_rate": round(share, 5)}


def _contradicts(live: LiveAnswers, samples: ReplayBuffer) -> np.ndarray:
    """Which samples the live model is sure not to show their label, or calls unknown: `bool (n,)`.

    Of hard photos, half of what it names wrong is a close call; of wrong labels, hardly anything is.
    """
    features = samples.features.astype(np.float32)
    probabilities = live.head.probabilities(features)
    unknown = np.array(live.head.decide(features, probabilities)) == "unknown"
    return unknown | (probabilities[np.arange(len(features)), samples.labels] < IMPROBABLE)


def _missed_photos(live: LiveAnswers, anchors: ReplayBuffer) -> float:
    """The share of the anchors' photos that contradict the live model, 0..1."""
    photos = anchors[anchors.photo]
    return float(_contradicts(live, photos).mean()) if len(photos) else 0.0


def _contradictions(live: LiveAnswers, new: ReplayBuffer, keys: np.ndarray) -> tuple[int, int]:
    """Of the pictures `keys` with old labels: how many contradict the live model, and how many there are."""
    known = (new.labels >= 0) & (new.labels < len(live.labels)) & np.isin(new.keys, keys)
    return (int(_contradicts(live, new[known]).sum()), int(known.sum())) if known.any() else (0, 0)


def _cross_validation(left_out: LeftOut, after: ReplayBuffer, known: int, classes: int) -> CrossValidation:
    """What was left out in turn, of the labels that are new.

    Cross-validation finds labels that are wrong here and there (Northcutt et al. 2021, "Confident Learning").
    """
    labels = after.labels[left_out.rows]
    logits = left_out.logits[labels >= known, :classes]
    ordered = np.sort(logits, axis=1)
    lead = ordered[:, -1] - ordered[:, -2] if classes > 1 else np.zeros(len(logits))
    return CrossValidation(labels[labels >= known].astype(np.int64), logits.argmax(axis=1), lead)
