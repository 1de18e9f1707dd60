"""Large PNG pictures (ISO/IEC 15948), decoded band by band: as a whole, 49 megapixels take 190 MB."""

import io
import itertools
import struct
import zlib
from collections.abc import Iterator

from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = b"IHDR"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of each colour type
_MOST_CHUNKS = 20_000  # of 15 MB in pieces of 1 kB; usual are 8
_AT_ONCE = 64 << 10  # compressed bytes; what is left of them is copied for each band


def is_quickly_opened(data: bytes) -> bool:
    """Whether a file has so few chunks that Pillow, which reads them in Python, does so in a fraction of a second."""
    return next(itertools.islice(_chunks(data), _MOST_CHUNKS, None), None) is None


def has_bands(data: bytes) -> bool:
    """Whether `bands` can decode a file: eight bits per sample, and not interlaced, as nearly all are.

    Not one whose header is somewhere else, or that has several: Pillow goes by the last.
    """
    usual = data[12:16] == _HEADER and data[24:25] == b"\x08" and data[28:29] == b"\0" and data[25] in _CHANNELS
    return usual and data.count(_HEADER) == 1


def bands(data: bytes, rows: int) -> Iterator[Image.Image]:
    """Decode `rows` rows at a time, from the top; each band is what Pillow makes of such a picture.

    Raises:
        ValueError, zlib.error: damaged.
    """
    width, height = struct.unpack(">II", data[16:24])
    colours = b"".join(_chunk(kind, payload) for kind, payload in _chunks(data) if kind in (b"PLTE", b"tRNS"))
    stream = _Stream(data)
    above = bytes(1 + width * _CHANNELS[data[25]])  # a row may be stored as its difference to the one above
    for top in range(0, height, rows):
        count = min(rows, height - top)
        header = struct.pack(">II", width, count + 1) + data[24:29]
        band = _open(header, colours, above + stream.read(count * len(above)))
        above = b"\0" + band.crop((0, count, width, count + 1)).tobytes()
        yield band.crop((0, 1, width, count + 1))


def exif(data: bytes) -> bytes | None:
    """The EXIF of a file, which may come after the picture."""
    return next((bytes(payload) for kind, payload in _chunks(data) if kind == b"eXIf"), None)


class _Stream:
    """The rows as they are stored, each after the number of its filter."""

    def __init__(self, data: bytes):
        payloads = (payload for kind, payload in _chunks(data) if kind == b"IDAT")
        pieces: Iterator[bytes | memoryview] = (
            payload[start : start + _AT_ONCE] for payload in payloads for start in range(0, len(payload), _AT_ONCE)
        )
        self._pieces = itertools.chain(pieces, [b""])  # the last, for what the decompressor still holds
        self._decompressor = zlib.decompressobj()

    def read(self, count: int) -> bytearray:
        """The next bytes. Raises `ValueError` when there are fewer."""
        read = bytearray()
        while len(read) < count:
            piece = self._decompressor.unconsumed_tail or next(self._pieces, None)
            if piece is None:
                raise ValueError("fewer rows than the header says")
            read += self._decompressor.decompress(piece, count - len(read))
        return read


def _open(header: bytes, colours: bytes, stored: bytes | bytearray) -> Image.Image:
    """A picture of rows as they are stored."""
    pixels = _chunk(b"IDAT", zlib.compress(stored, 0))
    file = b"".join([SIGNATURE, _chunk(_HEADER, header), colours, pixels, _chunk(b"IEND", b"")])
    return Image.open(io.BytesIO(file), formats=("PNG",))


def _chunk(kind: bytes, payload: bytes | memoryview) -> bytes:
    return b"".join(
        [struct.pack(">I", len(payload)), kind, payload, struct.pack(">I", zlib.crc32(payload, zlib.crc32(kind)))]
    )


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and payload of each chunk; one that is cut short ends with the file."""
    position = len(SIGNATURE)
    while position + 8 <= len(data):
        start, kind = position + 8, data[position + 4 : position + 8]
        position = start + int.from_bytes(data[position : position + 4]) + 4
        yield kind, memoryview(data)[start : position - 4]
