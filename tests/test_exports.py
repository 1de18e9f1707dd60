"""The Python of docs/exports.md runs, and reads pictures as the service does."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers.pictures import SIDE, draw, encode
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml.exports import packing
from shoe_classifier.ml.exports.formats import ExportFormat
from shoe_classifier.ml.exports.parity import ParityReport
from shoe_classifier.ml.preprocessing import decode

DOCUMENT = (Path(__file__).parent.parent / "docs" / "exports.md").read_text()
BLOCKS = [
    re.sub(r"(?m)^    ", "", block) for block in re.findall(r"(?:^    .*\n|^\n(?=    ))+", DOCUMENT, re.MULTILINE)
]
RESIZE, LITERT, ONNX = (block for block in BLOCKS if "import " in block)


@pytest.fixture
def names() -> dict[str, Any]:
    """What the document's first block defines."""
    defined: dict[str, Any] = {}
    exec(RESIZE, defined)
    return defined


def transparent() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 4), np.uint8)
    return encode(Image.fromarray(pixels), "PNG")


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return draw("Shoe", 1, (200, 150), exif=exif)


@pytest.mark.parametrize("file", [draw("Boot", 1), draw("Boot", 2, (300, 90)), turned(), transparent()])
def test_the_resize_is_that_of_the_service(names: dict[str, Any], tmp_path: Path, file: bytes) -> None:
    (tmp_path / "picture").write_bytes(file)
    read = names["read_picture"](tmp_path / "picture", SIDE)
    assert (read == decode(file, SIDE)[None]).all()


@pytest.mark.parametrize(("kind", "block"), [("tflite", LITERT), ("onnx", ONNX)])
def test_the_examples(
    names: dict[str, Any],
    kind: ExportFormat,
    block: str,
    model_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bundle = bundles.read(model_file)
    data = packing.pack(kind, packing.build(kind, bundle), packing.describe(bundle, ParityReport("none yet")))
    (tmp_path / f"model.{kind}").write_bytes(data)
    (tmp_path / "boot.jpg").write_bytes(draw("Boot", 1))
    monkeypatch.chdir(tmp_path)
    exec(block, names)
    assert capsys.readouterr().out.split() == ["Boot", "accepted"]
