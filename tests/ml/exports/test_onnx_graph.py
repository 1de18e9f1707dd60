from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from shoe_classifier.ml.exports.onnx_graph import OnnxGraph

X = np.random.default_rng(0).uniform(0.5, 2.0, (1, 6)).astype(np.float32)
WEIGHTS, BIAS = np.arange(12, dtype=np.float32).reshape(6, 2) / 12, np.array([0.5, -0.5], np.float32)
ONE = np.float32(1)

Build = Callable[[OnnxGraph, str], str]
OPERATIONS: dict[str, tuple[Build, np.ndarray]] = {
    "add": (lambda g, x: g.apply("add", x, g.constant(1.0)), X + 1),
    "sub": (lambda g, x: g.apply("sub", x, g.constant(1.0)), X - 1),
    "mul": (lambda g, x: g.apply("mul", x, x), X * X),
    "exp": (lambda g, x: g.apply("exp", x), np.exp(X)),
    "log": (lambda g, x: g.apply("log", x), np.log(X)),
    "greater": (lambda g, x: g.cast(g.apply("greater", x, g.constant(1.0)), np.float32), (X > 1) * ONE),
    "less": (lambda g, x: g.cast(g.apply("less", x, g.constant(1.0)), np.float32), (X < 1) * ONE),
    "select": (
        lambda g, x: g.apply("select", g.apply("less", x, g.constant(1.0)), g.constant(0.0), x),
        np.where(X < 1, 0 * ONE, X),
    ),
    "linear": (lambda g, x: g.linear(x, WEIGHTS, BIAS), X @ WEIGHTS + BIAS),
    "softmax": (lambda g, x: g.softmax(x), np.exp(X) / np.exp(X).sum()),
    "max": (lambda g, x: g.reduce("max", x, [1]), X.max(1)),
    "sum": (lambda g, x: g.reduce("sum", x, [1]), X.sum(1)),
    "mean": (lambda g, x: g.reduce("mean", x, [1]), X.mean(1)),
    "take": (lambda g, x: g.take(WEIGHTS[:, 1], g.argmax(x)), WEIGHTS[X.argmax(1), 1]),
    "slice": (lambda g, x: g.slice(x, [0, 1], [1, 6], [1, 2]), X[:, 1:6:2]),
}


def info(name: str, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_computes_what_its_name_says(operation: str) -> None:
    build, expected = OPERATIONS[operation]
    graph = OnnxGraph()
    model = graph.finish(info("x", X.shape), [build(graph, "x")], [info("y", expected.shape)])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert np.allclose(session.run(["y"], {"x": X})[0], expected, atol=1e-6)


def test_a_graph_that_cannot_run_is_not_finished() -> None:
    graph = OnnxGraph()
    with pytest.raises(onnx.shape_inference.InferenceError):
        graph.finish(info("x", (1, 6)), [graph.linear("x", WEIGHTS[:3], BIAS)], [info("y", (1, 2))])
