"""What a retrain job trains: the stored pictures that wait, made into a candidate, and the gate's opinion of it."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from shoe_classifier.files import FOLDER_PREFIX
from shoe_classifier.ml import finetune
from shoe_classifier.ml.comparison import what_got_worse
from shoe_classifier.ml.dataset import LabelledPictures
from shoe_classifier.ml.finetune import RetrainTask
from shoe_classifier.ml.gate import GateEvidence, judge
from shoe_classifier.ml.live_model import LiveModelHolder
from shoe_classifier.ml.tuning import Tune
from shoe_classifier.services.job_progress import JobProgress
from shoe_classifier.services.lesson import Lesson, LessonCollector, left_out
from shoe_classifier.services.picture_features import FeatureExtractor
from shoe_classifier.services.training_process import finetune_in_process, require_tensorflow, tensorflow_installed
from shoe_classifier.settings import Settings
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import RetrainMode, TrainingEvent

Method = Literal["quick", "full"]
_NAMED = 10  # labels that a message names
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
    note: str = ""

    @property
    def metrics(self) -> dict[str, Any]:
        """The candidate's metrics; those of a rejected one say what got worse, in their entry `worse`."""
        metrics = self.evidence.metrics
        return metrics | {"worse": what_got_worse(self.evidence, self.reasons)} if self.reasons else metrics


class CandidateTrainer:
    """Trains candidates from stored pictures and the live model."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        holder: LiveModelHolder,
        live: Path,
        features: FeatureExtractor,
        tune: Tune = finetune.tune_here,
    ):
        """`live` is the live model's file; `tune` is what full retrains tune with."""
        self._settings = settings
        self._collector = LessonCollector(settings, store, holder, features)
        self._live = live
        self._tune = tune

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
        methods, note = self._methods(progress.row.mode)
        note += f"Without {', '.join(map(repr, without))}, as asked. " if without else ""
        progress.update(mode=methods[0], samples=len(waiting))
        lesson = self._collector.collect(waiting, deadline, progress.report)
        progress.update(labels=lesson.labels, samples=len(lesson.learned))
        note += left_out(lesson.unreadable)
        candidate = self._attempt(methods[0], lesson, target, deadline, progress)
        if len(methods) > 1 and not progress.row.force and time.monotonic() < deadline:
            candidate = self._improved(candidate, lesson, target, deadline, progress)
        return replace(candidate, note=note + candidate.note)

    def _methods(self, mode: RetrainMode) -> tuple[Sequence[Method], str]:
        """Return the methods of a job, and a note if there is one less. The second is tried where it may be needed.

        Raises `NotOffered` when a full retrain is asked for but cannot run here.
        """
        if mode == "full":
            require_tensorflow()
        if mode != "auto":
            return [mode], ""
        if not tensorflow_installed():
            return ["quick"], "Quick only, because TensorFlow is not installed yet. "
        return ["quick", "full"], ""

    def _improved(
        self, quick: TrainedCandidate, lesson: Lesson, target: Path, deadline: float, progress: JobProgress
    ) -> TrainedCandidate:
        """Try a full retrain where the gate rejects the quick one, or where there are many pictures.

        A full one costs minutes, and slower predictions ever after, so it replaces an accepted quick one only if it is
        better on the new held-out pictures by more than chance.
        """
        count, limit = len(lesson.learned), self._settings.full_from_images
        if not quick.reasons and count < limit:
            return replace(quick, note=f"Quick first, for {count} new pictures (full from {limit} on). ")
        progress.update(mode="full")
        second = target.with_name(f".candidate-full{target.name}")
        try:
            full = self._attempt("full", lesson, second, deadline, progress)
            better = not full.reasons and gains(full.evidence, quick.evidence)
            if quick.reasons or better:
                second.replace(target)
        finally:
            second.unlink(missing_ok=True)
        if quick.reasons:
            return replace(full, note=f"Quick failed, because {'; '.join(quick.reasons)}; then full. ")
        if better:
            return replace(full, note=f"Full, because it gains on {count} new pictures. ")
        progress.update(mode="quick")
        return replace(quick, note=f"Quick, because full gains nothing on {count} new pictures. ")

    def _attempt(
        self, method: Method, lesson: Lesson, target: Path, deadline: float, progress: JobProgress
    ) -> TrainedCandidate:
        task = RetrainTask(
            source=self._live,
            target=target,
            features=lesson.features,
            new=lesson.new,
            labels=lesson.labels,
            deadline=deadline - max(0.0, deadline - time.monotonic()) * _TIME_TO_FINISH,
            forgotten=lesson.forgotten,
            names=lesson.changes.names if lesson.changes.waiting else None,
            last_change=lesson.changes.last,
        )
        if method == "quick":
            evidence = finetune.retrain_head(task, progress.report)
        else:
            with self._pictures(lesson, progress) as pictures:
                checkpoint = self._live.with_name(".training.npz")
                evidence = self._finetune(replace(task, pictures=pictures, checkpoint=checkpoint), progress)
        progress.report(TrainingEvent("judge", 0.0, "Comparing with the live model."))
        return TrainedCandidate(evidence, judge(evidence), lesson.learned)

    @contextmanager
    def _pictures(self, lesson: Lesson, progress: JobProgress) -> Iterator[LabelledPictures]:
        parent = self._settings.temp_uploads_dir
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=FOLDER_PREFIX, dir=parent) as folder:
            yield self._collector.load_pictures(lesson, progress.report, Path(folder) / "pictures")

    def _finetune(self, task: RetrainTask, progress: JobProgress) -> GateEvidence:
        if self._settings.retrain_in == "thread":
            return finetune.finetune(task, progress.report)
        return finetune_in_process(task, progress.report, self._tune)


def gains(full: GateEvidence, quick: GateEvidence) -> bool:
    """Whether a full retrain is better on the new held-out pictures than the 95 % interval of the quick one allows."""
    return bool(full.learned["accuracy"] > quick.learned["accuracy_interval"][1])


def _recall(name: str, figures: dict[str, float]) -> str:
    return f"{name} {_percent(figures['recall'])}" if figures["support"] else f"{name} (too few pictures to test it)"


def _percent(share: float) -> str:
    return f"{share * 100:.1f} %"


def verdict(candidate: TrainedCandidate) -> str:
    """Describe a candidate that is to be published."""
    new, old = candidate.evidence.metrics, candidate.evidence.baseline
    text = f"Accuracy {_percent(new['accuracy'])} on {new['samples']} test pictures"
    text += f"; on the earlier {old['samples']} test pictures: {_percent(candidate.evidence.retained['accuracy'])}"
    text += f", was {_percent(old['accuracy'])}."
    added = [name for name in new["labels"] if name not in old["labels"]]
    if added:
        recalls = ", ".join(_recall(name, new["per_class"][name]) for name in added[:_NAMED])
        more = f" and {len(added) - _NAMED} more" if len(added) > _NAMED else ""
        text += f" New labels, with their recall: {recalls}{more}."
    if candidate.reasons:
        text += f" Forced, although {'; '.join(candidate.reasons)}."
    return candidate.note + text
