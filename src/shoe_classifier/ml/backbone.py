"""Compiled inference: the backbone as a LiteRT flatbuffer, with one interpreter per thread."""

import threading
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from shoe_classifier.errors import InvalidModel


class Backbone:
    """Runs a compiled backbone. Safe to call from several threads at once.

    Args:
        flatbuffer: LiteRT model that takes `float32 (1, size, size, 3)`, RGB 0-255, and gives three outputs for one
            picture, all `float32`: latents `(1, h, w, c)`, the last feature map `(1, h', w', d)`, and its mean
            `(1, d)`.

    Attributes:
        image_size: edge of the pictures, in pixels.
        latent_shape: `(h, w, c)`.
        feature_count: `d`.

    Raises:
        InvalidModel: the flatbuffer does not load, or has other inputs or outputs.
    """

    def __init__(self, flatbuffer: bytes):
        self._flatbuffer = flatbuffer
        self._threads = threading.local()
        interpreter = self._interpreter()
        self.image_size = int(interpreter.input_shape[1])
        self.latent_shape: tuple[int, ...] = tuple(interpreter.latent_shape[1:])
        self.feature_count = int(interpreter.map_shape[3])

    def feature_map(self, picture: np.ndarray) -> np.ndarray:
        """`uint8 (size, size, 3)`, RGB, to the last feature map, `float32 (h', w', d)`."""
        return self._interpreter().run(picture).map()

    def features(self, picture: np.ndarray) -> np.ndarray:
        """`uint8 (size, size, 3)`, RGB, to pooled features, `float32 (d,)`."""
        return self._interpreter().run(picture).features()

    def features_and_latent(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`uint8 (size, size, 3)`, RGB, to pooled features `float32 (d,)` and latents `float32 (h, w, c)`.

        Latents are the activations of the middle layer that a full retrain starts from.
        """
        interpreter = self._interpreter().run(picture)
        return interpreter.features(), interpreter.latent()

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
        # LiteRT names outputs by their position (`StatefulPartitionedCall_1:0`) but lists them in any order.
        outputs = sorted(outputs, key=lambda output: str(output["name"]))
        (self.input_shape,), (self.latent_shape, self.map_shape, _) = _shapes(inputs, (4,)), _shapes(outputs, (4, 4, 2))
        self._input = self._interpreter.tensor(inputs[0]["index"])
        self._latent, self._map, self._features = (output["index"] for output in outputs)

    def run(self, picture: np.ndarray) -> "_Interpreter":
        # Straight into the interpreter's own memory; `copyto` casts uint8 to float32 on the way. The view must not
        # outlive this line: LiteRT refuses to run while anyone holds a reference to its tensors.
        np.copyto(self._input()[0], picture)
        self._interpreter.invoke()
        return self

    def latent(self) -> np.ndarray:
        return self._interpreter.get_tensor(self._latent)[0]

    def map(self) -> np.ndarray:
        return self._interpreter.get_tensor(self._map)[0]

    def features(self) -> np.ndarray:
        return self._interpreter.get_tensor(self._features)[0]


def _shapes(details: list[dict[str, Any]], dimensions: tuple[int, ...]) -> list[tuple[int, ...]]:
    shapes = [tuple(map(int, detail["shape"])) for detail in details]
    if tuple(map(len, shapes)) != dimensions:
        raise InvalidModel(f"Expected tensors of {dimensions} dimensions; received shapes {shapes}.")
    return shapes
