import io
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from helpers.pictures import draw, encode
from shoe_classifier.errors import InvalidImage, TooLarge, TooSmall, UnsupportedImage
from shoe_classifier.ml.preprocessing import FORMATS, LIMITS, decode, decode_with_thumbnail, shows_nothing, thumbnail

FIXTURES = Path(__file__).parent.parent / "fixtures"
RED, WHITE = (255, 0, 0), (255, 255, 255)


def two_colours() -> Image.Image:
    """Left half red, right half white."""
    image = Image.new("RGB", (40, 30), WHITE)
    image.paste(RED, (0, 0, 20, 30))
    return image


def encoded(kind: str) -> bytes:
    """`two_colours` in a format; Pillow has no encoder for HEIC."""
    return (FIXTURES / "two_colours.heic").read_bytes() if kind == "HEIC" else encode(two_colours(), kind)


@pytest.mark.parametrize("kind", FORMATS)
def test_each_format_decodes_to_rgb(kind: str) -> None:
    square = decode(encoded(kind), 16)
    assert square.shape == (16, 16, 3)
    assert square.dtype == np.uint8
    assert abs(square[8, 2].astype(int) - RED).max() < 12
    assert abs(square[8, 13].astype(int) - WHITE).max() < 12


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I;16"])
def test_each_mode_becomes_rgb(mode: str) -> None:
    grey = Image.new("L", (20, 20), 255)
    if mode == "I;16":
        image = Image.fromarray(np.full((20, 20), 65535, np.uint16))
    else:
        image = grey.convert("RGB").convert(mode)
    square = decode(encode(image, "TIFF" if mode == "none" else "JPEG" if mode == "CMYK" else "PNG"), 8)
    assert square.shape == (8, 8, 3)
    assert square.min() > 250


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    image = Image.fromarray(np.full((20, 20), 32768, np.uint16))
    assert abs(int(decode(encode(image, "PNG"), 8)[0, 0, 0]) - 127) <= 1


def test_transparency_is_white() -> None:
    image = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    assert decode(encode(image, "PNG"), 8).min() == 255


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    upright = np.zeros((24, 24, 3), np.uint8)
    upright[:12, :12] = RED  # red is at the top left of the upright picture
    turns = {
        1: (0, False),
        2: (0, True),
        3: (2, False),
        4: (2, True),
        5: (3, True),
        6: (1, False),
        7: (1, True),
        8: (3, False),
    }
    quarter, mirrored = turns[orientation]
    stored = np.rot90(upright, quarter)  # undoes what a viewer does
    stored = stored[:, ::-1] if mirrored else stored
    exif = Image.Exif()
    exif[0x0112] = orientation
    square = decode(encode(Image.fromarray(np.ascontiguousarray(stored)), "PNG", exif=exif), 24)
    assert np.array_equal(square, upright)


def test_first_frame_of_an_animation_counts() -> None:
    frames = [Image.new("RGB", (10, 10), colour) for colour in (RED, (0, 0, 255))]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    assert tuple(decode(out.getvalue(), 4)[0, 0]) == RED


def test_large_pictures_are_refused_by_their_header() -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    bomb += struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    with pytest.raises(TooLarge, match="60000 x 60000"):
        decode(bomb, 96)


def test_limit_is_exact() -> None:
    data = draw("Boot", 1, (30, 20))
    decode(data, 8, max_pixels=600)
    with pytest.raises(TooLarge):
        decode(data, 8, max_pixels=599)


def test_small_pictures_are_refused_when_asked() -> None:
    with pytest.raises(TooSmall, match="at least 16 x 16"):
        decode(draw("Boot", 1, (40, 15)), 8, min_side=16)


@pytest.mark.parametrize(
    ("data", "name", "error"),
    [
        (b"", "x.jpg", InvalidImage),
        (b"just text", "x.jpg", InvalidImage),
        (b"just text", "notes.txt", UnsupportedImage),
        (encode(two_colours(), "TIFF"), "x.tiff", UnsupportedImage),
        (encode(two_colours(), "TIFF"), "x.jpg", UnsupportedImage),
        (b"%PDF-1.7", "x.pdf", UnsupportedImage),
        (b"\0\0\0\x18ftypmp42" + bytes(50), "photo.jpg", UnsupportedImage),
        (b"\xff\xd8\xff\xe0 and no more", "x.jpg", InvalidImage),
        (b"BM and no more", "x.bmp", InvalidImage),
    ],
)
def test_other_files_are_refused(data: bytes, name: str, error: type[Exception]) -> None:
    with pytest.raises(error, match="Expected"):
        decode(data, 8, name=name)


@pytest.mark.parametrize("kind", FORMATS)
def test_cut_and_changed_files_never_raise_anything_else(kind: str) -> None:
    data = encoded(kind)
    rng = np.random.default_rng(3)
    for attempt in range(150):
        damaged = bytearray(data[: int(rng.integers(0, len(data) + 1))] if attempt % 2 else data)
        for place in rng.integers(0, max(1, len(damaged)), 4):
            if damaged:
                damaged[place] = int(rng.integers(0, 256))
        with suppress(InvalidImage, UnsupportedImage, TooLarge):
            assert decode(bytes(damaged), 16, max_pixels=1_000_000).shape == (16, 16, 3)


@pytest.mark.parametrize("size", [(40, 30), (128, 128), (700, 500)])
def test_blank_and_noise_show_nothing_and_shapes_do(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(4)
    noise = rng.integers(0, 256, (size[1], size[0], 3), np.uint8)
    grain = np.repeat(noise[..., :1], 3, axis=2)
    for nothing in (noise, grain, np.full_like(noise, 255), np.full_like(noise, 90)):
        assert shows_nothing(decode(encode(Image.fromarray(nothing)), 128))
    for label in ("Boot", "Sandal", "Shoe"):
        assert not shows_nothing(decode(draw(label, 3, size), 128))


def test_the_exif_orientation_of_heic_is_a_copy_that_does_not_count() -> None:
    turned = decode((FIXTURES / "exif_turned.heic").read_bytes(), 16)  # the container's own boxes say how to turn it
    assert abs(turned.astype(int) - decode(encoded("HEIC"), 16)).max() < 8


def test_a_damaged_heic_picture_is_the_clients_mistake() -> None:
    data = encoded("HEIC")
    for end in range(12, len(data) - 1, 40):
        with pytest.raises(InvalidImage):
            decode(data[:end], 16)


def test_heic_and_avif_keep_to_the_limit_of_pixels() -> None:
    for data in (encoded("HEIC"), encoded("AVIF")):
        with pytest.raises(TooLarge):
            decode(data, 16, max_pixels=1000)


def test_a_large_progressive_jpeg_looks_the_same_in_a_fraction_of_the_time() -> None:
    large = two_colours().resize((1600, 1200))
    plain = decode(encode(large, progressive=False), 16)
    assert abs(decode(encode(large, progressive=True), 16).astype(int) - plain).max() < 24


def test_a_jpeg_of_countless_scans_is_refused_before_it_is_decoded() -> None:
    data = encode(two_colours().resize((64, 64)), progressive=True)
    scan = data.rindex(b"\xff\xda")
    with pytest.raises(InvalidImage, match="100 scans"):
        decode(data[:-2] + data[scan:-2] * 200 + data[-2:], 16)


def test_texts_of_a_png_that_take_much_memory_are_refused() -> None:
    """They are decompressed with the header, where no limit of pictures holds."""
    texts = PngInfo()
    for number in range(3):
        texts.add_text(str(number), "a" * 1_000_000, zip=True)
    decode(encode(two_colours(), "PNG", pnginfo=texts), 16)
    for number in range(3, 6):
        texts.add_text(str(number), "a" * 1_000_000, zip=True)
    with pytest.raises(InvalidImage):
        decode(encode(two_colours(), "PNG", pnginfo=texts), 16)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "AVIF", "BMP", "JPEG"])
def test_large_pictures_look_the_same_in_less_memory(kind: str) -> None:
    large, small = two_colours().resize((1607, 1203)), decode(encode(two_colours(), "PNG"), 16)
    data = encode(large, kind)
    picture, shown = decode_with_thumbnail(data, 16, 64)
    assert abs(decode(data, 16).astype(int) - small).max() < 40
    assert abs(picture.astype(int) - small).max() < 40
    assert thumbnail(data, 64).size == shown.size == (64, 48)


def test_a_large_png_is_never_in_memory_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LIMITS, "max_bytes", 11 << 20)  # as a whole, it would take 16 MB
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(two_colours().resize((2000, 2000)), "PNG", exif=exif)
    start, end = data.index(b"eXIf") - 4, data.index(b"IDAT") - 4
    late = data[:start] + data[end:-12] + data[start:end] + data[-12:]  # Pillow decodes all to see what comes then
    for picture in (decode(data, 16), decode(late, 16)):
        assert (
            abs(picture.astype(int) - decode(encode(two_colours().transpose(Image.Transpose.ROTATE_270)), 16)).max()
            < 40
        )
    with pytest.raises(InvalidImage):
        decode(data[: len(data) // 2], 16)


def test_a_large_heic_picture_is_decoded_from_memory_that_is_still_there() -> None:
    square = decode((FIXTURES / "large.heic").read_bytes(), 16)
    assert abs(square[8, 2].astype(int) - RED).max() < 12
    assert abs(square[8, 13].astype(int) - WHITE).max() < 12


def test_a_run_length_encoded_bmp_is_refused() -> None:
    """Pillow decodes it in Python: 49 megapixels would keep all other threads waiting for seconds."""
    data = bytearray(encode(two_colours().convert("P"), "BMP"))
    data[30:34] = struct.pack("<I", 1)
    with pytest.raises(UnsupportedImage, match="run-length encoded BMP"):
        decode(bytes(data), 16)


def test_transparency_of_large_pictures_is_white() -> None:
    clear = Image.new("RGBA", (1600, 1200), (255, 0, 0, 0))
    for kind in ("PNG", "WEBP"):
        assert decode(encode(clear, kind, lossless=True), 16).min() == 255


@pytest.mark.parametrize("kind", FORMATS)
def test_a_picture_that_takes_too_much_memory_is_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LIMITS, "max_bytes", 100)
    with pytest.raises(TooLarge, match=f"at most 100 bytes to decode; received .* {kind}"):
        decode(encoded(kind), 16)
