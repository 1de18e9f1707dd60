"""Holds the live model and swaps it between two predictions."""

import time
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from shoe_classifier.errors import InvalidModel, NotOffered, NotReady
from shoe_classifier.ml.backbone import Backbone
from shoe_classifier.ml.bundle import Bundle
from shoe_classifier.ml.preprocessing import decode, shows_nothing
from shoe_classifier.types import Decision


@dataclass(frozen=True)
class Prediction:
    """What the model says of one picture. `probabilities` are in label order, `confidence` is the highest."""

    predicted_class: str
    confidence: float
    decision: Decision
    probabilities: dict[str, float]
    model_version: str


class About(Protocol):
    """What is told of any model, as in `bundle.Bundle`."""

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
    """What can be live: a `LiveModel`, or a `foreign.ExternalModel`."""

    since: float
    not_offered: tuple[str, ...]

    @property
    def bundle(self) -> About: ...
    @property
    def size(self) -> tuple[int, int]: ...
    def answer(self, picture: np.ndarray) -> Prediction: ...


class LiveModel:
    """A bundle with its engine, checked once. A prediction takes one reference to it and so never sees two versions."""

    not_offered: tuple[str, ...] = ()

    def __init__(self, bundle: Bundle):
        self.bundle = bundle
        self.engine: Backbone = bundle.engine()
        self.since = time.time()
        self._canary()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the pictures that it takes, in pixels."""
        return self.engine.side, self.engine.side

    def answer(self, picture: np.ndarray) -> Prediction:
        """Classify one `uint8 (side, side, 3)` picture."""
        features = self.engine.features(picture)[None]
        probabilities = self.bundle.head.probabilities(features)
        decision = "unknown" if shows_nothing(picture) else self.bundle.head.decide(features, probabilities)[0]
        return answer(self.bundle, probabilities[0], decision)

    def _canary(self) -> None:
        grey = np.full((self.engine.side, self.engine.side, 3), 127, np.uint8)
        check_probabilities(self.bundle.head.probabilities(self.engine.features(grey)[None]))


def answer(about: About, probabilities: np.ndarray, decision: Decision) -> Prediction:
    """Word `(k,)` probabilities in label order."""
    best = int(probabilities.argmax())
    shares = [round(float(p), 6) for p in probabilities]
    return Prediction(
        about.labels[best], shares[best], decision, dict(zip(about.labels, shares, strict=True)), about.version
    )


def check_probabilities(probabilities: np.ndarray) -> None:
    """Raise `InvalidModel` unless they are finite and add up to 1."""
    if not np.isfinite(probabilities).all() or abs(float(probabilities.sum()) - 1) > 1e-3:
        raise InvalidModel("Expected probabilities that add up to 1 for a grey picture; received others.")


class LiveModelHolder:
    """The one place that knows which model is live."""

    def __init__(self, max_pixels: int):
        self._max_pixels = max_pixels
        self._live: Model | None = None
        self.reason = "it is being loaded."
        self.loaded = False

    @property
    def failed(self) -> bool:
        """True when loading has ended without a model."""
        return self.loaded and self._live is None

    @property
    def live(self) -> Model:
        """The live model. Raises `NotReady` when there is none."""
        live = self._live
        if live is None:
            raise NotReady(f"Expected a model that is ready; {self.reason}")
        return live

    @property
    def teachable(self) -> LiveModel:
        """The live model, if it is one of this service. Raises `NotReady` and `NotOffered`."""
        live = self.live
        if not isinstance(live, LiveModel):
            raise NotOffered(
                "Expected a model of this service for this; MODEL_PATH names a plain Keras model, which only predicts."
            )
        return live

    def swap(self, live: Model) -> None:
        """Make another model the live one; predictions that have begun finish with the old one."""
        self._live = live

    def predict(self, data: bytes, name: str = "") -> Prediction:
        """Classify the bytes of a picture file. Raises as `preprocessing.decode` does, and `NotReady`."""
        live = self.live
        return live.answer(decode(data, live.size, name=name, max_pixels=self._max_pixels))
