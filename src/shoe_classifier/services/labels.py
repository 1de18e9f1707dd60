"""Labels: renaming, merging and removing them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from shoe_classifier.errors import InvalidRequest, NotFound, Superseded, TooFewLabels
from shoe_classifier.ml.label_changes import LAST_CHANGE, names_of, present_labels
from shoe_classifier.ml.live_model import LiveModelHolder, ModelInfo
from shoe_classifier.services.ingestion import IngestionService, clean_label
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import UNPUBLISHED, LabelChange, new_id, utc_now

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


class LabelService:
    """Changes labels: the training pictures at once, the live model with the next retrain."""

    def __init__(self, store: Store, holder: LiveModelHolder, ingestion: IngestionService):
        self._store = store
        self._holder = holder
        self._ingestion = ingestion

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
        spelled, written = self._ingestion.spell(name, self.present()), clean_label(name)
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
        takes_effect: Literal["now", "next_retrain"] = "next_retrain" if label in self.present() else "now"
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

    def present(self) -> list[str]:
        """Return what the live model's labels are called now."""
        return pending_changes(self._store, self._holder.teachable.bundle).labels

    def _labels(self) -> list[str]:
        """All labels: those of the live model, then those that are only taught."""
        return list(dict.fromkeys([*self.present(), *self._store.training_labels()]))


def _check_known(label: str, labels: Sequence[str]) -> None:
    if label not in labels:
        raise NotFound(f"Expected a label that GET /labels lists; received {label[:80]!r}.")


def _check_enough(labels: Sequence[str]) -> None:
    if len(labels) <= _LEAST:
        raise TooFewLabels(
            f"Expected {_LEAST} labels or more to remain; received the request to remove one of {len(labels)}."
        )
