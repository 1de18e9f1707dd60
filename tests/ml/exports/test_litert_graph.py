from dataclasses import replace
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from helpers.pictures import SHAPES, SIDE
from helpers.pictures import draw as draw_file
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml.exports.litert_graph import export_tflite
from shoe_classifier.ml.exports.parity import draw, measure, open_tflite
from shoe_classifier.ml.live_model import LiveModel
from shoe_classifier.ml.preprocessing import decode


def pictures() -> list[np.ndarray]:
    """Shapes, other things, one colour, and noise: all decisions occur."""
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    shapes = [decode(draw_file(label, seed), SIDE) for label in SHAPES for seed in range(15)]
    return [*shapes, *(draw(seed, SIDE) for seed in range(40)), noise, np.full_like(noise, 90)]


@pytest.fixture(params=[0.5, 1.01])
def model(model_file: Path, request: pytest.FixtureRequest) -> LiveModel:
    """The small model, with two opinions of what is uncertain."""
    bundle = bundles.read(model_file)
    return LiveModel(replace(bundle, head=replace(bundle.head, uncertain_threshold=request.param)))


def test_it_answers_as_the_service(model: LiveModel) -> None:
    runtime, ask = open_tflite(export_tflite(model.bundle))
    assert runtime.startswith("LiteRT ")
    shown = pictures()
    report = measure(model, runtime, ask, iter(shown), 0, 60)
    assert (report.stored, report.label_changes, report.decision_changes) == (len(shown), 0, 0)
    assert report.largest_difference < 2e-6
    expected = {"accepted", "unknown"} if model.bundle.head.uncertain_threshold == 0.5 else {"uncertain", "unknown"}
    assert {ask(picture)[1] for picture in shown} >= expected


def test_constants_are_aligned(model: LiveModel) -> None:
    data = export_tflite(model.bundle)
    file = schema.Model.GetRootAs(data)
    starts = [file.Buffers(i)._tab.Vector(4) for i in range(file.BuffersLength()) if file.Buffers(i).DataLength()]
    assert len(starts) > 40
    assert {start % 16 for start in starts} == {0}


def test_what_only_teaching_needs_is_left_out(model: LiveModel) -> None:
    before, after = (schema.Model.GetRootAs(data) for data in (model.bundle.flatbuffer, export_tflite(model.bundle)))
    assert before.Subgraphs(0).OutputsLength() == 3
    graph = after.Subgraphs(0)
    names = [graph.Tensors(graph.Outputs(i)).Name() for i in range(graph.OutputsLength())]
    assert names == [b"probabilities", b"decision"]
    assert flatbuffers.util.BufferHasIdentifier(export_tflite(model.bundle), 0, b"TFL3")
