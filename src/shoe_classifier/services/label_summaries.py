"""What is known about each label: its pictures, how well it is recognised, and whether more would help."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml.label_changes import kept_outputs
from shoe_classifier.ml.learning_curve import LearningCurve
from shoe_classifier.ml.live_model import LiveModelHolder, ModelInfo
from shoe_classifier.services.labels import PendingChanges, pending_changes
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import LabelCounts


@dataclass(frozen=True)
class LabelSummary:
    """What is known about a label. Shares are 0..1.

    Attributes:
        label: its name.
        live_label: what the live model calls it; None if it has not been learned.
        pictures, held_out, learnt: training pictures, and how many of them are held out, and are learned.
        built_in: pictures of the first training that the model still holds, apart from those.
        recall: of the live model on `recall_samples` held-out pictures; None without any.
        most_confused_with: what the live model calls most of the missed ones.
        enough: whether 20 more pictures would hardly help; None while that is being computed, or with too few pictures.
        expected_gain: of recall, from 20 more pictures.
        learning_curve: recall with fewer pictures, by cross-validation, as pairs of pictures and recall.
    """

    label: str
    live_label: str | None
    pictures: int
    held_out: int
    learnt: int
    built_in: int
    recall: float | None
    recall_samples: int
    most_confused_with: str | None
    enough: bool | None = None
    expected_gain: float | None = None
    learning_curve: tuple[tuple[int, float], ...] = ()


class LabelSummaries:
    """Describes the labels of the live model, and those that are only taught."""

    def __init__(self, store: Store, holder: LiveModelHolder, live: Path):
        """`live` is the live model's file."""
        self._store = store
        self._holder = holder
        self._live = live
        self._built_in: tuple[str, dict[str, int]] = ("", {})  # of a version

    def all(self, curves: dict[str, LearningCurve]) -> list[LabelSummary]:
        """Describe all labels, in output order; those that the live model has not learned come last.

        Args:
            curves: the learning curves that have been computed.
        """
        live = self._holder.teachable.bundle
        pending = pending_changes(self._store, live)
        outputs = dict(zip(pending.labels, kept_outputs(live.labels, pending.names), strict=True))
        counts, built_in = self._store.label_counts(), self._count_built_in()
        return [
            _summary(label, live, outputs.get(label), counts.get(label), built_in, pending, curves.get(label))
            for label in dict.fromkeys([*pending.labels, *counts])
        ]

    def _count_built_in(self) -> dict[str, int]:
        """How many shipped samples the live model's replay buffer has of each of its labels."""
        live = self._holder.teachable.bundle
        version, counts = self._built_in
        if version != live.version:
            buffer = bundles.read_replay_buffer(self._live)
            shipped = buffer.labels[buffer.shipped & (buffer.labels >= 0)]
            counts = dict(zip(live.labels, np.bincount(shipped, minlength=len(live.labels)).tolist(), strict=True))
            self._built_in = (live.version, counts)
        return counts


def _summary(
    label: str,
    live: ModelInfo,
    output: int | None,
    counts: LabelCounts | None,
    built_in: dict[str, int],
    pending: PendingChanges,
    curve: LearningCurve | None,
) -> LabelSummary:
    counts = counts or LabelCounts(0, 0, 0)
    live_label = None if output is None else live.labels[output]
    figures = live.metrics.get("per_class", {}).get(live_label) or {"support": 0}
    mine = [known for known, name in zip(live.labels, pending.names, strict=True) if name == label]
    return LabelSummary(
        label=label,
        live_label=live_label,
        pictures=counts.pictures,
        held_out=counts.held_out,
        learnt=counts.learnt,
        built_in=sum(built_in.get(known, 0) for known in mine),
        recall=figures["recall"] if figures["support"] else None,
        recall_samples=figures["support"],
        most_confused_with=_most_confused_with(live, output),
        enough=curve.enough if curve else None,
        expected_gain=curve.expected_gain if curve else None,
        learning_curve=curve.points if curve else (),
    )


def _most_confused_with(live: ModelInfo, output: int | None) -> str | None:
    confusion = live.metrics.get("confusion_matrix")
    if output is None or not confusion:
        return None
    named = np.array(confusion[output])
    named[output] = 0
    return live.labels[int(named.argmax())] if named.any() else None
