"""Holds the live model and swaps it between two predictions."""

import time
from dataclasses import dataclass

import numpy as np

from shoe_classifier.classifier.bundle import Bundle
from shoe_classifier.classifier.engine import Engine
from shoe_classifier.errors import InvalidModel, NotReady
from shoe_classifier.images.preprocessing import decode


@dataclass(frozen=True)
class Answer:
    """What the model says of one picture. `probabilities` are in label order, `confidence` is the highest."""

    predicted_class: str
    confidence: float
    decision: str
    probabilities: dict[str, float]
    model_version: str


class LiveModel:
    """A bundle with its engine, checked once. A prediction takes one reference to it and so never sees two versions."""

    def __init__(self, bundle: Bundle):
        self.bundle = bundle
        self.engine: Engine = bundle.engine()
        self.since = time.time()
        self._canary()

    def answer(self, picture: np.ndarray) -> Answer:
        """Classify one `uint8 (side, side, 3)` picture."""
        features = self.engine.features(picture)[None]
        probabilities = self.bundle.head.probabilities(features)
        decision = self.bundle.head.decide(features, probabilities)[0]
        best = int(probabilities[0].argmax())
        shares = [round(float(p), 6) for p in probabilities[0]]
        labels = self.bundle.labels
        return Answer(labels[best], shares[best], decision, dict(zip(labels, shares, strict=True)), self.bundle.version)

    def _canary(self) -> None:
        grey = np.full((self.engine.side, self.engine.side, 3), 127, np.uint8)
        probabilities = self.bundle.head.probabilities(self.engine.features(grey)[None])
        if not np.isfinite(probabilities).all() or abs(float(probabilities.sum()) - 1) > 1e-3:
            raise InvalidModel("Expected probabilities that add up to 1 for a grey picture; received others.")


class Predictor:
    """The one place that knows which model is live."""

    def __init__(self, max_pixels: int):
        self._max_pixels = max_pixels
        self._live: LiveModel | None = None
        self.reason = "it is being loaded."
        self.loaded = False

    @property
    def failed(self) -> bool:
        """True when loading has ended without a model."""
        return self.loaded and self._live is None

    @property
    def live(self) -> LiveModel:
        """The live model. Raises `NotReady` when there is none."""
        live = self._live
        if live is None:
            raise NotReady(f"Expected a model that is ready; {self.reason}")
        return live

    def swap(self, live: LiveModel) -> None:
        """Make another model the live one; predictions that have begun finish with the old one."""
        self._live = live

    def predict(self, data: bytes, name: str = "") -> Answer:
        """Classify the bytes of a picture file. Raises as `preprocessing.decode` does, and `NotReady`."""
        live = self.live
        return live.answer(decode(data, live.engine.side, name=name, max_pixels=self._max_pixels))
