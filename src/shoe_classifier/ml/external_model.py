"""Plain Keras models made elsewhere: checked and compiled in a sandbox process, then served for predictions only."""

import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from shoe_classifier.errors import InvalidImage, InvalidModel
from shoe_classifier.files import replacing
from shoe_classifier.ml.live_model import Prediction, check_probabilities, prediction_of
from shoe_classifier.ml.sandbox import SandboxError, run_sandboxed
from shoe_classifier.types import to_iso

_COMPILE_SECONDS = 300
_ACCEPTED_FROM = 0.5  # confidence; nothing else is known about such a model


@dataclass(frozen=True)
class ExternalBundle:
    """What is known about a plain Keras model: see `live_model.ModelInfo`."""

    version: str
    labels: tuple[str, ...]
    created_at: str
    flatbuffer: bytes
    parent: str | None = None

    @property
    def metrics(self) -> dict[str, Any]:
        return {}


class ExternalModel:
    """A compiled plain Keras model. It has no feature statistics, replay buffer or feature map: it can only predict.

    Raises:
        InvalidModel: the flatbuffer does not load, or its output does not fit the labels.
    """

    not_offered: tuple[str, ...] = ("the decision unknown", "retraining", "explanations", "metrics")

    def __init__(self, bundle: ExternalBundle):
        self.bundle = bundle
        self.since = time.time()
        self._threads = threading.local()  # an interpreter holds the activations of one picture
        interpreter = self._interpreter()
        _, height, width, _ = interpreter.get_input_details()[0]["shape"]
        self._size = int(width), int(height)
        outputs = int(interpreter.get_output_details()[0]["shape"][-1])
        if outputs != len(bundle.labels):
            raise InvalidModel(f"Expected {outputs} names in CLASS_NAMES, one for each output of the model; received "
                               f"{len(bundle.labels)}.")  # fmt: skip
        check_probabilities(self._run(np.full((height, width, 3), 127, np.uint8)))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the pictures that it takes, in pixels."""
        return self._size

    def classify(self, picture: np.ndarray) -> Prediction:
        """Classify one picture, `uint8 (height, width, 3)`, RGB. The decision is `accepted` or `uncertain`.

        Raises:
            InvalidImage: the model's output for it is not finite.
        """
        probabilities = self._run(picture)
        if not np.isfinite(probabilities).all():
            raise InvalidImage(
                "Expected a picture that this model can classify; its output for this one is not finite."
            )
        return prediction_of(
            self.bundle, probabilities, "accepted" if probabilities.max() >= _ACCEPTED_FROM else "uncertain"
        )

    def _run(self, picture: np.ndarray) -> np.ndarray:
        interpreter = self._interpreter()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], picture[None].astype(np.float32))
        interpreter.invoke()
        probabilities: np.ndarray = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]
        return probabilities

    def _interpreter(self) -> Any:
        interpreter = getattr(self._threads, "interpreter", None)
        if interpreter is None:
            try:
                interpreter = Interpreter(model_content=self.bundle.flatbuffer, num_threads=1)
                interpreter.allocate_tensors()
            except (ValueError, RuntimeError) as error:
                raise InvalidModel("Expected a compiled model; received bytes that LiteRT does not load.") from error
            self._threads.interpreter = interpreter
        return interpreter


def open_external(path: Path, sha256: str, labels: tuple[str, ...], input_range: str, cache: Path) -> ExternalModel:
    """Open a plain Keras `.h5` file. The first time, a sandbox process compiles it.

    Args:
        sha256: of the file, hexadecimal; names the compiled file in `cache`.
        labels: names of the outputs, in order.
        input_range: of the pixels that the model expects: `0..255`, `0..1`, `-1..1`, or `auto`, which is 0..255 when it
            has a rescaling layer and 0..1 otherwise.
        cache: folder of compiled files.

    Raises:
        InvalidModel: it does not read, carries code, does not compile, or does not fit the labels.
    """
    compiled = cache / f"{sha256}.{input_range}.tflite"
    if not compiled.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with replacing(compiled, durable=False) as part:
            _compile(path, input_range, part)
    created_at = to_iso(datetime.fromtimestamp(path.stat().st_mtime, UTC))
    return ExternalModel(ExternalBundle(f"keras-{sha256[:12]}", labels, created_at, compiled.read_bytes()))


def _compile(path: Path, input_range: str, target: Path) -> None:
    try:
        run_sandboxed("compile", path, input_range, target, seconds=_COMPILE_SECONDS)
    except SandboxError as error:
        raise InvalidModel(f"Expected a plain Keras model; {path.name} cannot be served. {error}") from error
