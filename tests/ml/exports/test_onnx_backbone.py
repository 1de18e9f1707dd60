from pathlib import Path

import pytest

from helpers.pictures import SHAPES, SIDE, draw
from shoe_classifier.errors import NotOffered
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml.exports import onnx_backbone
from shoe_classifier.ml.exports.onnx_backbone import export_onnx
from shoe_classifier.ml.exports.parity import measure, open_onnx
from shoe_classifier.ml.live_model import LiveModel
from shoe_classifier.ml.preprocessing import decode

SHIPPED = Path(__file__).parents[3] / "models" / "shipped" / "shoe_classifier.h5"


def test_single_precision_answers_as_the_service(model_file: Path) -> None:
    model = LiveModel(bundles.read(model_file))
    runtime, ask = open_onnx(export_onnx(model.bundle))
    assert runtime.startswith("ONNX Runtime ")
    shapes = (decode(draw(label, seed), SIDE) for label in SHAPES for seed in range(15))
    report = measure(model, runtime, ask, shapes, 40, 60)
    assert (report.stored, report.drawn, report.label_changes, report.decision_changes) == (45, 40, 0, 0)
    assert report.largest_difference < 1e-5


def test_integers_are_rounded_as_the_service_rounds_them() -> None:
    model = LiveModel(bundles.read(SHIPPED))
    runtime, ask = open_onnx(export_onnx(model.bundle))
    report = measure(model, runtime, ask, iter(()), 12, 60)
    assert (report.drawn, report.label_changes, report.decision_changes) == (12, 0, 0)
    assert report.largest_difference < 2e-6  # of a single step of an integer, it would be a hundred times as much


def test_an_operation_that_is_not_known(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_backbone.schema.BuiltinOperator, "MEAN", -1)
    with pytest.raises(
        NotOffered, match=r"^Expected the operations of this service's backbones; received number 40\.$"
    ):
        export_onnx(bundles.read(model_file))
