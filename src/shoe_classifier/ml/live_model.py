"""The live model, and its holder, which swaps it between two predictions."""

import logging
import threading
import time
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from shoe_classifier.errors import InvalidModel, NotOffered, NotReady
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml.backbone import Backbone
from shoe_classifier.ml.bundle import Bundle
from shoe_classifier.ml.preprocessing import decode, shows_nothing
from shoe_classifier.ml.sandbox import SandboxError, run_sandboxed
from shoe_classifier.types import Decision

logger = logging.getLogger(__name__)

_OPEN_SECONDS = 120


class Readiness(StrEnum):
    """Whether predictions can be answered: not yet, yes, or not until somebody mends something."""

    LOADING = "loading"
    READY = "ready"
    FAILING = "failing"


@dataclass(frozen=True)
class Prediction:
    """What the model says about one picture.

    Attributes:
        predicted_class: the most probable label.
        confidence: its probability, 0..1.
        decision: whether to rely on it.
        probabilities: of each label, in label order, 0..1.
        model_version: which version answered.
        features: what its backbone saw, `float32 (d,)`; None of a plain Keras model, as is the next.
        backbone: the SHA-256 of that backbone.
    """

    predicted_class: str
    confidence: float
    decision: Decision
    probabilities: dict[str, float]
    model_version: str
    features: np.ndarray | None = field(default=None, compare=False, repr=False)
    backbone: str | None = None


class ModelInfo(Protocol):
    """What is known about any model: see `bundle.Bundle`."""

    @property
    def version(self) -> str: ...
    @property
    def parent(self) -> str | None: ...
    @property
    def labels(self) -> tuple[str, ...]: ...
    @property
    def metrics(self) -> dict[str, Any]: ...
    @property
    def created_at(self) -> str: ...


class Model(Protocol):
    """What can be live: a `LiveModel`, or an `external_model.ExternalModel`.

    Attributes:
        since: Unix time at which it was opened, in seconds.
        not_offered: what it cannot do, for people.
    """

    since: float
    not_offered: tuple[str, ...]

    @property
    def bundle(self) -> ModelInfo: ...
    @property
    def size(self) -> tuple[int, int]: ...
    def classify(self, picture: np.ndarray) -> Prediction: ...


class LiveModel:
    """A bundle with its backbone, checked once.

    A prediction takes one reference to it, so it never mixes two versions.

    Raises:
        InvalidModel: the backbone does not load, or a grey picture gets no finite probabilities.
    """

    not_offered: tuple[str, ...] = ()

    def __init__(self, bundle: Bundle):
        self.bundle = bundle
        self.backbone: Backbone = bundle.backbone()
        self.since = time.time()
        self._check_canary()

    @cached_property
    def backbone_sha256(self) -> str:
        """See `Bundle.backbone_sha256`."""
        return self.bundle.backbone_sha256

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the pictures that it takes, in pixels."""
        return self.backbone.image_size, self.backbone.image_size

    def classify(self, picture: np.ndarray) -> Prediction:
        """Classify one picture, `uint8 (size, size, 3)`, RGB."""
        features = self.backbone.features(picture)[None]  # (1, d)
        probabilities = self.bundle.head.probabilities(features)
        decision = "unknown" if shows_nothing(picture) else self.bundle.head.decide(features, probabilities)[0]
        prediction = prediction_of(self.bundle, probabilities[0], decision)
        return replace(prediction, features=features[0], backbone=self.backbone_sha256)

    def _check_canary(self) -> None:
        grey = np.full((*self.size, 3), 127, np.uint8)
        check_probabilities(self.bundle.head.probabilities(self.backbone.features(grey)[None])[0])


def prediction_of(info: ModelInfo, probabilities: np.ndarray, decision: Decision) -> Prediction:
    """Build a `Prediction` from probabilities `float (k,)`, 0..1, in label order."""
    best = int(probabilities.argmax())
    rounded = [round(float(p), 6) for p in probabilities]
    return Prediction(
        info.labels[best], rounded[best], decision, dict(zip(info.labels, rounded, strict=True)), info.version
    )


def check_probabilities(probabilities: np.ndarray) -> None:
    """Raise `InvalidModel` unless the probabilities of one picture, `float (k,)`, are finite and add up to 1."""
    if not np.isfinite(probabilities).all() or abs(float(probabilities.sum()) - 1) > 1e-3:
        raise InvalidModel("Expected probabilities that add up to 1 for a grey picture; received others.")


def open_model_file(path: Path, *, trusted: bool) -> LiveModel:
    """Open a model file of this service.

    Args:
        path: the `.h5` file.
        trusted: this service wrote the file. Any other file is opened in a sandbox process first.

    Raises:
        InvalidModel: the file does not read, or crashed the sandbox.
    """
    if not trusted:
        logger.info("Checking %s, which is new to this service.", path.name)
        try:
            run_sandboxed("open", path, seconds=_OPEN_SECONDS)
        except SandboxError as error:
            raise InvalidModel(
                f"Expected a model file of this service; {path.name} is none ({error}). "
                "For a plain Keras model, set MODEL_PATH and CLASS_NAMES."
            ) from error
    return LiveModel(bundles.read(path))


@dataclass(frozen=True)
class _State:
    readiness: Readiness
    reason: str
    model: Model | None = None


class LiveModelHolder:
    """The one place that knows which model is live, and whether the service is ready.

    Its state is one frozen object that is replaced in one assignment, so a reader never sees half of a change.
    """

    def __init__(self, max_pixels: int):
        self._max_pixels = max_pixels
        self._state = _State(Readiness.LOADING, "it is being loaded.")
        self._lock = threading.Lock()  # for writers: `fail` must not overtake a `swap`

    @property
    def readiness(self) -> Readiness:
        """`READY` from the first `swap` on, whatever fails afterwards."""
        return self._state.readiness

    @property
    def reason(self) -> str:
        """Why there is no live model, as the end of a sentence; empty when there is one."""
        return self._state.reason

    @property
    def live(self) -> Model:
        """The live model. Raises `NotReady` with the reason when there is none."""
        state = self._state
        if state.model is None:
            raise NotReady(f"Expected a model that is ready; {state.reason}")
        return state.model

    @property
    def teachable(self) -> LiveModel:
        """The live model, if it is one of this service. Raises `NotReady` and `NotOffered`."""
        live = self.live
        if not isinstance(live, LiveModel):
            raise NotOffered(
                "Expected a model of this service for this; MODEL_PATH names a plain Keras model, which only predicts."
            )
        return live

    @property
    def labels(self) -> tuple[str, ...]:
        """The live model's labels, in output order. Raises `NotReady`."""
        return self.live.bundle.labels

    def swap(self, model: Model) -> None:
        """Make another model the live one. Predictions in progress finish with the previous one."""
        with self._lock:
            self._state = _State(Readiness.READY, "", model)

    def fail(self, reason: str) -> None:
        """Report that no model can be loaded, and why. While a model is live, nothing changes."""
        with self._lock:
            if self._state.model is None:
                self._state = _State(Readiness.FAILING, reason)

    def predict(self, data: bytes, name: str = "") -> Prediction:
        """Classify the bytes of a picture file. Raises `NotReady`, and what `preprocessing.decode` raises."""
        live = self.live
        return live.classify(decode(data, live.size, name=name, max_pixels=self._max_pixels))
