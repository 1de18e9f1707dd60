"""Labels: what is known about each, renaming, merging and removing them, and corrections of many pictures at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from shoe_classifier.errors import InvalidRequest, NotFound, Superseded, TooFewLabels
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml.label_changes import LAST_CHANGE, kept_outputs, names_of, present_labels
from shoe_classifier.ml.learning_curve import LearningCurve
from shoe_classifier.ml.live_model import LiveModelHolder, ModelInfo
from shoe_classifier.services.ingestion import IngestionService, clean_label
from shoe_classifier.services.picture_features import FeatureExtractor
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import UNPUBLISHED, LabelChange, LabelCounts, TrainingPicture, new_id, utc_now

_NAMED = 10  # unknown ids that a message names
_LEAST = 2  # labels


@dataclass(frozen=True)
class PendingChanges:
    """The changes of labels that a model has not taken over yet.

    Attributes:
        names: what each of the model's labels is called now; None for one that was removed.
        labels: those that remain, in output order.
        waiting: whether that differs from what the model calls them.
        last: the id of the last change there is; None if there never was one.
    """

    names: list[str | None]
    labels: list[str]
    waiting: bool
    last: str | None


def pending_changes(store: Store, live: ModelInfo) -> PendingChanges:
    """Compare the labels of a model with what they are called now."""
    changes, taken_over = store.label_changes(), live.metrics.get(LAST_CHANGE, "")
    names = names_of(live.labels, [(change.label, change.name) for change in changes if change.id > taken_over])
    last = changes[-1].id if changes else None
    return PendingChanges(names, present_labels(live.labels, names), names != list(live.labels), last)


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


class LabelService:
    """Answers for labels, and changes them: the training pictures at once, the live model with the next retrain."""

    def __init__(
        self, store: Store, holder: LiveModelHolder, ingestion: IngestionService, features: FeatureExtractor, live: Path
    ):
        """`live` is the live model's file."""
        self._store = store
        self._holder = holder
        self._ingestion = ingestion
        self._features = features
        self._live = live
        self._built_in: tuple[str, dict[str, int]] = ("", {})  # of a version

    # ------------------------------------------------------------ many pictures

    def relabel(self, row_ids: Sequence[str], label: str) -> int:
        """Give training pictures another label, all or none.

        Raises:
            NotFound: some are not there; it names them.
            InvalidLabel: it cannot be a label.
        """
        label = self._ingestion.spell(label, self._present())
        changed = [row for row in self._known(row_ids) if row.shoe_class != label]
        self._store.relabel_all([row.id for row in changed], label)
        return len(changed)

    def delete(self, row_ids: Sequence[str]) -> int:
        """Delete training pictures, all or none. Raises `NotFound`, which names the unknown ones."""
        rows = self._known(row_ids)
        self._store.delete_all(rows)
        self._features.forget([row.sha256 for row in rows])
        return len(rows)

    def _known(self, row_ids: Sequence[str]) -> list[TrainingPicture]:
        rows = self._store.training_pictures(row_ids)
        unknown = sorted(set(row_ids) - {row.id for row in rows})
        if unknown:
            named = ", ".join(row_id[:80] for row_id in unknown[:_NAMED])
            more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
            raise NotFound(
                f"Expected ids of training pictures; received {named}{more}, which there are not. Nothing was changed.",
                extra={"unknown": unknown},
            )
        return rows

    # ------------------------------------------------------------ labels

    def rename(self, label: str, name: str) -> dict[str, Any]:
        """Rename a label, or merge it into another one.

        Returns:
            The answer of `PATCH /labels/{label}`.

        Raises:
            NotFound: there is no such label.
            InvalidLabel: the name cannot be a label.
            InvalidRequest: it is its name already.
            TooFewLabels: only one label would remain.
        """
        labels = self._labels()
        _check_known(label, labels)
        spelled, written = self._ingestion.spell(name, self._present()), clean_label(name)
        name = written if spelled == label else spelled
        if name == label:
            raise InvalidRequest(f"Expected another name for {label!r}; received the same one.")
        if name in labels:
            _check_enough(labels)
        return self._change(label, name, merged=name in labels)

    def remove(self, label: str) -> dict[str, Any]:
        """Remove a label and delete its training pictures.

        Returns:
            The answer of `DELETE /labels/{label}`.

        Raises:
            NotFound: there is no such label.
            TooFewLabels: only one label would remain.
        """
        labels = self._labels()
        _check_known(label, labels)
        _check_enough(labels)
        return self._change(label, None, merged=False)

    def _change(self, label: str, name: str | None, *, merged: bool) -> dict[str, Any]:
        takes_effect: Literal["now", "next_retrain"] = "next_retrain" if label in self._present() else "now"
        change = LabelChange(new_id(), label, name, utc_now())
        pictures = self._store.change_label(change)
        done = "removed" if name is None else f"merged into {name!r}" if merged else f"called {name!r}"
        later = " The live model follows with the next retrain." if takes_effect == "next_retrain" else ""
        return {
            "change_id": change.id,
            "label": label,
            "name": name,
            "pictures": pictures,
            "merged": merged,
            "takes_effect": takes_effect,
            "detail": f"{label!r} is {done}, and so are its {pictures} training pictures.{later}",
        }

    def undoable(self) -> list[LabelChange]:
        """Return the changes that no version has taken over, newest first. They can be undone in this order."""
        taken_over = self._taken_over()
        return [change for change in reversed(self._store.label_changes()) if change.id > taken_over]

    def undo(self, change_id: str) -> dict[str, Any]:
        """Take the newest change back, with its pictures. No retrain may run, because it could take the change over.

        Returns:
            The answer of `DELETE /labels/changes/{change_id}`.

        Raises:
            NotFound: there is no such change.
            Superseded: there is a newer one, or a version has taken it over.
        """
        change = next((change for change in self._store.label_changes() if change.id == change_id), None)
        if change is None:
            raise NotFound(f"Expected the id of a change of a label; received {change_id[:80]!r}.")
        pictures = self._store.undo_change(change_id) if change_id > self._taken_over() else None
        if pictures is None:
            raise Superseded(
                "Expected the newest change of a label, before a version has learned it; received one that is followed"
                " by another or has been learned. Change the label again instead."
            )
        done = "removed" if change.name is None else f"called {change.name!r}"
        detail = f"{change.label!r} is no longer {done}, and its {pictures} training pictures are as before."
        return {
            "change_id": change_id, "label": change.label, "name": change.name, "pictures": pictures, "detail": detail,
        }  # fmt: skip

    def _taken_over(self) -> str:
        """The id of the last change that a version has taken over that is, or was, live; empty without any."""
        published = [row.metrics or {} for row in self._store.versions() if row.state not in UNPUBLISHED]
        return max((metrics.get(LAST_CHANGE, "") for metrics in published), default="")

    def _present(self) -> list[str]:
        """What the live model's labels are called now."""
        return pending_changes(self._store, self._holder.teachable.bundle).labels

    def _labels(self) -> list[str]:
        """All labels: those of the live model, then those that are only taught."""
        return list(dict.fromkeys([*self._present(), *self._store.training_labels()]))

    # ------------------------------------------------------------ what is known

    def summaries(self, curves: dict[str, LearningCurve]) -> list[LabelSummary]:
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


def _check_known(label: str, labels: Sequence[str]) -> None:
    if label not in labels:
        raise NotFound(f"Expected a label that GET /labels lists; received {label[:80]!r}.")


def _check_enough(labels: Sequence[str]) -> None:
    if len(labels) <= _LEAST:
        raise TooFewLabels(
            f"Expected {_LEAST} labels or more to remain; received the request to remove one of {len(labels)}."
        )
