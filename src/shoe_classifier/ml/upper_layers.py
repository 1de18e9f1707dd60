"""Tunes the upper layers of a network, as a full retrain does. Imports TensorFlow."""

import logging
import time

from shoe_classifier.ml import architecture
from shoe_classifier.ml.architecture import keras, tf  # which sets TensorFlow up before it is imported
from shoe_classifier.ml.augment import Draws, augment_any, jitter
from shoe_classifier.ml.batches import Batch, tuning_batches
from shoe_classifier.ml.checkpoint import Checkpoint
from shoe_classifier.ml.training_loop import Course, learn
from shoe_classifier.ml.tuning import Tuning
from shoe_classifier.types import Report

logger = logging.getLogger(__name__)

_DISTILLATION_WEIGHT = 1.0  # of staying near the old features while the upper layers are tuned
_REPORT_STEPS = 5  # often enough that a training stops within a second or two


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
    checkpoint = Checkpoint(tuning.checkpoint, tuning.fingerprint) if tuning.checkpoint else None
    course = Course(
        tuning.epochs, tuning.steps, report, _REPORT_STEPS, lambda: time.monotonic() > tuning.deadline, checkpoint
    )
    learn(learner, tuning_batches(tuning.pictures, tuning.latents, tuning.batch), course, strategy)


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
