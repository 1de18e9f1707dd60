"""Compiled inference: the backbone as a LiteRT flatbuffer, one interpreter for each thread."""

import threading
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from shoe_classifier.errors import InvalidModel


class Engine:
    """Runs a compiled backbone. Safe to call from several threads at once.

    Args:
        flatbuffer: LiteRT model that takes `float32 (1, side, side, 3)`, RGB 0-255, and gives two outputs of one
            picture: first latents `(1, h, w, c)`, then the last feature map `(1, h', w', d)`.

    Raises:
        InvalidModel: the flatbuffer does not load, or has other inputs or outputs.
    """

    def __init__(self, flatbuffer: bytes):
        self._flatbuffer = flatbuffer
        self._threads = threading.local()
        interpreter = self._interpreter()
        self.side = int(interpreter.input_shape[1])
        self.latent_shape: tuple[int, ...] = tuple(interpreter.latent_shape[1:])
        self.width = int(interpreter.map_shape[3])

    def feature_map(self, picture: np.ndarray) -> np.ndarray:
        """`uint8 (side, side, 3)` to the last feature map, `float32 (h, w, d)`."""
        return self._interpreter().run(picture)

    def features(self, picture: np.ndarray) -> np.ndarray:
        """`uint8 (side, side, 3)` to pooled features, `float32 (d,)`."""
        return self.feature_map(picture).mean(axis=(0, 1))

    def features_and_latent(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `features`, with the middle layer's activations `float32 (h, w, c)`, which full retraining starts from."""
        interpreter = self._interpreter()
        features = interpreter.run(picture).mean(axis=(0, 1))
        return features, interpreter.latent()

    def _interpreter(self) -> "_Interpreter":
        # An interpreter holds the activations of one picture, so threads cannot share one.
        interpreter: _Interpreter | None = getattr(self._threads, "interpreter", None)
        if interpreter is None:
            interpreter = self._threads.interpreter = _Interpreter(self._flatbuffer)
        return interpreter


class _Interpreter:
    def __init__(self, flatbuffer: bytes):
        try:
            self._interpreter = Interpreter(model_content=flatbuffer, num_threads=1)
            self._interpreter.allocate_tensors()
            inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        except (ValueError, RuntimeError) as error:
            raise InvalidModel("Expected a compiled backbone; received bytes that LiteRT does not load.") from error
        self.input_shape = _shape(inputs, 1, 0)
        outputs = sorted(outputs, key=lambda output: str(output["name"]))  # named by their places, listed in any order
        self.latent_shape, self.map_shape = _shape(outputs, 2, 0), _shape(outputs, 2, 1)
        self._input, (self._latent, self._map) = inputs[0]["index"], (output["index"] for output in outputs)

    def run(self, picture: np.ndarray) -> np.ndarray:
        self._interpreter.set_tensor(self._input, picture[None].astype(np.float32))
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._map)[0]

    def latent(self) -> np.ndarray:
        return self._interpreter.get_tensor(self._latent)[0]


def _shape(details: list[dict[str, Any]], count: int, index: int) -> tuple[int, ...]:
    if len(details) != count or len(details[index]["shape"]) != 4:
        shapes = [list(map(int, detail["shape"])) for detail in details]
        raise InvalidModel(f"Expected {count} pictures or maps of four dimensions; received shapes {shapes}.")
    return tuple(int(size) for size in details[index]["shape"])
