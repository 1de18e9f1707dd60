"""A full retrain in a process of its own, so that TensorFlow neither blocks the interpreter nor keeps its memory."""

import contextlib
import importlib.util
import logging
import multiprocessing
import os
import queue
import traceback
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from shoe_classifier.errors import AppError, Cancelled, NotOffered, disk_error
from shoe_classifier.ml import finetune
from shoe_classifier.ml.finetune import RetrainTask
from shoe_classifier.ml.gate import GateEvidence
from shoe_classifier.ml.tuning import Tune
from shoe_classifier.types import Report, TrainingEvent

logger = logging.getLogger(__name__)

LOWEST_PRIORITY = 19
_POLL_SECONDS = 0.2
_TERMINATE_SECONDS = 5.0


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


class TrainingProcessError(Exception):
    """The training process failed or was killed; the log says why."""


@dataclass(frozen=True)
class _Failure:
    """What ended the child: its traceback, and the message if it may be shown to clients."""

    log: str
    detail: str | None


def finetune_in_process(task: RetrainTask, report: Report, tune: Tune = finetune.tune_here) -> GateEvidence:
    """Run `finetune.finetune` in a child process.

    Args:
        tune: what it tunes with; it is sent to the child.
        report: receives the child's events, the latest one repeatedly; if it raises, the child is stopped.

    Raises:
        AppError: what the child raised, with its message.
        TrainingProcessError: the child failed in another way, or was killed.
    """
    context = multiprocessing.get_context("spawn")
    messages: Any = context.Queue()
    child = context.Process(target=_train, args=[task, messages, tune], daemon=True)
    child.start()
    try:
        return _await_evidence(child, messages, report)
    finally:
        child.terminate()
        child.join(_TERMINATE_SECONDS)
        if child.is_alive():
            child.kill()
            child.join()


def _await_evidence(child: BaseProcess, messages: Any, report: Report) -> GateEvidence:
    event = TrainingEvent("train", 0.0, "Starting a process for the training.")
    while True:
        report(event)  # also without news, because a cancelled job stops here
        alive = child.is_alive()  # before the queue is read, so that the last message of a child is never missed
        try:
            message = messages.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            if not alive:
                raise TrainingProcessError(f"The training process ended with status {child.exitcode}.") from None
            continue
        if isinstance(message, GateEvidence):
            return message
        if isinstance(message, _Failure):
            logger.error("The training process failed.", extra={"details": message.log})
            raise AppError(message.detail) if message.detail else TrainingProcessError("The training process failed.")
        event = message


def _train(task: RetrainTask, messages: Any, tune: Tune) -> None:
    """Run in the child: train, and send events, then the evidence or the failure."""
    parent = multiprocessing.parent_process()

    def send(event: TrainingEvent) -> None:
        if parent is not None and not parent.is_alive():  # killed, so nobody waits for the result
            raise Cancelled
        messages.put(event)

    os.nice(LOWEST_PRIORITY)
    try:
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):  # TensorFlow prints pages
            messages.put(finetune.finetune(task, send, tune))
    except Exception as error:  # of any kind: the parent logs it and decides what clients are told
        told = error if isinstance(error, AppError) else disk_error(error)
        messages.put(_Failure(traceback.format_exc(), told.detail if told else None))
