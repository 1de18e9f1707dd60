"""The loop of all trainings, on one worker or several, which can be stopped and go on. Imports TensorFlow."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from shoe_classifier.ml.architecture import keras, tf  # which sets TensorFlow up before it is imported
from shoe_classifier.ml.batches import Batch, Batches
from shoe_classifier.ml.checkpoint import Checkpoint
from shoe_classifier.types import Report, TrainingEvent

_CLIP_NORM = 1.0  # of the gradient of each variable
_RECENT_STEPS = 10  # that the reported loss is the mean of


class Learner(Protocol):
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
class Course:
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
    checkpoint: Checkpoint | None = None


def many_workers() -> tf.distribute.Strategy:
    """A strategy for all processes that TF_CONFIG names. Call it before TensorFlow computes anything."""
    return tf.distribute.MultiWorkerMirroredStrategy()


def learn(learner: Learner, batches: Batches, course: Course, strategy: tf.distribute.Strategy) -> None:
    """Train, from the last checkpoint on. `Model.fit` does not run on several workers in Keras 3."""

    @tf.function(reduce_retracing=True)  # workers' parts of a batch differ in size
    def step(batch: Batch, seed: tf.Tensor, late: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return strategy.run(_step, (learner, batch, seed, late))

    variables = [*learner.weights, *learner.optimizer.variables]
    device = _device(learner, strategy)
    first = course.checkpoint.restore(variables) if course.checkpoint else 0
    for epoch in range(first, course.epochs):
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


def _step(learner: Learner, batch: Batch, seed: tf.Tensor, late: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
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


def _device(learner: Learner, strategy: tf.distribute.Strategy) -> str:
    """What computes, for people."""
    device = "GPU" if "GPU" in learner.weights[0].value.device else "CPU"
    workers = strategy.num_replicas_in_sync
    return f"the {device}" if workers == 1 else f"the {device}s of {workers} workers"
