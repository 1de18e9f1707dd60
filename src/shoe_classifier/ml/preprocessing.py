"""Bytes to array: the same preprocessing for training, retraining and serving."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import PurePath

import numpy as np
from PIL import Image, PngImagePlugin

from shoe_classifier.errors import AppError, InvalidImage, TooLarge, TooSmall, UnsupportedImage
from shoe_classifier.ml import avif, jpeg, png, webp
from shoe_classifier.ml.decoding_limits import DecodingLimits
from shoe_classifier.types import ACCEPTED_FORMATS, EXTENSIONS, MAX_IMAGE_PIXELS

# Pillow refuses only at twice its own limit, and warns before; `check_size` refuses by the header, before decoding.
Image.MAX_IMAGE_PIXELS = None
# Texts are decompressed with the header, before the limits give memory for the picture. Pillow would take 250 MB.
PngImagePlugin.MAX_TEXT_MEMORY = 4 << 20
_QUICKLY_OPENED = {"JPEG": jpeg.is_quickly_opened, "PNG": png.is_quickly_opened}  # of what is read in Python

# Of the process, like the memory that they guard; `main` sets them.
LIMITS = DecodingLimits(max_bytes=256 << 20, max_jpeg_scans=100)

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
_OVERSAMPLING = 4  # pixels per pixel of the result, along each side, that make it look the same as from all of them
_BAND_PIXELS = 1 << 20  # of a large picture, converted at a time
_PNG_BAND_PIXELS = 1 << 18  # decoded at a time; larger bands do not fit into the cache of the processor
_LEAST_BANDS = 12  # of a PNG picture; fewer would take more than the whole
# Bytes that decoders take per pixel, as measured (docs/reliability.md); those of others, per pixel of the file's mode.
_SAMPLE_BYTES = {"1": 1, "L": 1, "P": 1, "LA": 4, "I;16": 2, "I;16B": 2}
_BYTES_PER_PIXEL = {"BMP": 4}
_ROW_BYTES = 16  # Pillow has the address of each row, also in bands; a picture may be one column
_AVIF_BYTES, _AVIF_FRAME_BYTES = 7, 3  # beside the frames, and in frames of the named size
_HEIC_BYTES: dict[tuple[object, object], float] = {
    (420, 8): 4.75,
    (None, 8): 4.75,
    (420, 10): 8,
    (444, 8): 9,
}  # by subsampling and bits; without alpha
_MOST_HEIC_BYTES, _HEIC_ALPHA_BYTES = 17, 2
# And to become RGB: a picture as a whole, and a band of one, while the band before is still there.
_CONVERTED_BYTES, _BAND_BYTES, _DEEP_BAND_BYTES, _RGB_BAND_BYTES = 9, 13, 17, 8
_BAND_BYTES_PER_PIXEL = 40  # of a PNG picture: stored, compressed again, and decoded
_SMALLEST_DRAFT = 8  # the JPEG decoder can leave out this factor of the size
SAMPLING_STEP = 4  # pixels between those that `shows_nothing` looks at
LEAST_VARIANCE = 4.0  # of levels 0-255
NOISE = 1.5  # squared difference of neighbours over the variance: 2 in pure noise
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
    if data.startswith(png.SIGNATURE):
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
    source, longest = _open(data, name, max_pixels, min_side), max(width, height)
    with _loaded(source, data, longest, _spare_factors(source.size, longest)) as (image, turn):
        return _squash(image, (width, height), turn)


def decode_with_thumbnail(
    data: bytes, size: int, max_side: int, *, name: str = "", max_pixels: int = MAX_IMAGE_PIXELS
) -> tuple[np.ndarray, Image.Image]:
    """What `decode` and `thumbnail` return, decoded once: of a large picture, this is what takes the time."""
    source = _open(data, name, max_pixels, 1)
    scale = max(1, max(source.size) // max_side)
    factor = min(scale, *_spare_factors(source.size, size))  # the same for both sides, which keeps the proportions
    with _loaded(source, data, max(size, max_side), (factor, factor)) as (image, turn):
        return _squash(image, (size, size), turn), _fit(image, max_side, turn)


def size_of(data: bytes, *, name: str = "", max_pixels: int = MAX_IMAGE_PIXELS) -> tuple[int, int]:
    """Return the width and height in a picture's header, in pixels. Raises as `decode` does."""
    return _open(data, name, max_pixels, 1).size


def shows_nothing(picture: np.ndarray) -> bool:
    """True for a picture, `uint8 (h, w, 3)`, of one colour or of noise: all neighbouring pixels are alike, or none."""
    sample = picture[::SAMPLING_STEP, ::SAMPLING_STEP, 1].astype(np.float32)  # green carries most of the light
    levels, steps = sample.ravel(), (sample[:, 1:] - sample[:, :-1]).ravel()
    variance = levels @ levels / levels.size - (levels.sum() / levels.size) ** 2
    return bool(variance < LEAST_VARIANCE or steps @ steps / steps.size > NOISE * variance)


def thumbnail(data: bytes, max_side: int, *, name: str = "", max_pixels: int = MAX_IMAGE_PIXELS) -> Image.Image:
    """Decode a picture for display: upright, RGB, proportions kept, no edge above `max_side` pixels.

    Raises as `decode` does.
    """
    source = _open(data, name, max_pixels, 1)
    scale = max(1, max(source.size) // max_side)
    factor = scale // 2 if scale >= 4 else scale  # a thumbnail may be a little soft, and need not oversample by four
    with _loaded(source, data, max_side, (factor, factor)) as (image, turn):
        return _fit(image, max_side, turn)


def check_size(size: tuple[int, int], max_pixels: int, min_side: int) -> None:
    """Refuse a picture by the width and height in its header, in pixels."""
    width, height = size
    if width * height > max_pixels:
        raise TooLarge(f"Expected at most {max_pixels:,} pixels; received {width} x {height}.")
    if min(size) < min_side:
        raise TooSmall(f"Expected at least {min_side} x {min_side} pixels; received {width} x {height}.")


def _open(data: bytes, name: str, max_pixels: int, min_side: int) -> Image.Image:
    """Read the header and check it."""
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
        if kind in _QUICKLY_OPENED and not _QUICKLY_OPENED[kind](data):
            raise ValueError("too many parts, or no picture")
        image = Image.open(io.BytesIO(data), formats=(_PLUGINS.get(kind, kind.upper()),))
        coded = avif.frames(data) if kind == "AVIF" else []
    if image.tile and image.tile[0].codec_name == "bmp_rle":  # decoded in Python, where all other threads wait for it
        raise UnsupportedImage(f"{expected}; received a run-length encoded BMP file.")
    check_size(image.size, max_pixels, min_side)
    for frame in coded:
        check_size((frame.width, frame.height), max_pixels, 1)
    return image


@cache
def _register_heic() -> None:
    """Teach Pillow to read HEIC, once: the library takes memory that most services never need."""
    import pi_heif

    pi_heif.register_heif_opener(thumbnails=False)


def _spare_factors(size: tuple[int, int], wanted: int) -> tuple[int, int]:
    """By how much width and height can be divided before the picture is resized, without a difference that shows."""
    width, height = size
    return max(1, width // wanted // _OVERSAMPLING), max(1, height // wanted // _OVERSAMPLING)


@contextmanager
def _loaded(
    source: Image.Image, data: bytes, wanted: int, factors: tuple[int, int]
) -> Iterator[tuple[Image.Image, Image.Transpose | None]]:
    """A picture as RGB, and how it must be turned to be upright, while the limits have the memory for it.

    Args:
        wanted: longest edge that it will be resized to, in pixels.
        factors: by how much width and height may be divided before.
    """
    kind, image = sniff(data), source
    with _damage(data):
        if kind == "JPEG":
            image, factors = _draft(source, data, (wanted, wanted)), (1, 1)
        scaled = kind == "WebP" and factors != (1, 1) and webp.available() and not getattr(source, "is_animated", True)
        if in_bands := _in_bands(image, data, factors):
            source.info.setdefault("exif", png.exif(data) or b"")  # or Pillow would decode all to look for it
        cost = _band_cost(image, factors) if in_bands else _cost(image, data, factors, scaled=scaled)
    with LIMITS.hold(cost, f"{source.width} x {source.height} {kind}"), _damage(data):
        turn = _TURNS.get(source.getexif().get(_EXIF_ORIENTATION, 1))
        if scaled:
            yield _to_rgb(_scaled_webp(image, data, factors)), turn
        elif factors == (1, 1):
            yield _to_rgb(image), turn
        else:
            yield _reduced(image, data, factors, in_bands=in_bands), turn


def _in_bands(source: Image.Image, data: bytes, factors: tuple[int, int]) -> bool:
    """Whether a picture is decoded band by band, and never as a whole."""
    if sniff(data) != "PNG" or factors == (1, 1) or not png.has_bands(data):
        return False
    return source.height >= _LEAST_BANDS * _band_rows(source, factors, _PNG_BAND_PIXELS)


def _band_rows(source: Image.Image, factors: tuple[int, int], pixels: int) -> int:
    """How many rows have about so many pixels, as a multiple of what becomes one row."""
    return factors[1] * max(1, pixels // (source.width * factors[1]))


def _cost(source: Image.Image, data: bytes, factors: tuple[int, int], *, scaled: bool) -> int:
    """Most bytes of memory that loading takes, from what was measured for each decoder."""
    pixels, kind = source.width * source.height, sniff(data)
    if kind == "JPEG":
        loading = 4 * pixels + jpeg.coefficient_bytes(data)
    elif kind == "WebP":
        lossy = data[12:16] == b"VP8 "  # without transparency; decoded row by row
        loading = (1 if scaled and lossy else 7 if scaled else 20) * pixels
    elif kind == "HEIC":
        loading = int(_heic_bytes(source) * pixels)
    elif kind == "AVIF":  # scales its frames to the size that the file names
        coded = sum(frame.memory for frame in avif.frames(data))
        loading = _AVIF_BYTES * pixels + max(_AVIF_FRAME_BYTES * pixels, coded)
    else:
        loading = pixels * (_BYTES_PER_PIXEL.get(kind or "") or _SAMPLE_BYTES.get(source.mode, 4))
    return loading + _ROW_BYTES * source.height + _converting_cost(source, factors, whole=scaled)


def _heic_bytes(source: Image.Image) -> float:
    """Bytes per pixel."""
    form = source.info.get("chroma"), source.info.get("bit_depth")
    return _HEIC_BYTES.get(form, _MOST_HEIC_BYTES) + (_HEIC_ALPHA_BYTES if source.mode == "RGBA" else 0)


def _converting_cost(source: Image.Image, factors: tuple[int, int], *, whole: bool) -> int:
    """Bytes of memory to become RGB. A picture that a decoder has reduced is converted as a `whole`."""
    plain, pixels = source.mode == "RGB" and "transparency" not in source.info, source.width * source.height
    if factors == (1, 1):
        return 0 if plain else _CONVERTED_BYTES * pixels
    reduced = 4 * pixels // (factors[0] * factors[1])
    if whole:
        return reduced
    per_pixel = _RGB_BAND_BYTES if plain else _DEEP_BAND_BYTES if source.mode.startswith("I") else _BAND_BYTES
    return reduced + per_pixel * source.width * min(source.height, _band_rows(source, factors, _BAND_PIXELS))


def _band_cost(source: Image.Image, factors: tuple[int, int]) -> int:
    band = source.width * (_band_rows(source, factors, _PNG_BAND_PIXELS) + 1)
    return _BAND_BYTES_PER_PIXEL * band + 4 * source.width * source.height // (factors[0] * factors[1])


def _scaled_webp(source: Image.Image, data: bytes, factors: tuple[int, int]) -> Image.Image:
    size = -(-source.width // factors[0]), -(-source.height // factors[1])
    return Image.fromarray(webp.decode_scaled(data, size, alpha=source.mode == "RGBA"))


def _reduced(source: Image.Image, data: bytes, factors: tuple[int, int], *, in_bands: bool) -> Image.Image:
    """Convert a large picture to RGB band by band: all at once, it would take up to three times its memory."""
    (across, down), rows = factors, _band_rows(source, factors, _PNG_BAND_PIXELS if in_bands else _BAND_PIXELS)
    reduced = Image.new("RGB", (-(-source.width // across), -(-source.height // down)))
    for number, band in enumerate(png.bands(data, rows) if in_bands else _bands(source, data, rows)):
        reduced.paste(_to_rgb(band).reduce(factors), (0, number * rows // down))
    return reduced


def _bands(source: Image.Image, data: bytes, rows: int) -> Iterator[Image.Image]:
    if sniff(data) == "HEIC":  # from the decoder's own memory: Pillow would copy it first
        import pi_heif

        file = pi_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=True)  # its pixels are freed with it
        pixels = np.asarray(file)
        yield from (Image.fromarray(pixels[top : top + rows]) for top in range(0, len(pixels), rows))
        return
    for top in range(0, source.height, rows):
        yield source.crop((0, top, source.width, min(top + rows, source.height)))


def _squash(image: Image.Image, size: tuple[int, int], turn: Image.Transpose | None) -> np.ndarray:
    image = image.resize(size[::-1] if turn in _SIDEWAYS else size, Image.Resampling.BILINEAR)
    return np.asarray(image if turn is None else image.transpose(turn))  # cheaper than turning the large picture


def _fit(image: Image.Image, max_side: int, turn: Image.Transpose | None) -> Image.Image:
    image.thumbnail((max_side, max_side), Image.Resampling.BILINEAR)
    return image if turn is None else image.transpose(turn)


def _draft(image: Image.Image, data: bytes, size: tuple[int, int]) -> Image.Image:
    """Let the decoder of a JPEG file leave out what `size` does not need."""
    if jpeg.count_scans(data) > LIMITS.max_jpeg_scans:
        raise InvalidImage(f"Expected a JPEG picture of at most {LIMITS.max_jpeg_scans} scans; received one of more.")
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
