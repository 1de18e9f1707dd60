"""Whether exports answer as the service does, about labelled pictures and 1,000 drawn ones.

    python experiments/export_parity.py FORMAT MODEL.h5 PICTURES.zip [PICTURES.zip ...]

FORMAT is tflite, onnx or web. The page of `web` is opened in Chromium, and given the pictures' files, which it decodes
itself. Prints one JSON object, with the size of the export and the seconds it took to make.
"""

import base64
import io
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from shoe_classifier.errors import AppError
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml.exports import packing, parity
from shoe_classifier.ml.exports.parity import Answer, Ask
from shoe_classifier.ml.folder_reader import read
from shoe_classifier.ml.live_model import LiveModel
from shoe_classifier.ml.preprocessing import decode
from shoe_classifier.ml.zip_reader import ZipLimits

NO_LIMITS = ZipLimits(max_files=10_000_000, max_bytes=1 << 40, max_file_bytes=1 << 30)
DRAWN = 1000
NO_REPORT = parity.ParityReport("none yet")
CLASSIFY = "(data) => classifyFile(new Blob([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))]))"


def main() -> None:
    """Measure one format."""
    kind, model, *archives = sys.argv[1:]
    live = LiveModel(bundles.read(Path(model)))
    started = time.monotonic()
    graph = packing.build(kind, live.bundle)
    data = packing.pack(kind, graph, packing.describe(live.bundle, NO_REPORT))
    seconds = time.monotonic() - started
    files: list[bytes] = []
    with _asking(kind, graph, data, files) as (runtime, ask):
        report = parity.measure(live, runtime, ask, _pictures(archives, live, files), DRAWN, float("inf"))
    print(json.dumps({"format": kind, "bytes": len(data), "seconds": round(seconds, 2), **asdict(report)}))


def _pictures(archives: list[str], live: LiveModel, files: list[bytes]) -> Iterator[np.ndarray]:
    """Decode the pictures as the service does; `files` holds the file of the one that was decoded last."""
    for archive in archives:
        for picture in read(Path(archive), NO_LIMITS):
            try:
                array = decode(picture.data, live.size)
            except AppError:
                continue
            files[:] = [picture.data]
            yield array


@contextmanager
def _asking(kind: str, graph: bytes, data: bytes, files: list[bytes]) -> Iterator[tuple[str, Ask]]:
    if kind == "onnx":
        yield parity.open_onnx(graph)
    elif kind == "tflite":
        yield parity.open_tflite(graph)
    else:
        with tempfile.NamedTemporaryFile(suffix=".html") as page_file, sync_playwright() as playwright:
            Path(page_file.name).write_bytes(data)
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            page = browser.new_page()
            page.goto(Path(page_file.name).as_uri())
            yield (
                f"Chromium {browser.version}",
                lambda picture: _ask_page(page, files.pop() if files else _png(picture)),
            )
            browser.close()


def _ask_page(page: Any, file: bytes) -> Answer:
    answer = page.evaluate(CLASSIFY, base64.b64encode(file).decode())
    return np.array(answer["probabilities"]), answer["decision"]


def _png(picture: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    return out.getvalue()


if __name__ == "__main__":
    main()
