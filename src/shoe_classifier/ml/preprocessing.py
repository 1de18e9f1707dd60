"""Bytes to array: the same preprocessing for training, retraining and serving."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import PurePath

import numpy as np
from PIL import Image

from shoe_classifier.errors import AppError, InvalidImage, TooLarge, TooSmall, UnsupportedImage
from shoe_classifier.ml import jpeg
from shoe_classifier.types import ACCEPTED_FORMATS, EXTENSIONS, MAX_IMAGE_PIXELS

# Pillow refuses only at twice its own limit, and warns before; `check_size` refuses by the header, before decoding.
Image.MAX_IMAGE_PIXELS = None

FORMATS = tuple(EXTENSIONS)
PICTURE_NAMES = (*EXTENSIONS.values(), ".jpeg", ".jpe", ".jfif", ".heif", ".hif", ".dib")

_OTHER_FORMATS = {
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"%PDF": "PDF",
    b"PK\3\4": "ZIP",
    b"8BPS": "PSD",
    b"\0\0\1\0": "ICO",
}
_BRANDS = {  # major brands of the ISO container (ISO/IEC 23008-12) that hold one still picture
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"mif1", b"hevc", b"hevx"), "HEIC"),
    b"avif": "AVIF",
}
_PLUGINS = {"HEIC": "HEIF"}  # what Pillow calls a format, where it is not its name in capitals
_SMALLEST_DRAFT = 8  # the JPEG decoder can leave out this factor of the size
_LEAST_VARIANCE = 4.0  # of levels 0-255
_NOISE = 1.5  # squared difference of neighbours over the variance: 2 in pure noise
_EXIF_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = [_TURNS[value] for value in (5, 6, 7, 8)]


def sniff(data: bytes) -> str | None:
    """Name the format that the first bytes show, one of `FORMATS`, or None."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12])
    return "BMP" if data.startswith(b"BM") else None


def decode(
    data: bytes, size: int | tuple[int, int], *, name: str = "", max_pixels: int = MAX_IMAGE_PIXELS, min_side: int = 1
) -> np.ndarray:
    """Decode a picture and squash it to the size that a network takes.

    Args:
        data: a file of one of `FORMATS` (of an animation, the first frame counts).
        size: edge of a square, or width and height, in pixels.
        name: the client's file name, used only to word an error.
        max_pixels: width x height above which nothing is decoded.
        min_side: shortest edge in pixels that is accepted.

    Returns:
        `uint8` array of shape `(height, width, 3)`, RGB, 0-255, EXIF orientation applied, transparency on white.

    Raises:
        UnsupportedImage: another file format.
        InvalidImage: damaged or empty; `TooSmall`, one of them, when an edge is below `min_side`.
        TooLarge: more than `max_pixels`.
    """
    width, height = (size, size) if isinstance(size, int) else size
    image, turn = _open(data, name, max_pixels, min_side)
    if turn in _SIDEWAYS:
        width, height = height, width
    with _damage(data):
        image = _to_rgb(_draft(image, data, (width, height))).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image if turn is None else image.transpose(turn))  # cheaper than turning the large picture


def size_of(data: bytes, *, name: str = "", max_pixels: int = MAX_IMAGE_PIXELS) -> tuple[int, int]:
    """Return the width and height in a picture's header, in pixels. Raises as `decode` does."""
    return _open(data, name, max_pixels, 1)[0].size


def shows_nothing(picture: np.ndarray) -> bool:
    """True for a picture, `uint8 (h, w, 3)`, of one colour or of noise: all neighbouring pixels are alike, or none."""
    sample = picture[::4, ::4, 1].astype(np.float32)  # green carries most of the light
    levels, steps = sample.ravel(), (sample[:, 1:] - sample[:, :-1]).ravel()
    variance = levels @ levels / levels.size - (levels.sum() / levels.size) ** 2
    return bool(variance < _LEAST_VARIANCE or steps @ steps / steps.size > _NOISE * variance)


def thumbnail(data: bytes, max_side: int, *, name: str = "", max_pixels: int = MAX_IMAGE_PIXELS) -> Image.Image:
    """Decode a picture for display: upright, RGB, proportions kept, no edge above `max_side` pixels.

    Raises as `decode` does.
    """
    image, turn = _open(data, name, max_pixels, 1)
    with _damage(data):
        image = _to_rgb(_draft(image, data, (max_side, max_side)))
        image.thumbnail((max_side, max_side), Image.Resampling.BILINEAR)
    return image if turn is None else image.transpose(turn)


def check_size(size: tuple[int, int], max_pixels: int, min_side: int) -> None:
    """Refuse a picture by the width and height in its header, in pixels."""
    width, height = size
    if width * height > max_pixels:
        raise TooLarge(f"Expected at most {max_pixels:,} pixels; received {width} x {height}.")
    if min(size) < min_side:
        raise TooSmall(f"Expected at least {min_side} x {min_side} pixels; received {width} x {height}.")


def _open(data: bytes, name: str, max_pixels: int, min_side: int) -> tuple[Image.Image, Image.Transpose | None]:
    """Read the header, check it, and say how the picture must be turned to be upright."""
    expected = f"Expected a {ACCEPTED_FORMATS} picture"
    if not data:
        raise InvalidImage(f"{expected}; received an empty file.")
    kind = sniff(data)
    if kind is None:
        other = _other_format(data, name)
        if other:
            raise UnsupportedImage(f"{expected}; received {other}.")
        raise InvalidImage(f"{expected}; received bytes that are none of these.")
    with _damage(data):
        if kind == "HEIC":
            _register_heic()
        image: Image.Image = Image.open(io.BytesIO(data), formats=(_PLUGINS.get(kind, kind.upper()),))
    check_size(image.size, max_pixels, min_side)
    with _damage(data):
        return image, _TURNS.get(image.getexif().get(_EXIF_ORIENTATION, 1))


@cache
def _register_heic() -> None:
    """Teach Pillow to read HEIC, once: the library takes memory that most services never need."""
    import pi_heif

    pi_heif.register_heif_opener(thumbnails=False)


def _draft(image: Image.Image, data: bytes, size: tuple[int, int]) -> Image.Image:
    """Let the decoder of a JPEG file leave out what `size` does not need; other formats stay as they are."""
    if sniff(data) != "JPEG":
        return image
    if jpeg.count_scans(data) > jpeg.MAX_SCANS:
        raise InvalidImage(f"Expected a JPEG picture of at most {jpeg.MAX_SCANS} scans; received one of more.")
    scale = min(have // wanted for have, wanted in zip(image.size, size, strict=True))
    if "progressive" in image.info and scale >= _SMALLEST_DRAFT:
        image = Image.open(io.BytesIO(jpeg.keep_dc_scans(data)), formats=("JPEG",))
    image.draft("RGB", size)
    return image


@contextmanager
def _damage(data: bytes) -> Iterator[None]:
    try:
        yield
    except (MemoryError, AppError):
        raise
    except Exception as error:  # decoders fail in many ways on damaged bytes; to the client all mean the same
        raise InvalidImage(f"Expected a complete {sniff(data)} picture; received one that does not decode.") from error


def _other_format(data: bytes, name: str) -> str | None:
    """Name what the file is instead, by its bytes or its extension; None when it claims to be a picture."""
    if data[4:8] == b"ftyp":
        return "an animation, or a video file"
    if data[:4] in _OTHER_FORMATS:
        return f"a {_OTHER_FORMATS[data[:4]]} file"
    extension = PurePath(name).suffix.lower()
    if extension and extension not in PICTURE_NAMES:
        return f"a {extension[:12]!r} file"
    return None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):  # 16 bits per pixel, which `convert` would clip instead of scale
        return Image.fromarray((np.asarray(image).astype(np.uint32) // 257).clip(0, 255).astype(np.uint8)).convert(
            "RGB"
        )
    if "A" in image.mode or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))  # `alpha_composite` would take twice the memory
        return white
    return image.convert("RGB")
