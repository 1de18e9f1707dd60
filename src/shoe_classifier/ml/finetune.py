"""From new pictures to a new model file: the first training's file, quick retrain, full retrain."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml import head_fitting, label_changes
from shoe_classifier.ml.backbone import Backbone
from shoe_classifier.ml.batches import Share
from shoe_classifier.ml.bundle import Bundle
from shoe_classifier.ml.dataset import LabelledPictures, held_out, synthetic_negatives
from shoe_classifier.ml.evidence import LiveAnswers, gather_evidence, metrics_of, named, sample_weights
from shoe_classifier.ml.features import LabelledFeatures
from shoe_classifier.ml.gate import GateEvidence
from shoe_classifier.ml.head import BACKGROUND, Head
from shoe_classifier.ml.head_fitting import LeftOut, Samples
from shoe_classifier.ml.replay_buffer import NO_LATENT, ReplayBuffer, ReplayBufferBuilder, keys_of
from shoe_classifier.ml.tuning import Tune, Tuning
from shoe_classifier.types import Report, TrainingEvent, utc_now

_REPORT_PICTURES = 50  # from one event to the next while features are computed
_ENOUGH_TO_HOLD_OUT = 20  # pictures of a label
_CALIBRATION_PICTURES = 170  # of each source, about
_SCALE_PICTURES = 100  # that the step of the latents is taken from
_SCALE_QUANTILE = 0.9995  # of their activations that fit into 8 bits


@dataclass(frozen=True)
class RetrainTask:
    """What a retrain learns from. It can be sent to another process.

    Attributes:
        source: the live model's file.
        target: where the new model's file is written.
        features: of all pictures that the head is to learn, from the live backbone; labels are indices into `labels`,
            or `BACKGROUND` for pictures that show none of them.
        new: `bool (n,)`, which of them are this retrain's lesson. The others were learned before, with these labels.
        labels: the live model's labels in output order, then the new ones.
        deadline: `time.monotonic()` at which training must have ended; the same in all processes of one machine.
        pictures: the pictures themselves, at the network's own size; only a full retrain needs them.
        forgotten: SHA-256 digests, hexadecimal, of pictures that the replay buffer must not keep.
        names: what each of the live model's labels is called in `labels`, None for one that leaves; see
            `label_changes.take_over`. Without names, all stay as they are.
        last_change: the id of the last change of a label that these names take over; the model file keeps it.
        checkpoint: file from which a full retrain of the same pictures that was killed goes on.
        latents: samples of some of the new pictures, with their latents, where these are known without a full retrain.
    """

    source: Path
    target: Path
    features: LabelledFeatures
    new: np.ndarray
    labels: list[str]
    deadline: float
    pictures: LabelledPictures | None = None
    forgotten: frozenset[str] = frozenset()
    names: Sequence[str | None] | None = None
    last_change: str | None = None
    checkpoint: Path | None = None
    latents: ReplayBuffer | None = None

    @property
    def merged(self) -> list[int]:
        """The labels that are several labels of the live model, by their index."""
        counts = Counter(name for name in self.names or () if name is not None)
        return [self.labels.index(name) for name, count in counts.items() if count > 1]

    @property
    def lesson(self) -> LabelledFeatures:
        """The features of the new pictures."""
        return self.features[self.new]


def retrain_head(task: RetrainTask, report: Report) -> GateEvidence:
    """Quick retrain: fit a new head to the features of the pictures and of the replay buffer, without TensorFlow.

    Writes `task.target`. Raises `InvalidModel` when `task.source` does not read, and whatever `report` raises.
    """
    live, known, samples, answers = _read_live(task)
    report(TrainingEvent("train", 0.0, f"Fitting the head to {int((~samples.held_out).sum())} samples."))
    candidate, samples, left_out = _candidate(
        live.flatbuffer, samples, _is_new(samples, task), task.labels, live, task.merged
    )
    candidate = _noting_changes(candidate, task)
    report(TrainingEvent("train", 1.0, "The head is fitted."))
    bundles.derive(task.source, task.target, candidate, samples.trimmed())
    return gather_evidence(answers, known, samples, candidate, samples, left_out, task.lesson, task.labels)


def tune_here(model: Any, tuning: Tuning, report: Report) -> None:
    """Tune on this machine."""
    from shoe_classifier.ml import upper_layers

    upper_layers.tune_here(model, tuning, report)


def finetune(task: RetrainTask, report: Report, tune: Tune = tune_here) -> GateEvidence:
    """Full retrain: tune the upper layers with TensorFlow, update the replay buffer's features, then fit the head.

    Writes `task.target`. Raises as `retrain_head` does.
    """
    report(TrainingEvent("train", 0.0, "Starting TensorFlow."))
    from shoe_classifier.ml import architecture  # takes seconds and 450 MB, so only here

    if task.pictures is None:
        raise ValueError("Expected the pictures, which a full retrain learns from; received only their features.")
    live, known, before, answers = _read_live(task)
    others = before[~np.isin(before.keys, keys_of(task.pictures.hashes))]
    replayed = others[others.has_latent]
    model = architecture.load(task.source)
    tune(model, _tuning(task, task.pictures, live, replayed), report)
    report(TrainingEvent("compile", 0.0, "Compiling the network."))
    architecture.round_weights(model)
    # Not in integers: the pictures of one retrain are too much alike to tell how far activations reach.
    flatbuffer = architecture.compile_backbone(model)
    features = architecture.call_in_batches(architecture.upper(model), replayed.float_latents())
    pictures = _samples(Backbone(flatbuffer), task.pictures, report, before.latent_scale, photo=True)
    after = replace(replayed, features=features.astype(np.float16)).joined(pictures)
    after = after.joined(_of_missing_labels(others, after))
    candidate, after, left_out = _candidate(flatbuffer, after, _is_new(after, task), task.labels, live, task.merged)
    candidate = _noting_changes(candidate, task)
    model.save(task.target, include_optimizer=False)
    bundles.attach(task.target, candidate, after.trimmed())
    if task.checkpoint:
        task.checkpoint.unlink(missing_ok=True)
    return gather_evidence(answers, known, before, candidate, after, left_out, task.lesson, task.labels)


def _read_live(task: RetrainTask) -> tuple[Bundle, ReplayBuffer, ReplayBuffer, LiveAnswers]:
    """The live model, with what its labels are called now; what `_samples_to_learn` returns; and what to judge a
    candidate by.
    """
    live, stored = bundles.read(task.source), bundles.read_replay_buffer(task.source)
    if task.names is None:
        return live, *_samples_to_learn(stored, task), live
    answers = label_changes.present_answers(live, task.names)
    live, stored = label_changes.take_over(live, stored, task.names)
    return live, *_samples_to_learn(stored, task), answers


def _noting_changes(candidate: Bundle, task: RetrainTask) -> Bundle:
    if task.last_change is None:
        return candidate
    return replace(candidate, metrics=candidate.metrics | {label_changes.LAST_CHANGE: task.last_change})


def _samples_to_learn(stored: ReplayBuffer, task: RetrainTask) -> tuple[ReplayBuffer, ReplayBuffer]:
    """Join the live model's replay buffer and the pictures of a task.

    Returns:
        What was learned before, and the same with the new pictures. A picture counts once, as the task labels it; in
        what was learned before, a new one does not count at all.
    """
    dropped = keys_of([*task.forgotten, *task.lesson.hashes])
    known = stored[~np.isin(stored.keys, dropped)].joined(samples_of(task.features[~task.new], stored))
    lesson = samples_of(task.lesson, stored)
    return known, known.joined(lesson if task.latents is None else lesson.joined(task.latents))


def samples_of(pictures: LabelledFeatures, stored: ReplayBuffer) -> ReplayBuffer:
    """Samples without latents: full retrains are given the pictures again."""
    count, keys = len(pictures), keys_of(pictures.hashes)
    return ReplayBuffer(
        features=pictures.features,
        labels=pictures.labels.astype(np.int16),
        held_out=pictures.held_out,
        photo=np.ones(count, bool),
        shipped=np.zeros(count, bool),
        named=np.isin(keys, stored.keys[stored.named]),
        keys=keys,
        latents=stored.latents[:0],
        latent_rows=np.full(count, NO_LATENT, np.int32),
        latent_scale=stored.latent_scale,
    )


def _of_missing_labels(samples: ReplayBuffer, others: ReplayBuffer) -> ReplayBuffer:
    """Choose the samples of labels that `others` lacks.

    Such a label has neither latents nor pictures any more, as when a model moves to another machine. Features of the
    old backbone are then better than none: training holds them near their old values.
    """
    return samples[~np.isin(samples.labels, others.labels)]


def _tuning(task: RetrainTask, pictures: LabelledPictures, live: Bundle, replayed: ReplayBuffer) -> Tuning:
    classes = len(task.labels)
    shown, learn = pictures.split()[0], replayed[~replayed.held_out]
    labels, latent_labels = (_with_negatives_last(samples.labels, classes) for samples in (shown, learn))
    identity = repr((live.version, task.labels, labels.tolist(), shown.hashes, learn.keys.tolist()))
    return Tuning(
        source=task.source,
        pictures=Share(shown.images, labels, len(shown)),
        latents=Share(learn.latents[learn.latent_rows], latent_labels, len(learn)),
        latent_scale=learn.latent_scale,
        classes=classes,
        deadline=task.deadline,
        fingerprint=hashlib.sha256(identity.encode()).hexdigest(),
        checkpoint=task.checkpoint,
    )


def _with_negatives_last(labels: np.ndarray, classes: int) -> np.ndarray:
    """Label indices in which `classes` stands for the background: `int64 (n,)`."""
    return np.where(labels == BACKGROUND, classes, labels).astype(np.int64)


def build_model_file(
    model: Any,
    target: Path,
    pictures: LabelledPictures,
    photos: LabelledPictures | None,
    negatives: LabelledPictures | None,
    labels: list[str],
    report: Report,
) -> Bundle:
    """Write the model file of a network that was just trained.

    Args:
        model: the Keras network, of `architecture.build`.
        target: where the file is written.
        pictures: all labelled pictures at the network's own size. The head is fitted to all of them; the replay buffer
            keeps a fair sample.
        photos: few pictures of the same labels, as users take them.
        negatives: pictures of none of the labels; their own labels do not matter.
        labels: in output order.
        report: receives the progress, and may raise to stop.
    """
    from shoe_classifier.ml import architecture

    architecture.round_weights(model)
    flatbuffer = architecture.compile_backbone(model, _calibration(pictures, photos, negatives))
    backbone = Backbone(flatbuffer)
    scale = _latent_scale(backbone, pictures)
    buffer = _samples(backbone, pictures, report, scale, photo=False, shipped=True)
    if photos:
        buffer = buffer.joined(_samples(backbone, photos, report, scale, photo=True, shipped=True))
    if negatives:
        buffer = buffer.joined(_samples(backbone, _as_background(negatives), report, scale, photo=True, shipped=True))
    synthetic = _as_background(synthetic_negatives(backbone.image_size))
    buffer = buffer.joined(_samples(backbone, synthetic, report, scale, photo=False, shipped=True))
    bundle, buffer, _ = _candidate(flatbuffer, buffer, np.zeros(len(buffer), bool), labels, None)
    model.save(target, include_optimizer=False)
    bundles.attach(target, bundle, buffer.trimmed())
    return bundle


def _calibration(*sources: LabelledPictures | None) -> np.ndarray:
    """Some pictures of each source, `uint8 (n, size, size, 3)`."""
    given = [source.images for source in sources if source]
    return np.concatenate([images[:: max(1, len(images) // _CALIBRATION_PICTURES)] for images in given])


def _as_background(pictures: LabelledPictures) -> LabelledPictures:
    return replace(pictures, labels=np.full(len(pictures), BACKGROUND))


def _samples(
    backbone: Backbone,
    pictures: LabelledPictures,
    report: Report,
    latent_scale: float,
    *,
    photo: bool,
    shipped: bool = False,
) -> ReplayBuffer:
    judged, keys = held_out(pictures.hashes), keys_of(pictures.hashes)
    builder = ReplayBufferBuilder(latent_scale)
    for i, picture in enumerate(pictures.images):
        features, latent = backbone.features_and_latent(picture)
        builder.add(features, latent, int(pictures.labels[i]), bool(judged[i]), int(keys[i]))
        if i % _REPORT_PICTURES == 0:
            message = f"Computing the features of picture {i + 1} of {len(pictures)}."
            report(TrainingEvent("features", i / len(pictures), message))
    return builder.build(pictures.labels, judged, keys, photo=photo, shipped=shipped)


def _latent_scale(backbone: Backbone, pictures: LabelledPictures) -> float:
    """The step of 8-bit latents: nearly all activations of a few pictures fit into 127 steps."""
    latents = [backbone.features_and_latent(picture)[1] for picture in pictures.images[:_SCALE_PICTURES]]
    return float(np.quantile(np.abs(latents), _SCALE_QUANTILE)) / 127


def _released(buffer: ReplayBuffer) -> ReplayBuffer:
    """Hold nothing out of labels with few pictures: they need them all, and so few could not tell how well they do."""
    counts = np.bincount(buffer.labels[buffer.labels != BACKGROUND])
    few = (buffer.labels != BACKGROUND) & (counts[buffer.labels] < _ENOUGH_TO_HOLD_OUT)
    return replace(buffer, held_out=buffer.held_out & ~few)


def _is_new(buffer: ReplayBuffer, task: RetrainTask) -> np.ndarray:
    """Which samples of a buffer are of this task's pictures, `bool (n,)`."""
    return np.isin(buffer.keys, keys_of(task.lesson.hashes))


def _candidate(
    flatbuffer: bytes,
    buffer: ReplayBuffer,
    new: np.ndarray,
    labels: list[str],
    live: Bundle | None,
    merged: Sequence[int] = (),
) -> tuple[Bundle, ReplayBuffer, LeftOut]:
    """Fit a head. Also return the buffer, with what is held out of it and what the head names of new samples."""
    buffer = _released(buffer)
    kept = live.head if live and live.flatbuffer == flatbuffer and isinstance(live.head, Head) else None
    anew = new | np.isin(buffer.labels, merged)  # nothing that is known of the parts holds for a merged label
    samples = Samples(
        buffer.features.astype(np.float32), buffer.labels, sample_weights(buffer), buffer.held_out, buffer.photo, anew
    )
    head, left_out = head_fitting.fit(samples, len(labels), kept and _without(kept, merged))
    if kept and not new.any():
        head = _unchanged(head, kept, merged)
    first_seen = new if live else np.ones(len(buffer), bool)
    buffer = replace(buffer, named=np.where(first_seen, named(head, buffer), buffer.named))
    bundle = Bundle(
        version=bundles.new_version(),
        parent=live.version if live else None,
        labels=tuple(labels),
        head=head,
        flatbuffer=flatbuffer,
        metrics=metrics_of(head, buffer, labels),
        fingerprint=bundles.fingerprint(buffer),
        created_at=utc_now(),
    )
    return bundle, buffer, left_out


def _without(head: Head, labels: Sequence[int]) -> Head:
    """A head that says nothing about some of its labels."""
    columns = np.isin(np.arange(head.kernel.shape[1]), labels)
    return replace(head, kernel=np.where(columns, 0, head.kernel), bias=np.where(columns, 0, head.bias))


def _unchanged(head: Head, live: Head, merged: Sequence[int]) -> Head:
    """The live head, when only labels were changed; of merged labels, what was fitted."""
    if not merged:
        return live
    fitted = np.isin(np.arange(len(live.bias)), merged)
    return replace(head, unknown_thresholds=np.where(fitted, head.unknown_thresholds, live.unknown_thresholds))
