"""Training with TensorFlow: a network from pictures, and the full retrain of its upper layers.

Importing this module imports TensorFlow; the service does so only when such a training starts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from shoe_classifier.ml import architecture
from shoe_classifier.ml.augment import augment_any, jitter
from shoe_classifier.ml.batches import Batch, BatchCounts, training_batches, tuning_batches
from shoe_classifier.ml.dataset import IMAGE_SIZE, LabelledPictures
from shoe_classifier.types import Report, TrainingEvent

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
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=config.label_smoothing)
    model.compile(_optimizer(config), loss, metrics=["accuracy"])
    callbacks: list[keras.callbacks.Callback] = [_EpochReport(report, config.epochs)]
    if checkpoints:
        callbacks.append(keras.callbacks.BackupAndRestore(str(checkpoints)))
    counts = BatchCounts(config.plain, config.pasted, config.photos, config.negatives)
    batches = training_batches(pictures, photos, negatives, outputs, config.image_size, counts, config.mixup_share)
    model.fit(
        batches, epochs=config.epochs, steps_per_epoch=config.steps, callbacks=callbacks, shuffle=False, verbose=0
    )
    return model


def _optimizer(config: TrainingConfig) -> keras.optimizers.Optimizer:
    steps = config.epochs * config.steps
    schedule = keras.optimizers.schedules.CosineDecay(
        1e-5, steps, warmup_target=config.learning_rate, warmup_steps=steps // 30
    )
    momentum = min(0.998, steps / (steps + 10))  # a short run must not average over its own beginning
    optimizer = keras.optimizers.AdamW(
        schedule, weight_decay=config.weight_decay, clipnorm=1.0, use_ema=True, ema_momentum=momentum
    )
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    return optimizer


class _EpochReport(keras.callbacks.Callback):
    def __init__(self, report: Report, epochs: int):
        super().__init__()
        self._report, self._epochs = report, epochs

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        figures = logs or {}
        self._report(_epoch_event(epoch, self._epochs, 1.0, figures["loss"], figures.get("accuracy")))


def _epoch_event(epoch: int, epochs: int, done: float, loss: float, accuracy: float | None = None) -> TrainingEvent:
    """An event of the training: `epoch` counts from 0, `done` is the share of it that is over."""
    message = f"Epoch {epoch + 1} of {epochs}, loss {loss:.3f}"
    if accuracy is not None:
        message += f", accuracy {accuracy:.3f}"
    return TrainingEvent(
        "train", (epoch + done) / epochs, f"{message}.", epoch=epoch + 1, epochs=epochs, loss=float(loss)
    )


# ---------------------------------------------------------------- full retrain


def finetune_upper_layers(
    model: keras.Model,
    pictures: LabelledPictures,
    latents: np.ndarray,
    latent_labels: np.ndarray,
    classes: int,
    report: Report,
    out_of_time: Callable[[], bool],
    epochs: int = 6,
    batch: int = 64,
) -> None:
    """Tune the layers above the latents, in place, with new pictures and the latents of what was learned before.

    Args:
        model: its lower layers stay as they are, and so do all means and variances of its normalisations.
        pictures: new ones, at the network's own size; labelled as `latent_labels` are.
        latents: `float32 (m, h, w, c)`. Their features are held near what they were, as in Hou et al. 2019,
            "Learning a Unified Classifier Incrementally via Rebalancing".
        latent_labels: `int64 (m,)`; `classes` and above stand for negatives.
        classes: number of labels, old and new.
        report: receives the progress every few steps, and may raise to stop.
        out_of_time: called every few steps; True ends the training there.
        epochs: passes over pictures and latents, about.
        batch: pictures, and latents, of one step.
    """
    outputs = 1 + int(max(classes - 1, latent_labels.max(initial=0), pictures.labels.max(initial=0)))
    tuner = _UpperLayerTuner(model, outputs)
    steps = max(20, (len(pictures) + len(latents)) // (2 * batch))
    tuner.prepare(epochs * steps)
    batches = iter(tuning_batches(pictures, latents, latent_labels, batch))
    for epoch in range(epochs):
        losses: list[float] = []
        for step in range(steps):
            losses.append(float(tuner.step(next(batches))))
            if step % _REPORT_STEPS == 0:
                report(_epoch_event(epoch, epochs, step / steps, float(np.mean(losses[-_RECENT_STEPS:]))))
                if out_of_time():
                    return
        report(_epoch_event(epoch, epochs, 1.0, float(np.mean(losses))))


class _UpperLayerTuner:
    """One step of `finetune_upper_layers`: its layers, a head of its own with `outputs` classes, and the optimizer."""

    def __init__(self, model: keras.Model, outputs: int):
        self._outputs = outputs
        self._lower, self._upper = architecture.lower(model), architecture.upper(model)
        self._before = keras.models.clone_model(self._upper)
        self._before.set_weights(self._upper.get_weights())
        for layer in self._upper.layers:
            layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)  # of networks of 0.1.0
        self._head = keras.layers.Dense(outputs)
        self._head.build(self._upper.output.shape)
        self._weights = self._upper.trainable_variables + self._head.trainable_variables
        self._loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.05)

    def prepare(self, steps: int) -> None:
        """Build the optimizer for so many steps."""
        schedule = keras.optimizers.schedules.CosineDecay(1e-4, steps)
        self._optimizer = keras.optimizers.AdamW(schedule, weight_decay=0.01, clipnorm=1.0)
        self._optimizer.build(self._weights)

    @tf.function
    def step(self, batch: Batch) -> tf.Tensor:
        """Learn from one batch. Returns its loss, a `float32` scalar."""
        latents, labels = self._inputs(batch)  # (b, h, w, c), (b,)
        with tf.GradientTape() as tape:
            features = self._upper(latents, training=True)
            loss = self._loss(tf.one_hot(labels, self._outputs), self._head(features))
            if "latents" in batch:
                replayed = tf.shape(batch["latents"][0])[0]  # they come last
                before = self._before(latents[-replayed:], training=False)
                loss += _DISTILLATION_WEIGHT * distillation_loss(features[-replayed:], before)
        self._optimizer.apply_gradients(zip(tape.gradient(loss, self._weights), self._weights, strict=True))
        return loss

    def _inputs(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        inputs, labels = [], []
        if "pictures" in batch:
            varied = jitter(augment_any(batch["pictures"][0]), 0.5)
            inputs.append(self._lower(varied, training=False))
            labels.append(batch["pictures"][1])
        if "latents" in batch:
            inputs.append(tf.image.random_flip_left_right(batch["latents"][0]))
            labels.append(batch["latents"][1])
        return tf.concat(inputs, 0), tf.concat(labels, 0)


def distillation_loss(features: tf.Tensor, before: tf.Tensor) -> tf.Tensor:
    """How far features `float32 (n, d)` are from what they were `before`, in units of their own variance: a scalar."""
    return tf.reduce_mean(tf.square(features - before) / (tf.math.reduce_variance(before, 0) + 1e-3))
