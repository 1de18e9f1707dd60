"""An export as one file: the graph, its description, and its parity report. Runs in a child process."""

import json
import os
import zipfile
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any

from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml.bundle import Bundle
from shoe_classifier.ml.exports import litert_graph, parity, web_page
from shoe_classifier.ml.exports.answer import DECISIONS
from shoe_classifier.ml.exports.formats import ExportFormat
from shoe_classifier.ml.exports.parity import ParityReport
from shoe_classifier.ml.head import Head
from shoe_classifier.ml.live_model import LiveModel

METADATA, LABELS = "metadata.json", "labels.txt"  # in a .tflite file, which is a ZIP as well
METADATA_KEY = "shoe_classifier"  # among the metadata of an .onnx file
_LOWEST_PRIORITY = 19
_RESIZE = (
    "Squash the picture to this size with antialiased bilinear resampling: in Pillow, "
    "image.draft('RGB', size) and image.convert('RGB').resize(size, BILINEAR). Proportions are not kept."
)


def write_export(kind: ExportFormat, model: Path, pictures: Path, drawn: int, seconds: float, target: Path) -> None:
    """Write an export, and its parity report as JSON beside it.

    Args:
        model: the model file, of format 3.
        pictures: folder of pictures for the parity report.
        drawn: number of drawn pictures for it.
        seconds: after which its measurement ends.
        target: the export's file.

    Raises:
        InvalidModel: the model file does not read.
    """
    os.nice(_LOWEST_PRIORITY)
    live = LiveModel(bundles.read(model))
    graph = build(kind, live.bundle)
    runtime, ask = (parity.open_onnx if kind == "onnx" else parity.open_tflite)(graph)
    report = parity.measure(live, runtime, ask, parity.read_pictures(pictures, live.size[0]), drawn, seconds)
    target.write_bytes(pack(kind, graph, describe(live.bundle, report)))
    target.with_suffix(".json").write_text(json.dumps(asdict(report)))


def describe(bundle: Bundle, report: ParityReport) -> dict[str, Any]:
    """What an export says about itself."""
    head = bundle.head
    assert isinstance(head, Head)
    side = bundle.backbone().image_size
    return {
        "version": bundle.version,
        "created_at": bundle.created_at,
        "labels": list(bundle.labels),
        "decisions": list(DECISIONS),
        "input": {
            "name": "picture",
            "shape": [1, side, side, 3],
            "type": "uint8",
            "channels": "RGB",
            "range": [0, 255],
        },
        "resize": _RESIZE,
        "temperature": head.temperature,
        "uncertain_threshold": head.uncertain_threshold,
        "unknown_thresholds": dict(zip(bundle.labels, head.unknown_thresholds.tolist(), strict=True)),
        "parity": asdict(report),
    }


def build(kind: ExportFormat, bundle: Bundle) -> bytes:
    """The graph that a format runs: a LiteRT flatbuffer or an ONNX model, without a description."""
    if kind == "onnx":
        from shoe_classifier.ml.exports import onnx_backbone  # the library may be missing

        return onnx_backbone.export_onnx(bundle)
    return litert_graph.export_tflite(bundle)


def pack(kind: ExportFormat, graph: bytes, description: dict[str, Any]) -> bytes:
    """The file of an export: a graph of `build`, and what `describe` says about it."""
    if kind == "onnx":
        return _with_properties(graph, description)
    if kind == "web":
        return web_page.export_page(graph, description)
    return _with_archive(graph, description)


def _with_archive(flatbuffer: bytes, description: dict[str, Any]) -> bytes:
    """Append a ZIP, as LiteRT's own tools do: runtimes read what is before it, and `zipfile` what is in it."""
    file = BytesIO(flatbuffer)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(METADATA, json.dumps(description, indent=2))
        archive.writestr(LABELS, "".join(f"{label}\n" for label in description["labels"]))
    return file.getvalue()


def _with_properties(model: bytes, description: dict[str, Any]) -> bytes:
    import onnx

    proto = onnx.load_model_from_string(model)
    proto.metadata_props.add(key=METADATA_KEY, value=json.dumps(description))
    return bytes(proto.SerializeToString())
