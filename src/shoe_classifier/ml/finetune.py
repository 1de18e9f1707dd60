"""From taught pictures to a new model file: first training, quick retrain, full retrain."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml import head as heads
from shoe_classifier.ml.backbone import Backbone
from shoe_classifier.ml.bundle import Bundle
from shoe_classifier.ml.dataset import LabelledPictures, count_distinct, is_held_out, synthetic_negatives
from shoe_classifier.ml.evaluation import evaluate
from shoe_classifier.ml.head import BACKGROUND
from shoe_classifier.ml.replay_buffer import ReplayBuffer, ReplayBufferBuilder

_PHOTO_WEIGHT = 5.0
_BLANK_WEIGHT = 10.0
_CHANGED = 24  # pictures that are named
_ENOUGH_TO_ASK = 20  # pictures of a label; from fewer, a head learns too little to doubt the rest

Report = Callable[[str, float, str], None]  # phase, progress 0..1 within it, message; may raise to stop


@dataclass(frozen=True)
class RetrainTask:
    """What a retrain learns from. It can be sent to another process.

    Attributes:
        source: the live model's file.
        target: where the new model's file is written.
        pictures: new pictures at the network's side, with places in `labels`.
        labels: the live model's labels in their places, then the new ones.
        deadline: `time.time()` after which training must have ended.
    """

    source: Path
    target: Path
    pictures: LabelledPictures
    labels: list[str]
    deadline: float


@dataclass(frozen=True)
class GateEvidence:
    """What the gate judges by.

    Attributes:
        metrics: of the new model, on all held-out pictures; and under `changed`, which pictures of the lesson it calls
            something else than the live model does.
        baseline: of the live model, on the pictures held out before this lesson: whoever brought the lesson may have
            labelled it wrongly, and must not set its own examination.
        retained: of the new model, on those same pictures.
        lesson: of the new model, on the pictures of this lesson that are held out.
        sure, contradicted: of how many of the lesson's pictures with old labels the live model was sure, and of how
            many of these it is sure that they show something else.
        label_disagreements, asked: how many of the lesson's pictures get another label from a head that has seen only
            the others of the lesson, and of how many; labels with few pictures are left out.
        distinct: for each label of the lesson, how many of its pictures look different, and of how many.
        background_false_accepts: share of the held-out backgrounds that the live model accepts as one of its labels,
            and that the new one accepts as one of these, 0..1; a new label may well be like a background.
    """

    metrics: dict[str, Any]
    baseline: dict[str, Any]
    retained: dict[str, Any]
    lesson: dict[str, Any]
    sure: int
    contradicted: int
    label_disagreements: int
    asked: int
    distinct: dict[str, tuple[int, int]]
    background_false_accepts: tuple[float, float]


def retrain_head(lesson: RetrainTask, report: Report) -> GateEvidence:
    """Learn a new head from the features of the new pictures and the replay memory; the backbone stays."""
    live, before = bundles.read(lesson.source), bundles.read_replay_buffer(lesson.source)
    memory = before.add(_look_at(live.engine(), lesson.pictures, report, before.latent_scale, photo=True))
    report("train", 0.0, f"Fitting the head to {int((~memory.held_out).sum())} samples.")
    candidate = _candidate(live.flatbuffer, memory, lesson.labels, live.version)
    report("train", 1.0, "The head is fitted.")
    bundles.derive(lesson.source, lesson.target, candidate, memory)
    return _outcome(candidate, memory, live, before, memory, lesson)


def finetune(lesson: RetrainTask, report: Report) -> GateEvidence:
    """Tune the upper layers with TensorFlow, rebuild the memory from its latents, then learn the head."""
    report("train", 0.0, "Starting TensorFlow.")
    from shoe_classifier.ml import (
        architecture,  # takes seconds and 450 MB, so only here
        training,
    )

    live, before = bundles.read(lesson.source), bundles.read_replay_buffer(lesson.source)
    memory = before.add(_look_at(live.engine(), lesson.pictures, report, before.latent_scale, photo=True))
    rehearsed = memory[memory.has_latent & ~np.isin(memory.keys, keys_of(lesson.pictures.hashes))]
    model = architecture.load(lesson.source)
    _tune(training, model, lesson, rehearsed, report)
    report("compile", 0.0, "Compiling the network.")
    flatbuffer = architecture.compile_backbone(model)
    features = architecture.call_in_batches(architecture.upper(model), rehearsed.float_latents())
    after = replace(rehearsed, features=features.astype(np.float16))
    after = after.add(_look_at(Backbone(flatbuffer), lesson.pictures, report, before.latent_scale, photo=True))
    candidate = _candidate(flatbuffer, after, lesson.labels, live.version)
    model.save(lesson.target, include_optimizer=False)
    bundles.attach(lesson.target, candidate, after)
    return _outcome(candidate, after, live, before, memory, lesson)


def build_model_file(
    model: Any,
    target: Path,
    pictures: LabelledPictures,
    photos: LabelledPictures | None,
    backgrounds: LabelledPictures | None,
    labels: list[str],
    report: Report,
) -> Bundle:
    """Write the model file of a network that was just trained.

    Args:
        model: the Keras network.
        pictures: all labelled pictures at the network's side; the memory keeps a fair sample of them.
        photos: few pictures of the same labels, as users take them.
        backgrounds: pictures of none of the labels.
    """
    from shoe_classifier.ml import architecture

    flatbuffer = architecture.compile_backbone(model)
    engine = Backbone(flatbuffer)
    scale = _latent_scale(engine, pictures)
    everything = _look_at(engine, pictures, report, scale, photo=False)
    if photos:
        everything = everything.joined(_look_at(engine, photos, report, scale, photo=True))
    if backgrounds:
        none = replace(backgrounds, labels=np.full(len(backgrounds), BACKGROUND))
        everything = everything.joined(_look_at(engine, none, report, scale, photo=True))
    nothing = synthetic_negatives(engine.side)
    nothing = replace(nothing, labels=np.full(len(nothing), BACKGROUND))
    everything = everything.joined(_look_at(engine, nothing, report, scale, photo=False))
    memory = everything.trimmed()
    bundle = _candidate(flatbuffer, memory, labels, None)
    model.save(target, include_optimizer=False)
    bundles.attach(target, bundle, memory)
    return bundle


def keys_of(hashes: list[str]) -> np.ndarray:
    """SHA-256 digests to the keys of the memory, `uint64 (n,)`."""
    return np.array([int(value[:16], 16) for value in hashes], np.uint64)


def _look_at(
    engine: Backbone, pictures: LabelledPictures, report: Report, latent_scale: float, *, photo: bool
) -> ReplayBuffer:
    held_out = np.array([is_held_out(value) for value in pictures.hashes], bool)
    recorder = ReplayBufferBuilder(latent_scale)
    for i, picture in enumerate(pictures.images):
        features, latent = engine.features_and_latent(picture)
        recorder.record(features, latent, int(pictures.labels[i]), bool(held_out[i]))
        if i % 50 == 0:
            report("features", i / len(pictures), f"Looking at picture {i + 1} of {len(pictures)}.")
    return recorder.memory(pictures.labels, held_out, keys_of(pictures.hashes), photo=photo)


def _latent_scale(engine: Backbone, pictures: LabelledPictures) -> float:
    """The step of 8-bit latents: nearly all activations of a few pictures fit into 127 steps."""
    latents = [engine.features_and_latent(picture)[1] for picture in pictures.images[:100]]
    return float(np.quantile(np.abs(latents), 0.9995)) / 127


def _tune(training: Any, model: Any, lesson: RetrainTask, rehearsed: ReplayBuffer, report: Report) -> None:
    learn = rehearsed[~rehearsed.held_out]
    classes = len(lesson.labels)
    training.finetune_upper_layers(
        model,
        lesson.pictures.split()[0],
        learn.float_latents(),
        np.where(learn.labels == BACKGROUND, classes, learn.labels).astype(np.int64),
        classes,
        lambda progress, message: report("train", progress, message),
        lambda: time.time() > lesson.deadline,
    )


def _candidate(flatbuffer: bytes, memory: ReplayBuffer, labels: list[str], parent: str | None) -> Bundle:
    features = memory.features.astype(np.float32)
    head = heads.fit(features, memory.labels, memory.held_out, len(labels), _weights(memory))
    return Bundle(
        version=bundles.new_version(),
        parent=parent,
        labels=tuple(labels),
        head=head,
        flatbuffer=flatbuffer,
        metrics=_metrics(head, memory, labels),
        fingerprint=bundles.fingerprint(memory),
        created_at=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    )


def _weights(memory: ReplayBuffer) -> np.ndarray:
    """Let photos count more where a label has other pictures, too: it is photos that users will send.

    The few pictures of nothing count more as well, so that no lesson makes them look like a label.
    """
    others = np.unique(memory.labels[~memory.photo & (memory.labels != BACKGROUND)])
    blank = ~memory.photo & (memory.labels == BACKGROUND)
    return np.select([blank, memory.photo & np.isin(memory.labels, others)], [_BLANK_WEIGHT, _PHOTO_WEIGHT], 1.0)


def _outcome(
    candidate: Bundle, after: ReplayBuffer, live: Bundle, before: ReplayBuffer, seen: ReplayBuffer, lesson: RetrainTask
) -> GateEvidence:
    """Judge both models on the pictures held out in both memories; their features differ when the backbone does."""
    both = np.intersect1d(before.keys[_judged(before)], after.keys[_judged(after)])
    old, new = before[np.isin(before.keys, both)], after[np.isin(after.keys, both)]
    taught = after[np.isin(after.keys, keys_of(lesson.pictures.hashes))]
    return GateEvidence(
        metrics=candidate.metrics | {"changed": _changed(candidate, taught, live, seen, lesson)},
        baseline=_metrics(live.head, old, list(live.labels)),
        retained=_metrics(candidate.head, new, lesson.labels),
        lesson=_metrics(candidate.head, taught, lesson.labels),
        distinct={lesson.labels[label]: count for label, count in count_distinct(lesson.pictures).items()},
        background_false_accepts=(
            _background_false_accepts(live.head, before, len(live.labels)),
            _background_false_accepts(candidate.head, after, len(live.labels)),
        ),
        **_contradictions(live, seen, lesson),
        **_label_disagreements(seen, lesson),
    )


def _changed(
    candidate: Bundle, taught: ReplayBuffer, live: Bundle, seen: ReplayBuffer, lesson: RetrainTask
) -> dict[str, Any]:
    """The `count` of the lesson's pictures that the new model calls something else, and the first of these `pictures`:
    `sha256`, their `label`, and what they were called `before` and are `after`.

    `taught` has the new model's features of the lesson, `seen` the live one's.
    """
    old = dict(zip(seen.keys.tolist(), live.head.logits(seen.features.astype(np.float32)).argmax(axis=1), strict=True))
    new = candidate.head.logits(taught.features.astype(np.float32)).argmax(axis=1)
    hashes = dict(zip(keys_of(lesson.pictures.hashes).tolist(), lesson.pictures.hashes, strict=True))
    pictures = [
        {
            "sha256": hashes[key],
            "label": lesson.labels[label],
            "before": live.labels[old[key]],
            "after": lesson.labels[guess],
        }
        for key, label, guess in zip(taught.keys.tolist(), taught.labels, new, strict=True)
        if key in old and old[key] != guess
    ]
    return {"count": len(pictures), "pictures": pictures[:_CHANGED]}


def _background_false_accepts(head: heads.Head, memory: ReplayBuffer, labels: int) -> float:
    features = memory.features[memory.held_out & (memory.labels == BACKGROUND)].astype(np.float32)
    if not len(features):
        return 0.0
    probabilities = head.probabilities(features)
    accepted = np.array(head.decide(features, probabilities)) == "accepted"
    return float((accepted & (probabilities.argmax(axis=1) < labels)).mean())


def _contradictions(live: Bundle, seen: ReplayBuffer, lesson: RetrainTask) -> dict[str, int]:
    """What the live model thinks of the lesson's labels. `seen` has its features."""
    known = (seen.labels >= 0) & (seen.labels < len(live.labels)) & np.isin(seen.keys, keys_of(lesson.pictures.hashes))
    if not known.any():
        return {"sure": 0, "contradicted": 0}
    features, labels = seen.features[known].astype(np.float32), seen.labels[known]
    probabilities = live.head.probabilities(features)
    sure = np.array(live.head.decide(features, probabilities)) == "accepted"
    return {"sure": int(sure.sum()), "contradicted": int((sure & (probabilities.argmax(axis=1) != labels)).sum())}


def _label_disagreements(seen: ReplayBuffer, lesson: RetrainTask) -> dict[str, int]:
    """Whether the lesson agrees with itself, and with what was learnt before. `seen` has the live model's features."""
    mine = np.isin(seen.keys, keys_of(lesson.pictures.hashes))
    names, counts = np.unique(seen.labels[mine], return_counts=True)
    asked = mine & np.isin(seen.labels, names[counts >= _ENOUGH_TO_ASK])
    chosen = asked | ~(seen.held_out | (seen.labels == BACKGROUND))  # unlike anything is no other label
    learn, asked = seen[chosen], asked[chosen]
    wrong = heads.label_disagreements(learn.features.astype(np.float32), learn.labels, _weights(learn), asked)
    return {"label_disagreements": int(wrong.sum()), "asked": int(asked.sum())}


def _judged(memory: ReplayBuffer) -> np.ndarray:
    return memory.held_out & (memory.labels != BACKGROUND)


def _metrics(head: heads.Head, memory: ReplayBuffer, labels: list[str]) -> dict[str, Any]:
    judged = memory[_judged(memory)]
    features = judged.features.astype(np.float32)
    probabilities = head.probabilities(features)
    metrics = evaluate(
        probabilities,
        judged.labels,
        labels,
        head.decide(features, probabilities),
        [f"{key:016x}" for key in judged.keys],  # the beginning of each SHA-256
    )
    return metrics | {"backgrounds": _backgrounds(head, memory)}


def _backgrounds(head: heads.Head, memory: ReplayBuffer) -> dict[str, Any]:
    """How many of the held-out pictures that show no label are called unknown, 0..1."""
    features = memory.features[memory.held_out & (memory.labels == BACKGROUND)].astype(np.float32)
    decisions = head.decide(features, head.probabilities(features)) if len(features) else []
    share = decisions.count("unknown") / len(decisions) if decisions else 0.0
    return {"samples": len(decisions), "unknown_rate": round(share, 5)}
