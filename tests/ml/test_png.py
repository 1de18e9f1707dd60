import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from helpers.pictures import draw, encode
from shoe_classifier.errors import InvalidImage
from shoe_classifier.ml import png
from shoe_classifier.ml.preprocessing import thumbnail


def picture(mode: str) -> Image.Image:
    """Shapes and noise, so that the encoder uses all filters; half of it transparent, where the mode can say so."""
    noise = np.random.default_rng(1).integers(0, 60, (50, 61, 3), dtype=np.uint8)
    image = Image.open(io.BytesIO(draw("Boot", 1, (61, 50)))).convert("RGB")
    image = Image.fromarray(np.asarray(image) // 2 + noise)
    if "A" in mode:
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image.convert(mode)


@pytest.mark.parametrize("rows", [1, 7, 50, 60])
@pytest.mark.parametrize("mode", ["L", "P", "RGB", "LA", "RGBA"])
def test_bands_are_the_picture(mode: str, rows: int) -> None:
    data = encode(picture(mode), "PNG", **({"transparency": 3} if mode == "P" else {}))
    assert png.has_bands(data)
    bands = [np.asarray(band.convert("RGBA")) for band in png.bands(data, rows)]
    assert max(map(len, bands)) == min(rows, 50)
    np.testing.assert_array_equal(np.concatenate(bands), np.asarray(Image.open(io.BytesIO(data)).convert("RGBA")))


def test_what_is_left_to_pillow() -> None:
    whole = encode(picture("RGB"), "PNG")
    assert not png.has_bands(encode(picture("L").convert("1"), "PNG"))
    assert not png.has_bands(encode(picture("L").convert("I;16"), "PNG"))
    assert not png.has_bands(whole[:28] + b"\1" + whole[29:])  # interlaced
    assert not png.has_bands(whole[:25])


def test_files_whose_header_is_elsewhere_or_not_the_only_one_are_left_to_pillow() -> None:
    whole = encode(picture("RGB"), "PNG")
    header = whole[8:33]
    larger = header[:8] + (10_000).to_bytes(4) * 2 + header[16:]
    text = (13).to_bytes(4) + b"tEXt" + larger[8:]  # where the header is otherwise
    assert png.has_bands(whole)
    for before in (larger, header, text):
        assert not png.has_bands(whole[:8] + before + whole[8:])


def test_a_file_that_is_cut_short_is_an_error() -> None:
    data = encode(picture("RGB"), "PNG")
    for end in range(33, len(data) - 100, 97):
        with pytest.raises((ValueError, OSError)):
            list(png.bands(data[:end], 7))


def test_exif_after_the_picture_is_found() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(picture("RGB"), "PNG", exif=exif)
    start = data.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4])
    moved = data[:start] + data[end:-12] + data[start:end] + data[-12:]
    found = Image.Exif()
    found.load(png.exif(moved) or b"")
    assert found[0x0112] == 6
    assert png.exif(encode(picture("RGB"), "PNG")) is None


def test_a_file_that_pillow_would_read_for_seconds_is_refused_at_once() -> None:
    data = encode(picture("RGB"), "PNG")
    crumb = b"\0\0\0\0teSt" + struct.pack(">I", zlib.crc32(b"teSt"))
    thumbnail(data[:33] + crumb * 10_000 + data[33:], 100)
    with pytest.raises(InvalidImage, match="does not decode"):
        thumbnail(data[:33] + crumb * 20_000 + data[33:], 100)
