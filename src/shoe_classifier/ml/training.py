"""Training with TensorFlow: a network from pictures, and the full retrain of its upper layers.

Importing this module imports TensorFlow; the service does so only when such a training starts.
"""

import hashlib
import logging
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import keras
import numpy as np
import tensorflow as tf

from shoe_classifier.files import replacing
from shoe_classifier.ml import architecture
from shoe_classifier.ml.augment import (
    Draws,
    augment_any,
    augment_photo,
    augment_product,
    jitter,
    mixup,
    paste_on_background,
)
from shoe_classifier.ml.batches import Batch, BatchCounts, Batches, training_batches, tuning_batches
from shoe_classifier.ml.dataset import IMAGE_SIZE, LabelledPictures
from shoe_classifier.ml.tuning import Tuning
from shoe_classifier.types import Report, TrainingEvent

logger = logging.getLogger(__name__)

_CLIP_NORM = 1.0  # of the gradient of each variable
_DISTILLATION_WEIGHT = 1.0  # of staying near the old features while the upper layers are tuned
_REPORT_STEPS = 5  # often enough that a training stops within a second or two
_RECENT_STEPS = 10  # that the reported loss is the mean of


@dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained from pictures.

    Attributes:
        image_size: edge of the network's pictures, in pixels.
        stages, width: of `architecture.build`.
        epochs: with none, the network stays as it starts, and only the head is fitted.
        steps: batches of one epoch.
        plain: labelled pictures in a batch, as they are.
        pasted: labelled pictures in a batch, cut out and pasted on negatives.
        photos: labelled photos in a batch.
        negatives: pictures of no label in a batch; each of their folders is a class that the shipped head drops.
        learning_rate: the largest, after the warm-up.
        weight_decay, label_smoothing: of AdamW, and of the cross-entropy.
        mixup_share: of the pasted pictures, photos and negatives, 0..1.
        frozen: residual blocks from the bottom that keep the weights they start with: what ImageNet taught.
    """

    image_size: int = IMAGE_SIZE
    stages: tuple[architecture.Stage, ...] = architecture.STAGES
    width: int = architecture.WIDTH
    epochs: int = 8
    steps: int = 100
    plain: int = 36
    pasted: int = 30
    photos: int = 24
    negatives: int = 14
    learning_rate: float = 3e-4
    weight_decay: float = 0.05
    label_smoothing: float = 0.05
    mixup_share: float = 0.15
    frozen: int = 11

    @property
    def load_size(self) -> int:
        """Pictures are loaded a third larger than the network takes them, so that zooming in finds detail."""
        return self.image_size * 4 // 3


# ---------------------------------------------------------------- the loop


class _Learner(Protocol):
    """What the loop trains.

    Attributes:
        weights: the variables that learn.
        optimizer: built for them, without clipping of its own.
    """

    weights: list[keras.Variable]
    optimizer: keras.optimizers.Optimizer

    def loss(self, batch: Batch, seed: tf.Tensor) -> tf.Tensor:
        """This worker's part of the mean loss of a step's whole batch, a `float32` scalar; the parts add up to it."""


@dataclass(frozen=True)
class _Course:
    """How a training runs.

    Attributes:
        epochs, steps: how many, and how many steps each has.
        report: receives the progress, and may raise to stop.
        report_steps: from one event to the next within an epoch; None for one event an epoch.
        out_of_time: True ends the training, of all workers, after the next step.
        checkpoint: keeps the state after each epoch.
    """

    epochs: int
    steps: int
    report: Report
    report_steps: int | None = None
    out_of_time: Callable[[], bool] = lambda: False
    checkpoint: "_CheckpointFile | None" = None


def _learn(learner: _Learner, batches: Batches, course: _Course, strategy: tf.distribute.Strategy) -> None:
    """The loop of all trainings. `Model.fit` does not run on several workers in Keras 3."""

    @tf.function(reduce_retracing=True)  # workers' parts of a batch differ in size
    def step(batch: Batch, seed: tf.Tensor, late: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return strategy.run(_step, (learner, batch, seed, late))

    variables = [*learner.weights, *learner.optimizer.variables]
    device = _device(learner, strategy)
    for epoch in range(course.checkpoint.restore(variables) if course.checkpoint else 0, course.epochs):
        losses: list[float] = []
        for done in range(course.steps):
            number = epoch * course.steps + done
            loss, late = step(batches(number), tf.constant([0, number]), tf.constant(float(course.out_of_time())))
            losses.append(float(loss))
            if course.report_steps and done % course.report_steps == 0:
                share, recent = done / course.steps, float(np.mean(losses[-_RECENT_STEPS:]))
                course.report(_epoch_event(epoch, course.epochs, share, recent, device))
            if late > 0:
                return
        if course.checkpoint:
            course.checkpoint.save(variables, epoch + 1)
        course.report(_epoch_event(epoch, course.epochs, 1.0, float(np.mean(losses)), device))


def _step(learner: _Learner, batch: Batch, seed: tf.Tensor, late: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Learn from this worker's part of a batch. Returns the loss of the whole one, and how many workers are late."""
    with tf.GradientTape() as tape:
        loss = learner.loss(batch, seed)
    workers = tf.distribute.get_replica_context()
    gradients = tape.gradient(loss, learner.weights)
    sums = [*gradients, loss, tf.identity(late)]  # an argument as it is would be on no device, which it must be
    *gradients, loss, late = workers.all_reduce(tf.distribute.ReduceOp.SUM, sums)
    # The optimizer's own clipping comes before it adds up the gradients of all workers, so it would clip parts of them.
    # It adds up these parts once more.
    parts = [tf.clip_by_norm(gradient, _CLIP_NORM) / workers.num_replicas_in_sync for gradient in gradients]
    learner.optimizer.apply_gradients(zip(parts, learner.weights, strict=True))
    return loss, late


def _epoch_event(epoch: int, epochs: int, done: float, loss: float, device: str) -> TrainingEvent:
    """An event of the training: `epoch` counts from 0, `done` is the share of it that is over."""
    message = f"Epoch {epoch + 1} of {epochs} on {device}, loss {loss:.3f}."
    return TrainingEvent("train", (epoch + done) / epochs, message, epoch=epoch + 1, epochs=epochs, loss=float(loss))


def many_workers() -> tf.distribute.Strategy:
    """A strategy for `tune` on all processes that TF_CONFIG names. Call it before TensorFlow computes anything."""
    return tf.distribute.MultiWorkerMirroredStrategy()


def _device(learner: _Learner, strategy: tf.distribute.Strategy) -> str:
    """What computes, for people."""
    device = "GPU" if "GPU" in learner.weights[0].value.device else "CPU"
    workers = strategy.num_replicas_in_sync
    return f"the {device}" if workers == 1 else f"the {device}s of {workers} workers"


class _CheckpointFile:
    """The state of a training after its last whole epoch, in one file.

    Args:
        path: of the file.
        fingerprint: of what the training learns from, and how. The state of another training is not taken over.
    """

    def __init__(self, path: Path, fingerprint: str):
        self._path, self._fingerprint = path, fingerprint

    def save(self, variables: Sequence[keras.Variable], epochs: int) -> None:
        """Keep the state after so many epochs."""
        arrays = {str(number): variable.numpy() for number, variable in enumerate(variables)}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self._path) as part, part.open("wb") as file:
            np.savez(file, epochs=epochs, fingerprint=self._fingerprint, **arrays)

    def restore(self, variables: Sequence[keras.Variable]) -> int:
        """Take the state over, if there is one; returns after how many epochs it was kept."""
        try:
            with self._path.open("rb") as file, np.load(file) as state:
                if str(state["fingerprint"]) != self._fingerprint:
                    return 0
                values = [state[str(number)] for number in range(len(variables))]
                epochs = int(state["epochs"])
        except FileNotFoundError:
            return 0
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            logger.warning("The checkpoint %s cannot be read; the training begins anew.", self._path, exc_info=True)
            return 0
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        return epochs


# ---------------------------------------------------------------- a network from pictures


def train(
    pictures: LabelledPictures,
    photos: LabelledPictures | None,
    negatives: LabelledPictures | None,
    classes: int,
    config: TrainingConfig,
    report: Report,
    checkpoints: Path | None = None,
    start: keras.Model | None = None,
) -> keras.Model:
    """Train a network.

    Args:
        pictures: labelled 0..classes-1, loaded at `config.load_size`, as are the next two.
        photos: with the same labels, as users take them.
        negatives: labelled from `classes` on. They teach the backbone what else there is; their outputs leave with
            the training head.
        classes: number of labels.
        config: how to train.
        report: receives an event after each epoch, and may raise to stop.
        checkpoints: folder from which an interrupted run resumes after its last whole epoch.
        start: model of the same build whose weights below the head are taken over.

    Returns:
        The network, with `classes` outputs and one for each folder of negatives.
    """
    outputs = classes + (int(negatives.labels.max()) - classes + 1 if negatives else 0)
    model = architecture.build(config.image_size, outputs, config.stages, config.width)
    if start:
        architecture.copy_weights(start, model)
        architecture.freeze(model, config.frozen)
    if not config.epochs:
        return model
    sources = [source for source in (pictures, photos, negatives) if source]
    fingerprint = hashlib.sha256(repr((config, [source.hashes for source in sources])).encode()).hexdigest()
    counts = BatchCounts(config.plain, config.pasted, config.photos, config.negatives)
    checkpoint = _CheckpointFile(checkpoints / "training.npz", fingerprint) if checkpoints else None
    learner = _WholeNetwork(model, config)
    batches = training_batches(pictures, photos, negatives, counts)
    _learn(
        learner,
        batches,
        _Course(config.epochs, config.steps, report, checkpoint=checkpoint),
        tf.distribute.get_strategy(),
    )
    learner.optimizer.finalize_variable_values(learner.weights)  # their moving averages
    return model


class _WholeNetwork:
    """A network that learns from the batches of `training_batches`."""

    def __init__(self, model: keras.Model, config: TrainingConfig):
        self._model, self._config = model, config
        self.weights = model.trainable_variables
        self.optimizer = _optimizer(config)
        self.optimizer.build(self.weights)
        self._loss = keras.losses.CategoricalCrossentropy(label_smoothing=config.label_smoothing)

    def loss(self, batch: Batch, seed: tf.Tensor) -> tf.Tensor:
        images, labels = views(batch, self._model.output.shape[-1], self._config, seed)
        return self._loss(labels, self._model(images, training=True))


def views(batch: Batch, outputs: int, config: TrainingConfig, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Augment a batch of `training_batches`.

    Args:
        outputs: number of classes, those of the negatives included.
        config: what the pictures become.
        seed: `int (2,)`; the same one gives the same pictures.

    Returns:
        Pictures `float32 (b, image_size, image_size, 3)`, RGB 0-255, and labels `float32 (b, outputs)`, 0..1.
    """
    sizes = {name: labels.shape[0] for name, (_, labels, _) in batch.items()}  # not `len`, in a graph

    def draws(number: int, size: int) -> Draws:
        return Draws(tf.random.experimental.stateless_fold_in(seed, number), tf.range(size), size)

    size, rough, rough_labels = config.image_size, [], []
    if "pasted" in batch:
        pasted = draws(0, sizes["pasted"])
        rough.append(paste_on_background(batch["pasted"][0], batch["behind"][0], size, pasted))
        rough_labels.append(batch["pasted"][1])
    for number, name in enumerate(("photos", "negatives"), 1):
        if name in batch:
            rough.append(augment_photo(batch[name][0], size, draws(number, sizes[name])))
            rough_labels.append(batch[name][1])
    clean = augment_product(batch["plain"][0], size, draws(3, sizes["plain"]))
    clean_labels = tf.one_hot(batch["plain"][1], outputs)
    if not rough:
        return clean, clean_labels
    one_hot = tf.one_hot(tf.concat(rough_labels, 0), outputs)
    mixed = draws(4, one_hot.shape[0])
    images, labels = mixup(jitter(tf.concat(rough, 0), mixed), one_hot, config.mixup_share, mixed)
    return tf.concat([clean, images], 0), tf.concat([clean_labels, labels], 0)


def _optimizer(config: TrainingConfig) -> keras.optimizers.Optimizer:
    steps = config.epochs * config.steps
    schedule = keras.optimizers.schedules.CosineDecay(
        1e-5, steps, warmup_target=config.learning_rate, warmup_steps=steps // 30
    )
    momentum = min(0.998, steps / (steps + 10))  # a short run must not average over its own beginning
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=config.weight_decay, use_ema=True, ema_momentum=momentum)
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    return optimizer


# ---------------------------------------------------------------- full retrain


def tune(model: keras.Model, tuning: Tuning, report: Report, strategy: tf.distribute.Strategy | None = None) -> None:
    """Tune the layers above the latents, in place, with new pictures and the latents of what was learned before.

    Args:
        model: opened in the strategy's scope. Its lower layers stay as they are, and so do all means and variances of
            its normalisations.
        tuning: what to learn, and how long. The latents' features are held near what they were, as in Hou et al.
            2019, "Learning a Unified Classifier Incrementally via Rebalancing".
        report: receives the progress every few steps, and may raise to stop.
        strategy: distributes the steps over workers, each of which calls this with its share of the samples. All end
            with the weights that one worker with all samples would reach, but for rounding.
    """
    strategy = strategy or tf.distribute.get_strategy()
    with strategy.scope():
        learner = _UpperLayers(model, tuning)
    checkpoint = _CheckpointFile(tuning.checkpoint, tuning.fingerprint) if tuning.checkpoint else None
    course = _Course(
        tuning.epochs, tuning.steps, report, _REPORT_STEPS, lambda: time.monotonic() > tuning.deadline, checkpoint
    )
    _learn(learner, tuning_batches(tuning.pictures, tuning.latents, tuning.batch), course, strategy)


def tune_here(model: keras.Model, tuning: Tuning, report: Report) -> None:
    """Tune on this machine: on its GPU, if it has one, or on the CPU, if the GPU fails, as for lack of memory."""
    try:
        tune(model, tuning, report)
    except tf.errors.OpError:
        if not tf.config.list_logical_devices("GPU"):
            raise
        logger.warning("The GPU failed; the training begins anew on the CPU.", exc_info=True)
        with tf.device("/CPU:0"):
            again = architecture.load(tuning.source)
            tune(again, tuning, report)
        architecture.upper(model).set_weights(architecture.upper(again).get_weights())


class _UpperLayers:
    """The layers that `tune` tunes, with a head of their own."""

    def __init__(self, model: keras.Model, tuning: Tuning):
        self._tuning = tuning
        self._outputs = tuning.classes + 1  # with the negatives
        self._lower, self._upper = architecture.lower(model), architecture.upper(model)
        self._before = keras.models.clone_model(self._upper)
        self._before.set_weights(self._upper.get_weights())
        for layer in self._upper.layers:
            layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)  # of networks of 0.1.0
        self._head = keras.layers.Dense(self._outputs, kernel_initializer=keras.initializers.GlorotUniform(seed=0))
        self._head.build(self._upper.output.shape)
        self._loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.05, reduction=None)
        self.weights = self._upper.trainable_variables + self._head.trainable_variables
        schedule = keras.optimizers.schedules.CosineDecay(1e-4, tuning.epochs * tuning.steps)
        self.optimizer = keras.optimizers.AdamW(schedule, weight_decay=0.01)
        self.optimizer.build(self.weights)

    def loss(self, batch: Batch, seed: tf.Tensor) -> tf.Tensor:
        size = self._tuning.batch
        inputs, labels = [], []
        if "pictures" in batch:
            images, of_pictures, places = batch["pictures"]
            draws = Draws(seed, places, size)
            inputs.append(self._lower(jitter(augment_any(images, draws), draws, 0.5), training=False))
            labels.append(of_pictures)
        if "latents" in batch:
            steps, of_latents, places = batch["latents"]
            latents = tf.cast(steps, tf.float32) * self._tuning.latent_scale
            mirrored = Draws(tf.random.experimental.stateless_fold_in(seed, 0), places, size).signs([1, 1, 1]) < 0
            inputs.append(tf.where(mirrored, latents[:, :, ::-1], latents))
            labels.append(of_latents)
        features = self._upper(tf.concat(inputs, 0), training=True)
        one_hot = tf.one_hot(tf.concat(labels, 0), self._outputs)
        loss = tf.reduce_sum(self._loss(one_hot, self._head(features))) / (size * len(batch))
        if "latents" in batch:
            before = self._before(inputs[-1], training=False)
            replayed = features[tf.shape(features)[0] - tf.shape(before)[0] :]
            loss += _DISTILLATION_WEIGHT * distillation_loss(replayed, before, size)
        return loss


def distillation_loss(features: tf.Tensor, before: tf.Tensor, size: int) -> tf.Tensor:
    """How far features `float32 (n, d)` are from what they were `before`, in units of their own variance.

    Returns:
        This worker's part of the mean over the `size` features of all workers, a scalar.
    """
    total, squares = tf.distribute.get_replica_context().all_reduce(
        tf.distribute.ReduceOp.SUM, [tf.reduce_sum(before, 0), tf.reduce_sum(tf.square(before), 0)]
    )
    variance = tf.maximum(squares / size - tf.square(total / size), 0.0)
    return tf.reduce_sum(tf.reduce_mean(tf.square(features - before) / (variance + 1e-3), 1)) / size
