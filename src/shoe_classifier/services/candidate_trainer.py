"""What a retrain job trains: the stored pictures that wait, made into a candidate, and the gate's opinion of it."""

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from shoe_classifier.errors import NoNewData, NotFound
from shoe_classifier.ml import finetune
from shoe_classifier.ml.dataset import LabelledPictures, load
from shoe_classifier.ml.features import extract_features
from shoe_classifier.ml.finetune import RetrainTask
from shoe_classifier.ml.gate import GateEvidence, judge
from shoe_classifier.ml.live_model import LiveModelHolder
from shoe_classifier.ml.zip_reader import Picture
from shoe_classifier.services.job_progress import JobProgress
from shoe_classifier.services.training_process import finetune_in_process, require_tensorflow, tensorflow_installed
from shoe_classifier.settings import Settings
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import RetrainMode, TrainingEvent, TrainingPicture

Method = Literal["quick", "full"]
_TIME_TO_FINISH = 0.2  # share of the time that is kept for what follows the training
_NAMED_PICTURES = 3  # unreadable pictures that a message names


@dataclass(frozen=True)
class TrainedCandidate:
    """A candidate's model file was written; this is what is known about it.

    Attributes:
        evidence: what the gate judged by.
        reasons: why the gate rejects it; empty when it may be published.
        learned: the ids of the new training pictures that it learned, with their labels.
        note: for people: why this method was chosen and which pictures were left out. Empty, or ends with a space.
    """

    evidence: GateEvidence
    reasons: list[str]
    learned: dict[str, str]
    note: str


class CandidateTrainer:
    """Trains candidates from stored pictures and the live model."""

    def __init__(self, settings: Settings, store: Store, holder: LiveModelHolder, live: Path):
        """`live` is the live model's file."""
        self._settings = settings
        self._store = store
        self._holder = holder
        self._live = live

    def train(self, target: Path, deadline: float, progress: JobProgress) -> TrainedCandidate:
        """Train a candidate and write its model file to `target`.

        Args:
            deadline: `time.monotonic()` at which the training should have ended.
            progress: says which mode to use, and is told what happens.

        Raises:
            NoNewData: there is nothing to learn from.
            Cancelled: `progress` was cancelled.
        """
        waiting = learnable(self._store.unprocessed(), self._holder.labels)
        methods, note = self._methods(progress.row.mode, len(waiting))
        for method in methods:
            progress.update(mode=method, samples=len(waiting))
            candidate = self._attempt(method, waiting, target, deadline, progress, note)
            if not candidate.reasons or progress.row.force or time.monotonic() > deadline or method == methods[-1]:
                break
            note += f"{method.capitalize()} failed, because {'; '.join(candidate.reasons)}; then {methods[-1]}. "
        return candidate

    def _methods(self, mode: RetrainMode, pictures: int) -> tuple[Sequence[Method], str]:
        """Return the methods to try until the gate accepts a candidate, and why these, if the user left it open."""
        if mode != "auto":
            return [mode], ""
        if not tensorflow_installed():
            return ["quick"], "Quick only, because TensorFlow is not installed yet. "
        limit = self._settings.full_from_images
        if pictures >= limit:
            return ["full", "quick"], f"Full first, for {pictures} new pictures (from {limit} on). "
        return ["quick", "full"], f"Quick first, for {pictures} new pictures (full from {limit} on). "

    def _attempt(
        self,
        method: Method,
        waiting: list[TrainingPicture],
        target: Path,
        deadline: float,
        progress: JobProgress,
        note: str,
    ) -> TrainedCandidate:
        if method == "full":
            require_tensorflow()
        earlier = self._store.processed() if method == "full" else []
        pictures, labels = self._load([*earlier, *waiting], progress)
        readable = set(pictures.hashes)
        learned = {row.id: row.shoe_class for row in waiting if row.sha256 in readable}
        progress.update(labels=labels, samples=len(learned))
        training_end = deadline - max(0.0, deadline - time.monotonic()) * _TIME_TO_FINISH
        features = extract_features(self._holder.teachable.backbone, pictures)
        new = np.isin(pictures.hashes, [row.sha256 for row in waiting])
        task = RetrainTask(self._live, target, features, new, labels, training_end, pictures)
        evidence = self._train(method, task, progress)
        progress.report(TrainingEvent("judge", 0.0, "Comparing with the live model."))
        unreadable = [row for row in waiting if row.id not in learned]
        return TrainedCandidate(evidence, judge(evidence), learned, note + _left_out(unreadable))

    def _train(self, method: Method, task: RetrainTask, progress: JobProgress) -> GateEvidence:
        if method == "quick":
            return finetune.retrain_head(task, progress.report)
        if self._settings.retrain_in == "subprocess":
            return finetune_in_process(task, progress.report)
        return finetune.finetune(task, progress.report)

    def _load(self, rows: list[TrainingPicture], progress: JobProgress) -> tuple[LabelledPictures, list[str]]:
        """Decode the pictures of rows, without those that are missing or damaged; also return all labels in order.

        Raises:
            NoNewData: no picture is left to learn from.
        """
        live = self._holder.teachable
        labels, read = list(live.bundle.labels), 0

        def report_progress() -> None:
            nonlocal read
            message = f"Reading picture {read + 1} of {len(rows)}."
            progress.report(TrainingEvent("collect", read / len(rows), message))
            read += 1

        pictures = load(
            self._stored(rows),
            live.backbone.image_size,
            labels,
            progress=report_progress,
            max_pixels=self._settings.max_image_pixels,
        )
        hashes = set(pictures.hashes)
        readable = [row for row in rows if row.sha256 in hashes]
        if not readable:
            raise NoNewData(f"Expected stored pictures that can be read; received none. {_left_out(rows)}".strip())
        if len(usable := learnable(readable, live.bundle.labels)) < len(readable):  # a label lost all it can train on
            return self._load(usable, progress)
        return pictures, labels

    def _stored(self, rows: list[TrainingPicture]) -> Iterator[Picture]:
        """Yield the pictures of rows, without those whose files are missing or cannot be read."""
        start = 0
        while start < len(rows):
            files = self._store.pictures([row.image_path for row in rows[start:]])
            try:
                for data in files:
                    row = rows[start]
                    yield Picture(row.shoe_class, row.image_path, data)
                    start += 1
            except (NotFound, OSError):  # the iterator ends here; go on with the picture after this one
                start += 1


def learnable(rows: list[TrainingPicture], known: Collection[str]) -> list[TrainingPicture]:
    """Leave for a later retrain the pictures of new labels all of whose pictures are held out.

    Args:
        known: labels of the live model.

    Raises:
        NoNewData: no other pictures are left.
    """
    labels = {row.shoe_class for row in rows if row.split == "train"} | set(known)
    ready = [row for row in rows if row.shoe_class in labels]
    if not ready:
        waiting = sorted({row.shoe_class for row in rows})
        raise NoNewData(f"Expected more pictures of {', '.join(waiting)}; the few there are, are all held out.")
    return ready


def verdict(candidate: TrainedCandidate) -> str:
    """Describe a candidate that is to be published."""
    new, old = candidate.evidence.metrics, candidate.evidence.baseline
    text = f"Accuracy {new['accuracy']:.3f} on {new['samples']} held-out pictures"
    text += f"; on the {old['samples']} held out before, {candidate.evidence.retained['accuracy']:.3f}"
    text += f" after {old['accuracy']:.3f}."
    recalls = [f"{name} {new['per_class'][name]['recall']:.2f}" for name in new["labels"] if name not in old["labels"]]
    if recalls:
        text += f" New labels, with their recall: {', '.join(recalls)}."
    if candidate.reasons:
        text += f" Forced, although {'; '.join(candidate.reasons)}."
    return candidate.note + text


def _left_out(rows: Sequence[TrainingPicture]) -> str:
    if not rows:
        return ""
    names = ", ".join(row.image_path for row in rows[:_NAMED_PICTURES])
    more = f" and {len(rows) - _NAMED_PICTURES} more" if len(rows) > _NAMED_PICTURES else ""
    return f"Left out, because they are missing or cannot be read: {names}{more}. "
