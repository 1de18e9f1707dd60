from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from shoe_classifier.ml.batches import Batch
from shoe_classifier.ml.checkpoint import Checkpoint
from shoe_classifier.ml.training_loop import Course, learn
from shoe_classifier.types import TrainingEvent


class Mean:
    """Learns the mean of what it is shown."""

    def __init__(self) -> None:
        self.mean = keras.Variable(0.0)
        self.weights = [self.mean]
        self.optimizer = keras.optimizers.SGD(0.1)
        self.optimizer.build(self.weights)

    def loss(self, batch: Batch, seed: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(tf.square(batch["numbers"][0] - self.mean.value))


def numbers(step: int) -> Batch:
    of_step = np.full(4, step + 1, np.float32)
    return {"numbers": (of_step, np.zeros(4, np.int64), np.arange(4))}


def run(course: Course) -> float:
    learner = Mean()
    learn(learner, numbers, course, tf.distribute.get_strategy())
    return float(learner.mean)


def test_progress_is_reported_within_epochs_and_at_their_ends() -> None:
    events: list[TrainingEvent] = []
    run(Course(2, 4, events.append, report_steps=2))
    assert [(event.epoch, event.progress) for event in events] == [
        (1, 0.0), (1, 0.25), (1, 0.5), (2, 0.5), (2, 0.75), (2, 1.0)
    ]  # fmt: skip
    assert events[0].loss == 1.0


def test_out_of_time_one_more_step_is_learned() -> None:
    events: list[TrainingEvent] = []
    mean = run(Course(2, 4, events.append, out_of_time=lambda: True))
    assert (mean, events) == (pytest.approx(0.1), [])  # the gradient is clipped


def test_what_was_stopped_goes_on_after_its_last_epoch(tmp_path: Path) -> None:
    events: list[TrainingEvent] = []

    def stopping(event: TrainingEvent) -> None:
        if event.epoch == 2:
            raise KeyboardInterrupt

    def course(report: object, checkpoint: Checkpoint | None) -> Course:
        return Course(3, 2, report, checkpoint=checkpoint)  # type: ignore[arg-type]

    whole = run(course(events.append, None))
    checkpoint = Checkpoint(tmp_path / "state.npz", "a")
    with pytest.raises(KeyboardInterrupt):
        run(course(stopping, checkpoint))
    events.clear()
    assert run(course(events.append, checkpoint)) == pytest.approx(whole)
    assert [event.epoch for event in events] == [3]
