"""The `onnx` format: a graph in ONNX's standard operators, to which a head is added as to any other."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import helper, numpy_helper

_OPSET, _IR_VERSION = 18, 9  # ONNX 1.14, of 2023: what is in use reads it
_ELEMENTWISE = {
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "exp": "Exp",
    "log": "Log",
    "greater": "Greater",
    "less": "Less",
    "or": "Or",
    "select": "Where",
}
_REDUCTIONS = {"max": "ReduceMax", "sum": "ReduceSum", "mean": "ReduceMean"}


class OnnxGraph:
    """Nodes and constants; tensors are names. Implements `answer.Graph`."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def constant(self, values: ArrayLike) -> str:
        array = np.float32(values) if type(values) is float else np.asarray(values)  # np.float64 is a float, too
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add any operator with one output, and return that."""
        name = f"tensor_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def cast(self, x: str, dtype: Any) -> str:
        return self.node("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def apply(self, operation: str, *inputs: str) -> str:
        return self.node(_ELEMENTWISE[operation], *inputs)

    def linear(self, x: str, weights: np.ndarray, bias: np.ndarray) -> str:
        return self.node("Gemm", x, self.constant(weights), self.constant(bias))

    def softmax(self, x: str) -> str:
        return self.node("Softmax", x, axis=1)

    def reduce(self, operation: str, x: str, axes: Sequence[int]) -> str:
        return self.node(_REDUCTIONS[operation], x, self.constant(np.array(axes, np.int64)), keepdims=0)

    def argmax(self, x: str) -> str:
        return self.node("ArgMax", x, axis=1, keepdims=0)

    def take(self, table: np.ndarray, index: str) -> str:
        return self.node("Gather", self.constant(table), index)

    def slice(self, x: str, starts: Sequence[int], ends: Sequence[int], steps: Sequence[int]) -> str:
        axes = range(len(starts))
        return self.node(
            "Slice", x, *(self.constant(np.array(values, np.int64)) for values in (starts, ends, axes, steps))
        )

    def finish(self, picture: Any, outputs: Sequence[str], infos: Sequence[Any]) -> onnx.ModelProto:
        """The model, checked. `picture` and `infos` describe its input and its outputs, by `helper`."""
        named = [helper.make_node("Identity", [y], [info.name]) for y, info in zip(outputs, infos, strict=True)]
        graph = helper.make_graph([*self._nodes, *named], "shoe_classifier", [picture], infos, self._constants)
        opset = [helper.make_opsetid("", _OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=_IR_VERSION, producer_name="shoe-classifier")
        onnx.checker.check_model(model, full_check=True)
        return model
