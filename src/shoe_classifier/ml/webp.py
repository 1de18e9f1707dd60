"""Still WebP pictures decoded at a reduced size, by the library that comes with Pillow.

Pillow itself opens every WebP file as an animation: 49 megapixels take 750 to 990 MB, and at least 200 MB here at most.
"""

import ctypes
from functools import cache

import numpy as np

_ABI_VERSION = 0x0200  # of decode.h; only the upper byte must agree
_MODE_RGB, _MODE_RGBA = 0, 1


class _Features(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int) for name in ("width", "height", "has_alpha", "has_animation", "format")),
        ("pad", ctypes.c_uint32 * 5),
    )


class _RgbaBuffer(ctypes.Structure):
    _fields_ = (("rgba", ctypes.c_void_p), ("stride", ctypes.c_int), ("size", ctypes.c_size_t))


class _YuvaBuffer(ctypes.Structure):  # not used, but it sets the size of the union
    _fields_ = (
        ("planes", ctypes.c_void_p * 4),
        ("strides", ctypes.c_int * 4),
        ("sizes", ctypes.c_size_t * 4),
    )


class _Pixels(ctypes.Union):
    _fields_ = (("rgba", _RgbaBuffer), ("yuva", _YuvaBuffer))


class _Buffer(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int) for name in ("colorspace", "width", "height", "is_external_memory")),
        ("pixels", _Pixels),
        ("pad", ctypes.c_uint32 * 4),
        ("private_memory", ctypes.c_void_p),
    )


class _Options(ctypes.Structure):
    _fields_ = (
        *(
            (name, ctypes.c_int)
            for name in (
                *("bypass_filtering", "no_fancy_upsampling"),
                *("use_cropping", "crop_left", "crop_top", "crop_width", "crop_height"),
                *("use_scaling", "scaled_width", "scaled_height"),
                *("use_threads", "dithering_strength", "flip", "alpha_dithering_strength"),
            )
        ),
        ("pad", ctypes.c_uint32 * 5),
    )


class _Config(ctypes.Structure):  # WebPDecoderConfig, whose layout libwebp keeps within a version of its interface
    _fields_ = (("input", _Features), ("output", _Buffer), ("options", _Options))


def decode_scaled(data: bytes, size: tuple[int, int], *, alpha: bool) -> np.ndarray:
    """Decode a still picture at another size than its own.

    Args:
        size: width and height of the result in pixels, at most those of the picture.
        alpha: whether transparency is wanted.

    Returns:
        `uint8 (height, width, 3)`, RGB, or `(height, width, 4)`, RGBA, 0-255.

    Raises:
        ValueError: damaged, or an animation.
    """
    library, (width, height) = _library(), size
    assert library is not None, "see `available`"
    picture = np.empty((height, width, 4 if alpha else 3), np.uint8)
    config = _Config()
    if not library.WebPInitDecoderConfigInternal(ctypes.byref(config), _ABI_VERSION):
        raise ValueError("another version of libwebp")
    config.options.use_scaling, config.options.scaled_width, config.options.scaled_height = 1, width, height
    config.output.colorspace = _MODE_RGBA if alpha else _MODE_RGB
    config.output.is_external_memory = 1
    config.output.pixels.rgba = _RgbaBuffer(picture.ctypes.data, picture.strides[0], picture.nbytes)
    status = library.WebPDecode(data, ctypes.c_size_t(len(data)), ctypes.byref(config))
    if status:
        raise ValueError(f"libwebp's status {status}")
    return picture


def available() -> bool:
    """Whether `decode_scaled` works: a Pillow built another way may hide the library's functions."""
    return _library() is not None


@cache
def _library() -> ctypes.CDLL | None:
    try:
        from PIL import _webp  # its own library is found through it, whatever its file is called

        library = ctypes.CDLL(_webp.__file__)
        _ = library.WebPInitDecoderConfigInternal, library.WebPDecode
    except (ImportError, OSError, AttributeError):
        return None
    return library
