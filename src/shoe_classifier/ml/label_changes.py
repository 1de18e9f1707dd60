"""Labels that were renamed, merged or removed since a model was trained, and the model with its present labels."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from shoe_classifier.ml.bundle import Bundle
from shoe_classifier.ml.centroid_head import CentroidHead
from shoe_classifier.ml.head import BACKGROUND, Head
from shoe_classifier.ml.replay_buffer import ReplayBuffer

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
