"""What a retrain learns from: the stored pictures as features, and which of them are new."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from shoe_classifier.errors import NoNewData, NotFound
from shoe_classifier.ml.dataset import LabelledPictures, load
from shoe_classifier.ml.features import LabelledFeatures, labelled, no_features
from shoe_classifier.ml.head import BACKGROUND
from shoe_classifier.ml.live_model import LiveModel, LiveModelHolder
from shoe_classifier.ml.zip_reader import Picture
from shoe_classifier.services.labels import PendingChanges, pending_changes
from shoe_classifier.services.picture_features import FeatureExtractor
from shoe_classifier.settings import Settings
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import NONE_OF_THESE, PictureFeatures, Report, TrainingEvent, TrainingFilter, TrainingPicture

_MOST_EARLIER = 20_000  # pictures learned before, about 100 MB of features; of older ones the replay buffer has samples
_PAGE = 1000  # rows
_NAMED_PICTURES = 3  # unreadable pictures that a message names


@dataclass(frozen=True)
class Lesson:
    """The pictures that a retrain learns from.

    Attributes:
        rows: one for each picture, first those that were learned before.
        features: of the same pictures in the same order, from the live backbone.
        labels: the live model's labels in output order, then the new ones. `NONE_OF_THESE` is not among them: its
            pictures have the label index `BACKGROUND`.
        unreadable: waiting pictures that are missing or damaged.
        forgotten: SHA-256 digests of deleted pictures.
        changes: the changes of labels that the live model has not taken over yet.
    """

    rows: list[TrainingPicture]
    features: LabelledFeatures
    labels: list[str]
    unreadable: list[TrainingPicture]
    forgotten: frozenset[str]
    changes: PendingChanges

    @property
    def new(self) -> np.ndarray:
        """Which pictures have not been learned yet: `bool (n,)`."""
        return np.array([not row.is_processed for row in self.rows], bool)

    @property
    def learned(self) -> dict[str, str]:
        """The ids of the new training pictures, with their labels."""
        return {row.id: row.shoe_class for row in self.rows if not row.is_processed}


class LessonCollector:
    """Collects stored pictures for a retrain."""

    def __init__(self, settings: Settings, store: Store, holder: LiveModelHolder, features: FeatureExtractor):
        self._settings = settings
        self._store = store
        self._holder = holder
        self._features = features

    def waiting(self, without: Sequence[str] = ()) -> list[TrainingPicture]:
        """Return the pictures that have not been learned yet, except those with these labels.

        Raises `NoNewData` when there are none, and no label was changed either.
        """
        rows = [row for row in self._store.unprocessed() if row.shoe_class not in without]
        if not rows and not pending_changes(self._store, self._holder.teachable.bundle).waiting:
            raise NoNewData("Expected training pictures that were not learned yet; there are none.")
        return rows

    def collect(self, waiting: list[TrainingPicture], deadline: float, report: Report) -> Lesson:
        """Collect the features of the waiting pictures and of those learned before; what is not kept is computed.

        Args:
            waiting: rows of pictures, see `waiting`.
            deadline: `time.monotonic()`. Half of the time until then may go to pictures that were learned before: the
                replay buffer has samples of them. Of the waiting ones, none is left out to save time.
            report: receives the progress, and may raise to stop.

        Raises:
            NoNewData: there is nothing to learn from.
        """
        live = self._holder.teachable
        report(TrainingEvent("collect", 0.0, "Collecting the pictures."))
        changes = pending_changes(self._store, live.bundle)
        forgotten = self._store.deleted_pictures()
        self._features.forget(forgotten)  # another machine may have deleted them
        self._features.keep_only(live)
        found = self._features_of(waiting, live, report)
        readable = [row for row in waiting if row.sha256 in found]
        unreadable = [row for row in waiting if row.sha256 not in found]
        if unreadable and not readable:
            raise _unreadable(unreadable)
        earlier = self._learned_before({*changes.labels, NONE_OF_THESE})
        found |= self._features_of(earlier, live, report, (time.monotonic() + deadline) / 2)
        rows = [*(row for row in earlier if row.sha256 in found), *readable]
        taught = (row.shoe_class for row in readable if row.shoe_class != NONE_OF_THESE)
        labels = list(dict.fromkeys([*changes.labels, *taught]))
        features = _columns(rows, found, labels, live.backbone.feature_count)
        return Lesson(rows, features, labels, unreadable, forgotten, changes)

    def _learned_before(self, labels: set[str]) -> list[TrainingPicture]:
        """The newest learned pictures with these labels, oldest first, without holding all that there are."""
        newest = (row for row in newest_learned(self._store) if row.shoe_class in labels)
        return [*islice(newest, _MOST_EARLIER)][::-1]

    def load_pictures(self, lesson: Lesson, report: Report, file: Path) -> LabelledPictures:
        """Decode the pictures of a lesson at the network's own size into a file, for a full retrain.

        Raises `NoNewData` if none can be read.
        """
        rows, read = lesson.rows, 0

        def report_progress() -> None:
            nonlocal read
            report(TrainingEvent("collect", read / len(rows), f"Reading picture {read + 1} of {len(rows)}."))
            read += 1

        size, max_pixels = self._holder.teachable.backbone.image_size, self._settings.max_image_pixels
        files = (Picture(row.shoe_class, row.image_path, data) for row, data in stored_pictures(self._store, rows))
        names = [*lesson.labels, NONE_OF_THESE]
        pictures = load(files, size, names, progress=report_progress, max_pixels=max_pixels, file=file)
        if not len(pictures):
            raise _unreadable(rows)
        nothing = pictures.labels == len(lesson.labels)
        return replace(pictures, labels=np.where(nothing, BACKGROUND, pictures.labels))

    def _features_of(
        self, rows: list[TrainingPicture], live: LiveModel, report: Report, until: float = float("inf")
    ) -> dict[str, PictureFeatures]:
        found = self._features.known(live, rows)
        missing = [row for row in rows if row.sha256 not in found]
        return found | self._features.compute(live, stored_pictures(self._store, missing), len(missing), report, until)


def newest_learned(store: Store) -> Iterator[TrainingPicture]:
    """Yield the pictures that the live version or one of its ancestors learned, newest first, page by page."""
    before = None
    while rows := store.training_data(_PAGE, before, TrainingFilter(learnt=True)):
        yield from rows
        before = rows[-1].id


def stored_pictures(store: Store, rows: list[TrainingPicture]) -> Iterator[tuple[TrainingPicture, bytes]]:
    """Yield rows with their files, without those whose files are missing or cannot be read."""
    start = 0
    while start < len(rows):
        files = store.pictures([row.image_path for row in rows[start:]])
        try:
            for data in files:
                yield rows[start], data
                start += 1
        except (NotFound, OSError):  # the iterator ends here; go on with the picture after this one
            start += 1


def left_out(rows: Sequence[TrainingPicture]) -> str:
    """Name pictures that cannot be read, for people. Empty without any; otherwise it ends with a space."""
    if not rows:
        return ""
    names = ", ".join(row.image_path for row in rows[:_NAMED_PICTURES])
    more = f" and {len(rows) - _NAMED_PICTURES} more" if len(rows) > _NAMED_PICTURES else ""
    return f"Left out, because they are missing or cannot be read: {names}{more}. "


def _unreadable(rows: Sequence[TrainingPicture]) -> NoNewData:
    return NoNewData(f"Expected stored pictures that can be read; received none. {left_out(rows)}".strip())


def _columns(
    rows: list[TrainingPicture], found: dict[str, PictureFeatures], labels: list[str], width: int
) -> LabelledFeatures:
    if not rows:  # only labels were changed
        return no_features(width)
    index = {label: number for number, label in enumerate(labels)} | {NONE_OF_THESE: BACKGROUND}
    label_indices = np.array([index[row.shoe_class] for row in rows], np.int64)
    return labelled([found[row.sha256] for row in rows], label_indices, [row.sha256 for row in rows])
