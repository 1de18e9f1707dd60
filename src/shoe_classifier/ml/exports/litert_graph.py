"""The `tflite` format: a backbone's LiteRT flatbuffer, to which the head's operations are added.

The schema comes with LiteRT, so neither TensorFlow nor a converter is needed.
"""

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import ArrayLike

from shoe_classifier.ml.bundle import Bundle
from shoe_classifier.ml.exports.answer import DECISION, PICTURE, PROBABILITIES, add_answer
from shoe_classifier.ml.head import Head

_ALIGNMENT = 16  # bytes, of constants: the schema demands it, but its Python code does not keep to it
_TYPES: dict[np.dtype[Any], int] = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.uint8): schema.TensorType.UINT8,
    np.dtype(bool): schema.TensorType.BOOL,
}
_ELEMENTWISE = {  # code, options, and the type of the result where it is not that of the last input
    "add": ("ADD", "Add", None),
    "sub": ("SUB", "Sub", None),
    "mul": ("MUL", "Mul", None),
    "exp": ("EXP", "Exp", None),
    "log": ("LOG", None, None),
    "greater": ("GREATER", "Greater", bool),
    "less": ("LESS", "Less", bool),
    "or": ("LOGICAL_OR", "LogicalOr", bool),
    "select": ("SELECT_V2", "SelectV2", None),
}
_REDUCTIONS = {"max": "REDUCE_MAX", "sum": "SUM", "mean": "MEAN"}


def export_tflite(bundle: Bundle) -> bytes:
    """Write a model as one LiteRT flatbuffer.

    It takes `picture`, `uint8 (1, side, side, 3)`, RGB, and gives `probabilities`, `float32 (1, k)`, and `decision`,
    `int32 (1,)`, an index into `answer.DECISIONS`.
    """
    assert isinstance(bundle.head, Head)
    graph = LitertGraph(bundle.flatbuffer)
    side = bundle.backbone().image_size
    picture = graph.take_pictures(side)
    outputs = add_answer(graph, bundle.head, graph.backbone_input, side, graph.features)
    return graph.finish(picture, dict(zip((PROBABILITIES, DECISION), outputs, strict=True)))


class LitertGraph:
    """A graph in the objects of the schema; tensors are indices. Implements `answer.Graph`.

    Attributes:
        backbone_input: `float32 (1, side, side, 3)`.
        features: `float32 (1, d)`.
    """

    def __init__(self, flatbuffer: bytes):
        self._model = schema.ModelT.InitFromPackedBuf(flatbuffer)
        self._graph = self._model.subgraphs[0]
        (self.backbone_input,) = map(int, self._graph.inputs)
        (self.features,) = (int(index) for index in self._graph.outputs if len(self._graph.tensors[index].shape) == 2)

    def take_pictures(self, side: int) -> int:
        """Let the backbone's input be cast from a new one, `uint8 (1, side, side, 3)`."""
        picture = self._tensor((1, side, side, 3), np.uint8)
        cast = self._operator("CAST", [picture], [self.backbone_input], schema.CastOptionsT())
        self._graph.operators.insert(0, cast)
        return picture

    def constant(self, values: ArrayLike) -> int:
        array = np.float32(values) if type(values) is float else np.asarray(values)  # np.float64 is a float, too
        self._model.buffers.append(schema.BufferT(data=np.frombuffer(array.tobytes(), np.uint8)))
        return self._tensor(array.shape, array.dtype, len(self._model.buffers) - 1)

    def apply(self, operation: str, *inputs: int) -> int:
        code, options, dtype = _ELEMENTWISE[operation]
        shape = np.broadcast_shapes(*map(self._shape, inputs))
        return self._add(code, inputs, shape, dtype or self._dtype(inputs[-1]), options)

    def linear(self, x: int, weights: np.ndarray, bias: np.ndarray) -> int:
        inputs = [x, self.constant(np.ascontiguousarray(weights.T)), self.constant(bias)]
        return self._add("FULLY_CONNECTED", inputs, (1, len(bias)), np.float32, "FullyConnected")

    def softmax(self, x: int) -> int:
        return self._add("SOFTMAX", [x], self._shape(x), np.float32, "Softmax", beta=1.0)

    def reduce(self, operation: str, x: int, axes: Sequence[int]) -> int:
        shape = [size for axis, size in enumerate(self._shape(x)) if axis not in axes]
        return self._add(
            _REDUCTIONS[operation],
            [x, self.constant(np.array(axes, np.int32))],
            shape,
            self._dtype(x),
            "Reducer",
            keepDims=False,
        )

    def argmax(self, x: int) -> int:
        inputs = [x, self.constant(np.int32(1))]
        return self._add("ARG_MAX", inputs, (1,), np.int32, "ArgMax", outputType=schema.TensorType.INT32)

    def take(self, table: np.ndarray, index: int) -> int:
        return self._add("GATHER", [self.constant(table), index], (1,), table.dtype, "Gather")

    def slice(self, x: int, starts: Sequence[int], ends: Sequence[int], steps: Sequence[int]) -> int:
        shape = [-(-(end - start) // step) for start, end, step in zip(starts, ends, steps, strict=True)]
        inputs = [x, *(self.constant(np.array(values, np.int32)) for values in (starts, ends, steps))]
        return self._add("STRIDED_SLICE", inputs, shape, self._dtype(x), "StridedSlice")

    def finish(self, picture: int, outputs: dict[str, int]) -> bytes:
        """The flatbuffer, with this input and these outputs, and without operations that nothing needs any more."""
        self._graph.tensors[picture].name = PICTURE
        for name, index in outputs.items():
            self._graph.tensors[index].name = name
        self._graph.inputs, self._graph.outputs = [picture], list(outputs.values())
        self._graph.operators = self._needed_operators()
        self._model.signatureDefs = [_signature(picture, outputs)]
        self._model.buffers = [_AlignedBuffer(buffer.data) for buffer in self._model.buffers]
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(self._model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _needed_operators(self) -> list[Any]:
        needed, operators = set(self._graph.outputs), []
        for operator in reversed(self._graph.operators):  # they are in the order in which they run
            if needed.intersection(operator.outputs):
                needed.update(operator.inputs)
                operators.append(operator)
        return operators[::-1]

    def _add(
        self, code: str, inputs: Sequence[int], shape: Sequence[int], dtype: Any, options: str | None, **values: Any
    ) -> int:
        output = self._tensor(shape, dtype)
        made = getattr(schema, f"{options}OptionsT")(**values) if options else None
        self._graph.operators.append(self._operator(code, inputs, [output], made))
        return output

    def _operator(self, code: str, inputs: Sequence[int], outputs: Sequence[int], options: Any) -> Any:
        number = getattr(schema.BuiltinOperator, code)
        kind = type(options).__name__.removesuffix("T") if options else "NONE"
        return schema.OperatorT(
            opcodeIndex=self._code(number),
            inputs=list(inputs),
            outputs=list(outputs),
            builtinOptionsType=getattr(schema.BuiltinOptions, kind),
            builtinOptions=options,
        )

    def _code(self, number: int) -> int:
        """The index of an operation's code, which is added if the backbone does not use it."""
        codes = self._model.operatorCodes
        for index, code in enumerate(codes):
            if code.builtinCode == number and code.version == 1:
                return index
        codes.append(schema.OperatorCodeT(deprecatedBuiltinCode=min(number, 127), builtinCode=number, version=1))
        return len(codes) - 1

    def _tensor(self, shape: Sequence[int], dtype: Any, buffer: int = 0) -> int:
        index = len(self._graph.tensors)
        name, kind = f"answer_{index}", _TYPES[np.dtype(dtype)]
        self._graph.tensors.append(schema.TensorT(shape=list(shape), type=kind, buffer=buffer, name=name, hasRank=True))
        return index

    def _shape(self, tensor: int) -> tuple[int, ...]:
        return tuple(self._graph.tensors[tensor].shape)

    def _dtype(self, tensor: int) -> np.dtype:
        return next(dtype for dtype, kind in _TYPES.items() if kind == self._graph.tensors[tensor].type)


class _AlignedBuffer(schema.BufferT):  # type: ignore[misc] # the schema has no types
    def Pack(self, builder: flatbuffers.Builder) -> int:
        if self.data is not None:
            builder.Prep(_ALIGNMENT, len(self.data))
        return super().Pack(builder)


def _signature(picture: int, outputs: dict[str, int]) -> Any:
    maps = [schema.TensorMapT(name, index) for name, index in outputs.items()]
    return schema.SignatureDefT([schema.TensorMapT(PICTURE, picture)], maps, "serving_default", 0)
