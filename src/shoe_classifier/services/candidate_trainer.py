"""What a retrain job trains: the stored pictures that wait, made into a candidate, and the gate's opinion of it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from shoe_classifier.ml import finetune
from shoe_classifier.ml.comparison import what_got_worse
from shoe_classifier.ml.finetune import RetrainTask
from shoe_classifier.ml.gate import GateEvidence, judge
from shoe_classifier.ml.live_model import LiveModelHolder
from shoe_classifier.services.job_progress import JobProgress
from shoe_classifier.services.lesson import Lesson, LessonCollector, left_out
from shoe_classifier.services.picture_features import FeatureExtractor
from shoe_classifier.services.training_process import finetune_in_process, require_tensorflow, tensorflow_installed
from shoe_classifier.settings import Settings
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import RetrainMode, TrainingEvent

Method = Literal["quick", "full"]
_TIME_TO_FINISH = 0.2  # share of the time that is kept for what follows the training


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

    @property
    def metrics(self) -> dict[str, Any]:
        """The candidate's metrics; those of a rejected one say what got worse, in their entry `worse`."""
        metrics = self.evidence.metrics
        return metrics | {"worse": what_got_worse(self.evidence, self.reasons)} if self.reasons else metrics


class CandidateTrainer:
    """Trains candidates from stored pictures and the live model."""

    def __init__(
        self, settings: Settings, store: Store, holder: LiveModelHolder, live: Path, features: FeatureExtractor
    ):
        """`live` is the live model's file."""
        self._settings = settings
        self._collector = LessonCollector(settings, store, holder, features)
        self._live = live

    def train(
        self, target: Path, deadline: float, progress: JobProgress, without: Sequence[str] = ()
    ) -> TrainedCandidate:
        """Train a candidate and write its model file to `target`.

        Args:
            deadline: `time.monotonic()` at which the training should have ended.
            progress: says which mode to use, and is told what happens.
            without: labels whose pictures go on waiting.

        Raises:
            NoNewData: there is nothing to learn from.
            Cancelled: `progress` was cancelled.
        """
        waiting = self._collector.waiting(without)
        methods, note = self._methods(progress.row.mode, len(waiting))
        note += f"Without {', '.join(map(repr, without))}, as asked. " if without else ""
        progress.update(mode=methods[0], samples=len(waiting))
        lesson = self._collector.collect(waiting, deadline, progress.report)
        progress.update(labels=lesson.labels, samples=len(lesson.learned))
        note += left_out(lesson.unreadable)
        for method in methods:
            progress.update(mode=method)
            candidate = self._attempt(method, lesson, target, deadline, progress, note)
            if not candidate.reasons or progress.row.force or time.monotonic() > deadline or method == methods[-1]:
                break
            note += f"{method.capitalize()} failed, because {'; '.join(candidate.reasons)}; then {methods[-1]}. "
        return candidate

    def _methods(self, mode: RetrainMode, pictures: int) -> tuple[Sequence[Method], str]:
        """Return the methods to try until the gate accepts a candidate, and why these, if the user left it open.

        Raises `NotOffered` when a full retrain is asked for but cannot run here.
        """
        if mode == "full":
            require_tensorflow()
        if mode != "auto":
            return [mode], ""
        if not tensorflow_installed():
            return ["quick"], "Quick only, because TensorFlow is not installed yet. "
        limit = self._settings.full_from_images
        if pictures >= limit:
            return ["full", "quick"], f"Full first, for {pictures} new pictures (from {limit} on). "
        return ["quick", "full"], f"Quick first, for {pictures} new pictures (full from {limit} on). "

    def _attempt(
        self, method: Method, lesson: Lesson, target: Path, deadline: float, progress: JobProgress, note: str
    ) -> TrainedCandidate:
        pictures = self._collector.load_pictures(lesson, progress.report) if method == "full" else None
        task = RetrainTask(
            source=self._live,
            target=target,
            features=lesson.features,
            new=lesson.new,
            labels=lesson.labels,
            deadline=deadline - max(0.0, deadline - time.monotonic()) * _TIME_TO_FINISH,
            pictures=pictures,
            forgotten=lesson.forgotten,
            names=lesson.changes.names if lesson.changes.waiting else None,
            last_change=lesson.changes.last,
        )
        evidence = self._train(method, task, progress)
        progress.report(TrainingEvent("judge", 0.0, "Comparing with the live model."))
        return TrainedCandidate(evidence, judge(evidence), lesson.learned, note)

    def _train(self, method: Method, task: RetrainTask, progress: JobProgress) -> GateEvidence:
        if method == "quick":
            return finetune.retrain_head(task, progress.report)
        if self._settings.retrain_in == "subprocess":
            return finetune_in_process(task, progress.report)
        return finetune.finetune(task, progress.report)


def _recall(name: str, figures: dict[str, float]) -> str:
    return f"{name} {figures['recall']:.2f}" if figures["support"] else f"{name} (too few pictures to hold any out)"


def verdict(candidate: TrainedCandidate) -> str:
    """Describe a candidate that is to be published."""
    new, old = candidate.evidence.metrics, candidate.evidence.baseline
    text = f"Accuracy {new['accuracy']:.3f} on {new['samples']} held-out pictures"
    text += f"; on the {old['samples']} held out before, {candidate.evidence.retained['accuracy']:.3f}"
    text += f" after {old['accuracy']:.3f}."
    added = [name for name in new["labels"] if name not in old["labels"]]
    if added:
        text += f" New labels, with their recall: {', '.join(_recall(name, new['per_class'][name]) for name in added)}."
    if candidate.reasons:
        text += f" Forced, although {'; '.join(candidate.reasons)}."
    return candidate.note + text
