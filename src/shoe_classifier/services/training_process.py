"""A full retrain in a process of its own, so that TensorFlow neither holds the interpreter nor keeps its memory."""

import contextlib
import importlib.util
import multiprocessing
import os
import queue
from pathlib import Path
from typing import Any

from shoe_classifier.errors import NotOffered
from shoe_classifier.ml import finetune
from shoe_classifier.ml.finetune import GateEvidence, Report, RetrainTask

LOWEST_PRIORITY = 19


def tensorflow_installed() -> bool:
    """Whether a full retrain can run here; `make run` installs TensorFlow while the service is already serving."""
    return importlib.util.find_spec("tensorflow") is not None


def require_tensorflow() -> None:
    """Raise `NotOffered` when a full retrain cannot run here."""
    if not tensorflow_installed():
        raise NotOffered(
            "Expected TensorFlow, which full retrains need; it is not installed yet. `make run` installs it in the "
            "background, `make install` at once. Quick retrains work without it."
        )


def finetune_in_process(lesson: RetrainTask, report: Report) -> GateEvidence:
    """Run a full retrain in a process of its own, whose memory goes back to the system afterwards."""
    context = multiprocessing.get_context("spawn")
    messages: Any = context.Queue()
    child = context.Process(target=_child, args=[lesson, messages], daemon=True)
    child.start()
    progress = ("train", 0.0, "Starting a process for the training.")
    try:
        while True:
            report(*progress)  # again and again, because it is also where a cancelled job stops
            try:
                message = messages.get(timeout=0.2)
            except queue.Empty:
                if not child.is_alive():
                    raise RuntimeError(f"The training process ended with status {child.exitcode}.") from None
                continue
            if isinstance(message, GateEvidence):
                return message
            progress = message
    finally:
        child.terminate()
        child.join()


def _child(lesson: RetrainTask, messages: Any) -> None:
    os.nice(LOWEST_PRIORITY)
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):  # TensorFlow prints pages
        messages.put(finetune.finetune(lesson, lambda *progress: messages.put(progress)))
