"""Labels that were renamed, merged or removed since a model was trained, and the model with its present labels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from shoe_classifier.ml.bundle import Bundle
from shoe_classifier.ml.centroid_head import CentroidHead
from shoe_classifier.ml.head import BACKGROUND, Answering, Head, softmax
from shoe_classifier.ml.replay_buffer import ReplayBuffer
from shoe_classifier.types import Decision

LAST_CHANGE = "label_changes"  # in a model's metrics: the id of the last change that it has taken over


def names_of(labels: Sequence[str], changes: Sequence[tuple[str, str | None]]) -> list[str | None]:
    """Follow changes, each from a label to its new name or to None.

    Returns:
        What each of `labels` is called now; None for one that was removed.
    """
    names: list[str | None] = list(labels)
    for label, name in changes:
        names = [name if known == label else known for known in names]
    return names


def kept_outputs(labels: Sequence[str], names: Sequence[str | None]) -> list[int]:
    """Choose which outputs of a model stay, ascending: of labels that are one now, that of the one merged into."""
    outputs: dict[str, int] = {}
    for output, (label, name) in enumerate(zip(labels, names, strict=True)):
        if name is not None and (name not in outputs or label == name):
            outputs[name] = output
    return sorted(outputs.values())


def present_labels(labels: Sequence[str], names: Sequence[str | None]) -> list[str]:
    """Return the names of the outputs that stay, in their order: a renamed label keeps its place."""
    return [name for output in kept_outputs(labels, names) if (name := names[output]) is not None]


def take_over(live: Bundle, buffer: ReplayBuffer, names: Sequence[str | None]) -> tuple[Bundle, ReplayBuffer]:
    """Give a model and its replay buffer the present labels.

    Samples of merged labels follow them, those of removed ones are dropped. Of labels that are one now, the head keeps
    the weights of one, which a retrain fits to the samples of all, and the strictest threshold.
    """
    outputs = kept_outputs(live.labels, names)
    labels = present_labels(live.labels, names)
    gone = len(live.labels)
    place = {name: index for index, name in enumerate(labels)}
    places = np.array([gone if name is None else place[name] for name in names], np.int16)
    moved = np.where(buffer.labels == BACKGROUND, BACKGROUND, places[buffer.labels]).astype(np.int16)
    thresholds = np.full(gone + 1, np.inf, np.float32)
    np.minimum.at(thresholds, places, live.head.unknown_thresholds)
    head = _with_outputs(live.head, np.array(outputs, int), thresholds[: len(labels)])
    bundle = replace(live, labels=tuple(labels), head=head)
    return bundle, replace(buffer, labels=moved)[moved != gone]


@dataclass(frozen=True)
class MergedHead:
    """A head under fewer labels: what it calls one of several merged labels is the merged label.

    Attributes:
        parts: the head with its own labels.
        places: `int (k,)`, which of the `g` fewer labels each of them is.
    """

    parts: Head | CentroidHead
    places: np.ndarray

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Features `(n, d)` to logits `(n, g)`: of a merged label, the largest of its parts."""
        parts = self.parts.logits(features)  # (n, k)
        return np.stack([parts[:, self.places == place].max(axis=1) for place in np.unique(self.places)], axis=1)

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Features `(n, d)` to probabilities `(n, g)`, 0..1; the most likely label is that of the parts."""
        return softmax(self.logits(features))

    def decide(self, features: np.ndarray, probabilities: np.ndarray) -> list[Decision]:
        """What the parts decide for features `(n, d)`."""
        return self.parts.decide(features, self.parts.probabilities(features))


@dataclass(frozen=True)
class PresentAnswers:
    """What a model answers, in the labels' present names, by a head that knows all that the model knows."""

    labels: tuple[str, ...]
    head: Answering


def present_answers(live: Bundle, names: Sequence[str | None]) -> PresentAnswers:
    """Translate a model's answers to the present labels; those that were removed are not among them.

    A retrain is judged against these: the head of `take_over`, which has the weights of one of the merged labels only,
    misses most of the others' pictures.
    """
    labels = present_labels(live.labels, names)
    stay = [output for output, name in enumerate(names) if name is not None]
    places = np.array([labels.index(name) for name in names if name is not None], int)
    parts = _with_outputs(live.head, np.array(stay, int), live.head.unknown_thresholds[stay])
    return PresentAnswers(tuple(labels), parts if len(labels) == len(stay) else MergedHead(parts, places))


def _with_outputs(head: Head | CentroidHead, outputs: np.ndarray, thresholds: np.ndarray) -> Head | CentroidHead:
    kernel, bias = head.kernel[:, outputs], head.bias[outputs]
    if isinstance(head, Head):
        return replace(head, kernel=kernel, bias=bias, unknown_thresholds=thresholds)
    mine = np.isin(head.centroid_labels, outputs)
    return replace(
        head,
        kernel=kernel,
        bias=bias,
        unknown_thresholds=thresholds,
        centroids=head.centroids[mine],
        centroid_labels=np.searchsorted(outputs, head.centroid_labels[mine]),
    )
