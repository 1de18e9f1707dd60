"""A full retrain in a process of its own, so that TensorFlow neither holds the interpreter nor keeps its memory."""

import contextlib
import multiprocessing
import os
import queue
from pathlib import Path
from typing import Any

from shoe_classifier.ml import finetune
from shoe_classifier.ml.finetune import RetrainTask
from shoe_classifier.ml.gate import GateEvidence
from shoe_classifier.types import Report, TrainingEvent

LOWEST_PRIORITY = 19


def finetune_in_process(lesson: RetrainTask, report: Report) -> GateEvidence:
    """Run a full retrain in a process of its own, whose memory goes back to the system afterwards."""
    context = multiprocessing.get_context("spawn")
    messages: Any = context.Queue()
    child = context.Process(target=_child, args=[lesson, messages], daemon=True)
    child.start()
    event = TrainingEvent("train", 0.0, "Starting a process for the training.")
    try:
        while True:
            report(event)  # again and again, because it is also where a cancelled job stops
            try:
                message = messages.get(timeout=0.2)
            except queue.Empty:
                if not child.is_alive():
                    raise RuntimeError(f"The training process ended with status {child.exitcode}.") from None
                continue
            if isinstance(message, GateEvidence):
                return message
            event = message
    finally:
        child.terminate()
        child.join()


def _child(lesson: RetrainTask, messages: Any) -> None:
    os.nice(LOWEST_PRIORITY)
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):  # TensorFlow prints pages
        messages.put(finetune.finetune(lesson, messages.put))
