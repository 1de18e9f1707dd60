"""The `web` format: one page that needs neither a network nor a server, with the model and what runs it inside.

What runs it is LiteRT.js (Apache License 2.0), which computes the same flatbuffer as the format `tflite`.
`make web-runtime` builds `runtime/` from its npm package.
"""

import base64
import gzip
import json
from pathlib import Path
from typing import Any

_PAGE = Path(__file__).parent / "page.html"
_RUNTIME = Path(__file__).parent / "runtime"


def export_page(flatbuffer: bytes, description: dict[str, Any]) -> bytes:
    """Write the page of a flatbuffer of `litert_graph.export_tflite`.

    Args:
        description: as `packing.describe` gives it.
    """
    parts = {
        "runtime": gzip.decompress((_RUNTIME / "litert.js.gz").read_bytes()).decode(),
        "wasm": _base64((_RUNTIME / "litert.wasm.gz").read_bytes()),
        "model": _base64(gzip.compress(flatbuffer, mtime=0)),
        "description": json.dumps(description).replace("<", "\\u003c"),  # or a label could end the script
    }
    page = _PAGE.read_text("utf-8")
    for name, part in parts.items():
        page = page.replace(f"{{{{{name}}}}}", part)
    return page.encode()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
