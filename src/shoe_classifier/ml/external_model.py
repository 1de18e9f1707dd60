"""Plain Keras models made elsewhere: checked and compiled in a child process, then served for predictions alone."""

import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from shoe_classifier.errors import InvalidImage, InvalidModel
from shoe_classifier.ml.live_model import Prediction, answer, check_probabilities

_COMPILE_SECONDS = 300
_SURE = 0.5  # confidence from which an answer is accepted: of such a model nothing else is known


@dataclass(frozen=True)
class ExternalBundle:
    """What is known of a plain Keras model: see `live_model.About`."""

    version: str
    labels: tuple[str, ...]
    created_at: str
    flatbuffer: bytes
    parent: str | None = None

    @property
    def metrics(self) -> dict[str, Any]:
        return {}


class ExternalModel:
    """A compiled plain Keras model. It has no feature statistics, replay memory or map: it can only predict.

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

    def answer(self, picture: np.ndarray) -> Prediction:
        """Classify one `uint8 (height, width, 3)` picture; the decision is `accepted` or `uncertain`.

        Raises:
            InvalidImage: the model gives no numbers for it.
        """
        probabilities = self._run(picture)
        if not np.isfinite(probabilities).all():
            raise InvalidImage("Expected a picture that this model has an answer to; it gave none for this one.")
        return answer(self.bundle, probabilities, "accepted" if probabilities.max() >= _SURE else "uncertain")

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
    """Open a plain Keras `.h5` file; the first time, a child process compiles it.

    Args:
        sha256: of the file; it ties the compiled file in `cache` to it.
        labels: names of the outputs, in order.
        input_range: what the model takes; `auto` is 0..255 when it has a rescaling layer and 0..1 when not.
        cache: folder of compiled files.

    Raises:
        InvalidModel: it does not read, carries code, does not compile, or does not fit the labels.
    """
    compiled = cache / f"{sha256}.{input_range}.tflite"
    if not compiled.exists():
        cache.mkdir(parents=True, exist_ok=True)
        part = compiled.with_suffix(".part")
        try:
            _compile(path, input_range, part)
            part.replace(compiled)
        finally:
            part.unlink(missing_ok=True)
    changed = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="milliseconds")
    created_at = changed.replace("+00:00", "Z")
    return ExternalModel(ExternalBundle(f"keras-{sha256[:12]}", labels, created_at, compiled.read_bytes()))


def _compile(path: Path, input_range: str, out: Path) -> None:
    """TensorFlow and the HDF5 library, which a crafted file can crash, cost a child its memory and its life."""
    program = "import sys; from pathlib import Path; from shoe_classifier.ml import bundle; "
    program += "bundle.check_external(Path(sys.argv[1])); from shoe_classifier.ml import architecture; "
    program += "Path(sys.argv[3]).write_bytes(architecture.compile_external(Path(sys.argv[1]), sys.argv[2]))"
    command = [sys.executable, "-c", program, str(path), input_range, str(out)]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=_COMPILE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise InvalidModel(
            f"Expected a model that compiles within {_COMPILE_SECONDS} s; {path.name} did not."
        ) from None
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or [f"exit status {result.returncode}"])[-1]
        reason = reason.removeprefix("shoe_classifier.errors.InvalidModel: ")
        raise InvalidModel(f"Expected a plain Keras model; {path.name} cannot be served. {reason[-400:]}")
