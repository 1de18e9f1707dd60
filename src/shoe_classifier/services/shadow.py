"""A version as shadow: it answers live pictures silently, and people judge where it disagrees with the live version."""

import logging
import os
import queue
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from math import comb
from typing import Any

from shoe_classifier.errors import AppError, InvalidModel, InvalidRequest, NotFound
from shoe_classifier.ml.live_model import LiveModel, LiveModelHolder, Prediction, open_model_file
from shoe_classifier.ml.preprocessing import decode
from shoe_classifier.services.model_registry import ModelRegistry
from shoe_classifier.services.training_process import LOWEST_PRIORITY
from shoe_classifier.settings import Settings
from shoe_classifier.storage.protocols import Store
from shoe_classifier.storage.shadow_log import Disagreement, ShadowLog, ShadowRun
from shoe_classifier.types import utc_now

logger = logging.getLogger(__name__)

_AHEAD = 2  # pictures that wait for the shadow; when it is busy, further ones are not shown to it
_REST = 9  # times as long as an answer took: a thread that is preempted may hold what predictions wait for
_LEAST_DISCORDANT = 6  # reviewed disagreements from which chance can be excluded at all: 2 / 2 ** 6 < 0.05
_SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class _Task:
    prediction_id: str
    picture: bytes
    live: Prediction


class Shadow:
    """Shows live pictures to another version, on a thread of the lowest priority.

    What it answers is kept in a file of this machine, so that all workers take part and a restart loses nothing. Of
    several machines, each has a shadow of its own.
    """

    def __init__(self, settings: Settings, store: Store, holder: LiveModelHolder, registry: ModelRegistry):
        self._store = store
        self._holder = holder
        self._registry = registry
        self._max_pixels = settings.max_image_pixels
        self._log = ShadowLog(settings.dataset_dir / "shadow.sqlite3")
        self._tasks: queue.Queue[_Task | None] = queue.Queue(_AHEAD)
        self._lock = threading.Lock()  # held while the model changes
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._run: ShadowRun | None = None
        self._model: LiveModel | None = None

    def start(self, version: str, predictions: int) -> dict[str, Any]:
        """Let a version answer the next live pictures silently, in place of any other that does.

        Args:
            predictions: how many pictures.

        Returns:
            See `state`.

        Raises:
            NotFound: there is no such version, or its file is not kept.
            InvalidRequest: it is live.
            InvalidModel: its file does not load.
            NotReady, NotOffered: there is no live model to compare it with.
        """
        live = self._holder.teachable.bundle.version
        path = self._registry.file_of(version)
        if version == live:
            raise InvalidRequest(f"Expected a version that is not live, to compare it with; received {version!r}.")
        open_model_file(path, trusted=True)
        self._log.begin(version, live, predictions, utc_now())
        self.refresh()
        state = self.state()
        assert state is not None
        return state

    def end(self, version: str) -> None:
        """End the run of a version, and forget what it has found. Raises `NotFound`."""
        run = self._log.run()
        if run is None or run.version != version:
            raise NotFound(f"Expected a version that runs as shadow; {version[:80]!r} does not.")
        self._log.end()
        self.refresh()

    def observe(self, prediction_id: str, picture: bytes, live: Prediction) -> None:
        """Show the shadow a picture that was just predicted, unless it is busy. Never waits."""
        run = self._run
        if run is None or live.model_version != run.live_version:
            return
        with suppress(queue.Full):
            self._tasks.put_nowait(_Task(prediction_id, picture, live))

    def refresh(self) -> None:
        """Follow what the file says: another worker may have begun or ended a run. Call it every second or so."""
        with self._lock:
            run, own = self._log.run(), self._run
            if run is None or not run.running:
                self._run = self._model = None
            elif own is None or (run.version, run.started_at) != (own.version, own.started_at):
                self._load(run)

    def _load(self, run: ShadowRun) -> None:
        self._run = None
        try:
            self._model = open_model_file(self._registry.file_of(run.version), trusted=True)
        except (NotFound, InvalidModel) as error:  # it was pruned after a restart
            logger.warning("Version %s is no shadow any more: %s", run.version, error.detail)
            self._log.end()
            return
        self._run = run
        if self._thread is None:
            self._thread = threading.Thread(target=self._answer_all, name="shadow", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread, and close the file. The run goes on after the next start."""
        self._run = None
        self._stopping.set()
        if self._thread:
            self._tasks.put(None)
            self._thread.join()
        self._log.close()

    def state(self, version: str | None = None) -> dict[str, Any] | None:
        """Describe the run, with the verdict so far; None if there is none, or only one of another version.

        Raises:
            StoreUnavailable: a shared store does not answer.
        """
        run = self._log.run()
        if run is None or version not in (None, run.version):
            return None
        return {**asdict(run), "running": run.running, "verdict": asdict(self._verdict())}

    def disagreements(self) -> list[Disagreement]:
        """Return the predictions that people should look at, newest first: live version and shadow differ."""
        return self._log.disagreements()

    def disputed(self) -> list[str]:
        """Return the ids of these predictions."""
        return [one.prediction_id for one in self.disagreements()]

    def _verdict(self) -> "Verdict":
        disagreements = self._log.disagreements()
        rows = self._store.predictions_with([one.prediction_id for one in disagreements]) if disagreements else {}
        pairs = [(one, rows[one.prediction_id]) for one in disagreements if one.prediction_id in rows]
        reviewed = [(one, row.reviewed_label) for one, row in pairs if row.reviewed_at]
        return verdict(
            shadow_right=sum(one.shadow_label == label for one, label in reviewed),
            live_right=sum(one.live_label == label for one, label in reviewed),
            reviewed=len(reviewed),
        )

    # ------------------------------------------------------------ on the thread

    def _answer_all(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST_PRIORITY)
        while (task := self._tasks.get()) is not None:
            started = time.monotonic()
            try:
                self._answer(task)
            except AppError as error:
                logger.debug("The shadow has no answer to %s: %s", task.prediction_id, error.detail)
            except Exception:  # whatever it was, such as a full disk, predictions are answered all the same
                logger.exception("The shadow failed on prediction %s.", task.prediction_id)
            self._stopping.wait(_REST * (time.monotonic() - started))

    def _answer(self, task: _Task) -> None:
        run, model = self._run, self._model
        if run is None or model is None:
            return
        answer = model.classify(decode(task.picture, model.size, max_pixels=self._max_pixels))
        self._log.add(run.version, Disagreement(task.prediction_id, _label(task.live), _label(answer)))


@dataclass(frozen=True)
class Verdict:
    """What people's answers to the disagreements say: McNemar's test, which asks only about those.

    Attributes:
        reviewed: how many of the disagreements people have looked at.
        shadow_right, live_right: how often which version was right.
        p_value: how likely so unequal a result is if both are equally good; None while there are too few to tell.
        conclusion: `better` or `worse`, about the shadow; `no_difference` or `too_few_reviewed`.
    """

    reviewed: int
    shadow_right: int
    live_right: int
    p_value: float | None
    conclusion: str


def verdict(shadow_right: int, live_right: int, reviewed: int) -> Verdict:
    """Compare two versions by the exact, two-sided McNemar test."""
    discordant = shadow_right + live_right
    if discordant < _LEAST_DISCORDANT:
        return Verdict(reviewed, shadow_right, live_right, None, "too_few_reviewed")
    tail = sum(comb(discordant, k) for k in range(min(shadow_right, live_right) + 1)) / 2**discordant
    p_value = min(1.0, 2 * tail)
    better = "better" if shadow_right > live_right else "worse"
    conclusion = better if p_value < _SIGNIFICANCE else "no_difference"
    return Verdict(reviewed, shadow_right, live_right, round(p_value, 4), conclusion)


def _label(prediction: Prediction) -> str | None:
    """The label of an answer; None for `unknown`."""
    return None if prediction.decision == "unknown" else prediction.predicted_class
