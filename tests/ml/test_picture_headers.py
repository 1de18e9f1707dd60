"""What our readers of headers see is what the decoders see, also in files that are made to differ."""

import ctypes
import io
import struct
import zlib
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers.pictures import SIDE, draw, encode
from shoe_classifier.ml import jpeg, png, webp

HEIC = Path(__file__).parents[1] / "fixtures" / "two_colours.heic"


def chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def jpeg_pieces(data: bytes) -> list[bytes]:
    """Its segments; the first begins the file."""
    starts = [0, *jpeg._segments(data)]
    return [data[start:end] for start, end in pairwise([*starts, len(data)])]


def png_pieces(data: bytes) -> list[bytes]:
    return [png.SIGNATURE, *(chunk(kind, bytes(payload)) for kind, payload in png._chunks(data))]


JPEGS = [
    draw("Boot", 1),
    draw("Boot", 1, progressive=True),
    draw("Boot", 1, subsampling=0, restart_marker_blocks=1),
    encode(Image.new("L", (9, 70), 90), progressive=True),
    encode(Image.new("CMYK", (33, 20), (9, 90, 30, 0))),
]
PNGS = [draw("Boot", 1, kind="PNG"), encode(Image.new("RGBA", (20, 70), (9, 90, 30, 100)), "PNG")]
WEBPS = [draw("Boot", 1, kind="WEBP"), draw("Boot", 1, kind="WEBP", lossless=True)]
WEBPS += [encode(Image.new("RGBA", (20, 70), (9, 90, 30, 100)), "WEBP"), draw("Boot", 1, kind="WEBP", exif=b"x")]
ALL = [*JPEGS, *PNGS, *WEBPS, *(draw("Boot", 1, kind=kind) for kind in ("GIF", "BMP", "AVIF"))]

FRAME = b"\xff\xc0\0\x0b\x08\x01\x90\x01\x90\x01\x01\x11\0"  # sequential, 400 x 400
SCAN = b"\xff\xda\0\x08\x01\x01\0\0\x3f\0"  # of all its components
BETWEEN_SEGMENTS = [
    *(b"\xff", b"\xff\xff\xff", b"\xff\0", b"\xff\0\xff", b"\0", b"abc", b"\xff\x01", FRAME, SCAN),
    *(b"\xff\xd0", b"\xff\xd8", b"\xff\xd9", b"\xff\xd0\0\x04", b"\xff\xd0\xff\xff", b"\xff\xf0\0\xff"),
    b"\xff\xde\0\x04",
    b"\xff\xfe\0\x1b" + FRAME + SCAN + b"\xff\xd9",
    b"\xff\xd3\0\x02" + FRAME + SCAN + b"\xff\xd9",
]  # fmt: skip
HEADERS = [struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0) for size in ((10_000, 10_000), (48, 40), (20, 70))]
BETWEEN_CHUNKS = [
    *(chunk(b"IHDR", header) for header in HEADERS),
    *(chunk(b"tEXt", b"a\0" + header) for header in HEADERS),
    *(chunk(b"IEND", b""), b"\0", b"abcd", chunk(b"IDAT", b"")),
]
Inserted = list[tuple[int, bytes]]  # before which piece, and what
comparing = settings(max_examples=200, deadline=None, database=None, phases=[Phase.generate])


def inserted(pieces: list[bytes], what: Inserted) -> bytes:
    pieces = list(pieces)
    for place, piece in what:
        pieces.insert(1 + place % len(pieces), piece)
    return b"".join(pieces)


def several(of: list[bytes]) -> st.SearchStrategy[Inserted]:
    return st.lists(st.tuples(st.integers(0, 30), st.sampled_from(of)), min_size=1, max_size=3)


def decoded(data: bytes) -> Image.Image | None:
    """What Pillow makes of a file; None when that is nothing."""
    try:
        image: Image.Image = Image.open(io.BytesIO(data))
        size = image.size
        image.load()
    except Exception:  # decoders fail in many ways
        return None
    assert image.size == size, "the header was checked, and something else was decoded"
    return image


@comparing
@given(st.sampled_from(JPEGS), several(BETWEEN_SEGMENTS))
def test_jpeg(data: bytes, what: Inserted) -> None:
    data = inserted(jpeg_pieces(data), what)
    if image := decoded(data):
        frame, _ = jpeg._headers(data)
        height, width = struct.unpack(">HH", data[frame + 5 : frame + 9])
        assert (width, height) == image.size
        assert data[frame + 9] == len(image.getbands())
        if "progressive" in image.info:
            assert jpeg.coefficient_bytes(data) > 0
            assert jpeg.count_scans(data) > 1
            assert Image.open(io.BytesIO(jpeg.keep_dc_scans(data))).size == image.size


@comparing
@given(st.sampled_from(PNGS), several(BETWEEN_CHUNKS))
def test_png(data: bytes, what: Inserted) -> None:
    data = inserted(png_pieces(data), what)
    if (image := decoded(data)) and png.has_bands(data):
        assert struct.unpack(">II", data[16:24]) == image.size
        assert sum(band.height for band in png.bands(data, SIDE)) == image.height


@pytest.mark.skipif(not webp.available(), reason="this Pillow hides its libwebp")
@comparing
@given(st.sampled_from(WEBPS), st.integers(0, 60), st.binary(min_size=1, max_size=4))
def test_webp(data: bytes, place: int, piece: bytes) -> None:
    data = data[:place] + piece + data[place + len(piece) :]
    image, library, found = decoded(data), webp._library(), webp._Features()
    if image and library and not getattr(image, "is_animated", False):
        assert library.WebPGetFeaturesInternal(data, ctypes.c_size_t(len(data)), ctypes.byref(found), 0x0200) == 0
        assert (found.width, found.height) == image.size


@comparing
@given(st.sampled_from(ALL), st.floats(0, 1), st.binary(min_size=1, max_size=4))
def test_what_is_decoded_has_the_size_of_the_header(data: bytes, place: float, piece: bytes) -> None:
    start = int(place * min(len(data), 400))
    decoded(data[:start] + piece + data[start + len(piece) :])
