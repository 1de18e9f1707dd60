"""What the limits hold for a picture is what decoding it takes, in a process of its own."""

import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from PIL import Image

from helpers.pictures import encode
from shoe_classifier.ml import png

CLEAR = Path("/proc/self/clear_refs")  # the peak starts anew
HEIC = Path(__file__).parents[1] / "fixtures" / "detailed.heic"  # 3000 x 3000, colours at full resolution
MB = 1 << 20
SLACK = 10 * MB  # tables of the decoders, and what the allocator keeps
MEASURE = """
import json, sys
from pathlib import Path
from shoe_classifier.ml import preprocessing
from shoe_classifier.ml.decoding_limits import DecodingLimits, give_back_large_blocks

class Limits(DecodingLimits):
    def hold(self, count, what):
        self.count = count
        return super().hold(count, what)

def memory(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

give_back_large_blocks()
preprocessing.LIMITS = limits = Limits(1 << 30, 100)
for path in sys.argv[1:]:
    data = Path(path).read_bytes()
    Path("/proc/self/clear_refs").write_text("5")
    idle = memory("VmRSS")
    preprocessing.decode(data, 64)
    print(json.dumps([Path(path).name, limits.count, memory("VmHWM") - idle]))
"""


def flat_png(width: int, height: int, depth: int, colour_type: int, channels: int) -> bytes:
    def chunk(kind: bytes, payload: bytes) -> bytes:
        return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    rows = zlib.compress(bytes((1 + width * channels * depth // 8) * height), 1)
    return png.SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def pictures() -> dict[str, bytes]:
    """Those that take more than others of their format and size."""
    size, clear = (2600, 2600), (200, 90, 30, 100)
    rgb, rgba = Image.new("RGB", size, clear[:3]), Image.new("RGBA", size, clear)
    return {
        "progressive.jpg": encode(rgb, progressive=True, subsampling=0),
        "cmyk.jpg": encode(Image.new("CMYK", size, clear), progressive=True),
        "16_bits.png": flat_png(*size, 16, 0, 1),
        "one_row.png": flat_png(5_000_000, 1, 16, 0, 1),
        "one_column.png": flat_png(1, 3_000_000, 16, 2, 3),
        "transparent.webp": encode(rgba, "WEBP", method=0),
        "lossless.webp": encode(rgba, "WEBP", lossless=True, quality=0, method=0),
        "animated.webp": encode(rgba, "WEBP", save_all=True, append_images=[rgb], method=0),
        "transparent.gif": encode(Image.new("P", size, 3), "GIF", transparency=3),
        "palette.bmp": encode(Image.new("P", size, 3), "BMP"),
        "coarse.avif": encode(rgb, "AVIF", speed=10),
        "detailed.avif": encode(rgba, "AVIF", speed=10, subsampling="4:4:4"),
        "detailed.heic": HEIC.read_bytes(),
    }


@pytest.mark.skipif(not CLEAR.exists(), reason="needs Linux")
def test_decoding_takes_no_more_than_was_held_for_it(tmp_path: Path) -> None:
    paths = []
    for name, data in pictures().items():
        paths.append(tmp_path / name)
        paths[-1].write_bytes(data)
    done = subprocess.run([sys.executable, "-c", MEASURE, *paths], capture_output=True, text=True, check=True)
    measured = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(measured) == len(paths)
    assert [(name, held, taken) for name, held, taken in measured if taken > held + SLACK] == []
