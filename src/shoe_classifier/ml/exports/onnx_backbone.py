"""The `onnx` format: a backbone's LiteRT flatbuffer as ONNX operators that round 8-bit integers as LiteRT does.

LiteRT runs these operations with XNNPACK. A convolution's sums are scaled in single precision and rounded half to even,
as ONNX Runtime does, but the sum of two tensors is scaled in fixed point and rounded half up. As quantised floats, the
usual form in ONNX, it would differ in the last bit here and there, and with it the probabilities.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper

from shoe_classifier.errors import NotOffered
from shoe_classifier.ml.bundle import Bundle
from shoe_classifier.ml.exports.answer import DECISION, PICTURE, PROBABILITIES, add_answer
from shoe_classifier.ml.exports.onnx_graph import OnnxGraph
from shoe_classifier.ml.head import Head

# LiteRT's int8, plus 128: without instructions for int8, ONNX Runtime is four times as fast with uint8 on both sides.
_SHIFT, _LOWEST, _HIGHEST = 128, 0, 255
_FIXED_POINT_BITS = 20  # XNNPACK's `qs8-vadd`: of the larger of two multipliers, after its leading one
_DTYPES = {
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.FLOAT16: np.float16,
    schema.TensorType.INT32: np.int32,
    schema.TensorType.INT8: np.int8,
}


def export_onnx(bundle: Bundle) -> bytes:
    """Write a model as one ONNX file. Its input and outputs are those of `litert_graph.export_tflite`.

    Raises:
        NotOffered: its backbone has an operation that no backbone of this service has.
    """
    assert isinstance(bundle.head, Head)
    side, labels = bundle.backbone().image_size, len(bundle.labels)
    graph = OnnxGraph()
    picture = graph.cast(PICTURE, np.float32)
    features = _Backbone(bundle.flatbuffer, graph).convert(graph.node("Transpose", picture, perm=[0, 3, 1, 2]))
    answer = add_answer(graph, bundle.head, picture, side, features)
    info = helper.make_tensor_value_info
    shapes = info(PROBABILITIES, TensorProto.FLOAT, [1, labels]), info(DECISION, TensorProto.INT32, [1])
    model = graph.finish(info(PICTURE, TensorProto.UINT8, [1, side, side, 3]), answer, shapes)
    return bytes(model.SerializeToString())


class _Backbone:
    """Converts one operation after the other. LiteRT's tensors are `(1, h, w, c)`, those of ONNX `(1, c, h, w)`."""

    def __init__(self, flatbuffer: bytes, graph: OnnxGraph):
        self._model = schema.ModelT.InitFromPackedBuf(flatbuffer)
        self._litert = self._model.subgraphs[0]
        self._graph = graph
        self._names: dict[int, str] = {}  # of computed tensors
        self._halves: dict[int, np.ndarray] = {}  # weights that LiteRT converts from half precision
        code = schema.BuiltinOperator
        self._converters: dict[int, Callable[[Any], None]] = {
            code.ADD: self._add,
            code.MUL: self._multiply,
            code.MEAN: self._mean,
            code.QUANTIZE: self._quantize,
            code.DEQUANTIZE: self._dequantize,
            code.CONV_2D: self._convolution,
            code.DEPTHWISE_CONV_2D: self._convolution,
        }

    def convert(self, picture: str) -> str:
        """`float32 (1, 3, side, side)`, RGB 0-255, to features `(1, d)`. Raises `NotOffered`."""
        self._names[int(self._litert.inputs[0])] = picture
        for operator in self._litert.operators:
            code = self._model.operatorCodes[operator.opcodeIndex].builtinCode
            if code not in self._converters:
                raise NotOffered(f"Expected the operations of this service's backbones; received number {code}.")
            self._converters[code](operator)
        (features,) = (index for index in self._litert.outputs if len(self._litert.tensors[index].shape) == 2)
        return self._names[int(features)]

    def _convolution(self, operator: Any) -> None:
        x, weights, bias = map(int, operator.inputs)
        depthwise = isinstance(operator.builtinOptions, schema.DepthwiseConv2DOptionsT)
        # From (1, h, w, k), one filter for each channel, or (k, h, w, c), to (k, channels that each filter sees, h, w).
        kernel = np.ascontiguousarray(self._array(weights).transpose((3, 0, 1, 2) if depthwise else (0, 3, 1, 2)))
        how = {**self._strides_and_pads(operator, kernel.shape[2:]), "group": len(kernel) if depthwise else 1}
        if self._is_integer(weights):
            scales = self._scales(weights)
            steps = self._graph.constant(scales), self._graph.constant(np.full(len(scales), _SHIFT, np.uint8))
            inputs = [*self._quantized(x), self._graph.constant(kernel), *steps, *self._steps(operator.outputs[0])]
            y = self._graph.node("QLinearConv", *inputs, self._graph.constant(self._array(bias)), **how)
        else:
            y = self._graph.node(
                "Conv", self._value(x), self._constant(kernel), self._constant(self._array(bias)), **how
            )
        self._finish(operator, y)

    def _strides_and_pads(self, operator: Any, kernel: tuple[int, ...]) -> dict[str, list[int]]:
        """Where TensorFlow pads, so that there is an output for each stride: top, left, bottom, right."""
        strides = [operator.builtinOptions.strideH, operator.builtinOptions.strideW]
        sides = self._litert.tensors[operator.inputs[0]].shape[1:3]
        totals = [
            max(-(-side // stride) * stride - stride + edge - side, 0)
            for side, edge, stride in zip(map(int, sides), kernel, strides, strict=True)
        ]
        if operator.builtinOptions.padding == schema.Padding.VALID:
            totals = [0, 0]
        return {"strides": strides, "pads": [total // 2 for total in totals] + [-(-total // 2) for total in totals]}

    def _add(self, operator: Any) -> None:
        first, second = map(int, operator.inputs)
        if not self._is_integer(first):
            self._finish(operator, self._graph.apply("add", self._value(first), self._value(second)))
            return
        multipliers, unit = self._fixed_point(first, second, int(operator.outputs[0]))
        zeros = self._zero(first), self._zero(second)
        offset = unit / 2 - sum(multiplier * zero for multiplier, zero in zip(multipliers, zeros, strict=True))
        total = self._graph.constant(np.float64(offset / unit))
        for x, multiplier in zip((first, second), multipliers, strict=True):  # exact in double precision
            share = self._graph.constant(np.float64(multiplier / unit))
            wide = self._graph.cast(self._value(x), np.float64)
            total = self._graph.apply("add", total, self._graph.apply("mul", wide, share))
        self._finish_integers(operator, self._graph.node("Floor", total), np.float64)

    def _fixed_point(self, first: int, second: int, output: int) -> tuple[list[int], int]:
        """By what XNNPACK multiplies both tensors, in fixed point, and what one is there."""
        ratios = [self._scales(x)[0] / self._scales(output)[0] for x in (first, second)]  # in single precision
        unit = 2 ** (_FIXED_POINT_BITS + 1 - int(np.frexp(max(ratios))[1]))
        return [int(np.rint(ratio * np.float32(unit))) for ratio in ratios], unit

    def _multiply(self, operator: Any) -> None:
        first, second = map(int, operator.inputs)
        if not self._is_integer(first):
            self._finish(operator, self._graph.apply("mul", self._value(first), self._value(second)))
            return
        product = self._graph.apply("mul", self._centred(first), self._centred(second))
        scale = self._scales(first)[0] * self._scales(second)[0] / self._scales(operator.outputs[0])[0]
        self._finish_scaled(operator, product, scale)

    def _mean(self, operator: Any) -> None:
        x, axes = map(int, operator.inputs)
        if sorted(self._array(axes).tolist()) != [1, 2]:
            raise NotOffered(f"Expected a mean over height and width; received axes {self._array(axes).tolist()}.")
        if not self._is_integer(x):
            self._finish(operator, self._graph.reduce("mean", self._value(x), [2, 3]))
            return
        _, height, width, _ = self._litert.tensors[x].shape
        scale = self._scales(x)[0] / self._scales(operator.outputs[0])[0] / np.float32(height * width)
        self._finish_scaled(operator, self._graph.reduce("sum", self._centred(x), [2, 3]), scale)

    def _quantize(self, operator: Any) -> None:
        x, output = self._value(operator.inputs[0]), int(operator.outputs[0])
        self._names[output] = self._graph.node("QuantizeLinear", x, *self._steps(output))

    def _dequantize(self, operator: Any) -> None:
        x, output = int(operator.inputs[0]), int(operator.outputs[0])
        if x in self._names:
            self._names[output] = self._graph.node("DequantizeLinear", *self._quantized(x))
        else:
            self._halves[output] = self._array(x)

    def _finish(self, operator: Any, y: str) -> None:
        """Apply the activation, and take down the output of an operation."""
        limits = self._limits(operator)
        if limits:
            y = self._graph.node("Clip", y, *map(self._graph.constant, limits))
        self._names[int(operator.outputs[0])] = y

    def _finish_scaled(self, operator: Any, whole: str, scale: np.float32) -> None:
        """Take down an output that is whole numbers in single precision, to be scaled and rounded half to even."""
        rounded = self._graph.node("Round", self._graph.apply("mul", whole, self._graph.constant(np.float32(scale))))
        self._finish_integers(operator, rounded, np.float32)

    def _finish_integers(self, operator: Any, whole: str, dtype: type[np.floating[Any]]) -> None:
        """Take down an output that is uint8 but for its zero point, as whole numbers of `dtype`."""
        shifted = self._graph.apply("add", whole, self._graph.constant(dtype(self._zero(operator.outputs[0]))))
        limits = [self._graph.constant(dtype(limit)) for limit in self._limits(operator) or (_LOWEST, _HIGHEST)]
        self._names[int(operator.outputs[0])] = self._graph.cast(self._graph.node("Clip", shifted, *limits), np.uint8)

    def _limits(self, operator: Any) -> list[np.generic] | None:
        """The least and the most that the activation lets through, in the output's type; None if it does nothing."""
        activation = getattr(operator.builtinOptions, "fusedActivationFunction", schema.ActivationFunctionType.NONE)
        if activation == schema.ActivationFunctionType.NONE:
            return None
        if activation != schema.ActivationFunctionType.RELU6:
            raise NotOffered(f"Expected ReLU6 or no activation; received number {activation}.")
        output = int(operator.outputs[0])
        if not self._is_integer(output):
            return [np.float32(0), np.float32(6)]
        steps = np.rint(np.array([0, 6], np.float32) / self._scales(output)[0]) + self._zero(output)
        limits = steps.clip(_LOWEST, _HIGHEST).astype(np.uint8)
        return None if tuple(limits) == (_LOWEST, _HIGHEST) else list(limits)

    def _value(self, tensor: int) -> str:
        """A computed tensor, or a constant number."""
        index = int(tensor)
        return self._names[index] if index in self._names else self._constant(self._array(index))

    def _constant(self, array: np.ndarray) -> str:
        """What is stored in half precision stays so in the file, and is converted when it is loaded."""
        constant = self._graph.constant(array)
        return self._graph.cast(constant, np.float32) if array.dtype == np.float16 else constant

    def _centred(self, tensor: int) -> str:
        """uint8 less its zero point, in single precision, which holds it exactly."""
        wide = self._graph.cast(self._value(tensor), np.float32)
        return self._graph.apply("sub", wide, self._graph.constant(np.float32(self._zero(tensor))))

    def _quantized(self, tensor: int) -> list[str]:
        return [self._value(tensor), *self._steps(tensor)]

    def _steps(self, tensor: int) -> list[str]:
        """Scale and zero point of a tensor, as ONNX's operators take them."""
        return [self._graph.constant(self._scales(tensor)[0]), self._graph.constant(np.uint8(self._zero(tensor)))]

    def _array(self, tensor: int) -> np.ndarray:
        """The values of a constant, in LiteRT's layout."""
        if tensor in self._halves:
            return self._halves[tensor]
        constant = self._litert.tensors[tensor]
        data = self._model.buffers[constant.buffer].data
        array = np.frombuffer(data.tobytes(), _DTYPES[constant.type]).reshape(constant.shape)
        return (array.astype(np.int16) + _SHIFT).astype(np.uint8) if array.dtype == np.int8 else array

    def _scales(self, tensor: int) -> np.ndarray:
        """How much a step of a tensor is, `float32`: of all of it, or of each filter."""
        return np.asarray(self._litert.tensors[tensor].quantization.scale, np.float32)

    def _zero(self, tensor: int) -> int:
        return int(self._litert.tensors[tensor].quantization.zeroPoint[0]) + _SHIFT

    def _is_integer(self, tensor: int) -> bool:
        return bool(self._litert.tensors[tensor].type == schema.TensorType.INT8)
