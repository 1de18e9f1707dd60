"""The AV1 frames in an AVIF file, found without decoding them: they may be larger than the picture that they make.

Boxes are those of ISO/IEC 14496-12 and 23008-12, units and their fields those of the AV1 specification, 5.3 to 5.9.
"""

import io
import struct
from collections.abc import Iterator
from typing import NamedTuple

_MOST = 4096  # boxes in a row, items, their parts, and units, so that a file cannot take long
_SEQUENCE_HEADER, _FRAME_HEADERS = 1, (3, 6, 7)  # kinds of units; a redundant header counts where there is no other
_LONGEST_HEADER = 512  # bytes of a unit that are looked at
_KEY_FRAME, _SWITCH_FRAME = 0, 3
_CHOSEN_BY_FRAME = 2
_SRGB = 1 << 16 | 13 << 8  # primaries, transfer and matrix; subsampling is not named then
_BLOCK = 128  # the decoder's planes are multiples of it
_BLOCK_BYTES = 0.5  # per pixel, as measured: what the decoder notes of blocks


class Frame(NamedTuple):
    """Width and height in pixels, and the memory that it is decoded into, in bytes."""

    width: int
    height: int
    memory: int


def frames(data: bytes) -> list[Frame]:
    """All frames in the coded items of a file: of a picture, its transparency, its tiles, its thumbnails.

    Raises:
        ValueError, IndexError, struct.error: damaged, or without frames.
    """
    found, units = [], 0
    for item in _coded_items(memoryview(data)):
        sequence = None
        for kind, payload in _units(item):
            if (units := units + 1) > _MOST:
                raise ValueError("more units than pictures have")
            if kind == _SEQUENCE_HEADER:
                sequence = _Sequence(_Bits(payload))
            elif kind in _FRAME_HEADERS:
                if sequence is None:  # decoders would take that of another item
                    raise ValueError("a frame without a sequence header")
                if frame := sequence.frame(_Bits(payload)):
                    found.append(frame)
    if not found:
        raise ValueError("no frames")
    return found


class _Bits:
    """Numbers from the start of a unit's payload, the highest bit first."""

    def __init__(self, payload: memoryview):
        start = payload[:_LONGEST_HEADER]
        self._value, self._left = int.from_bytes(start), 8 * len(start)

    def read(self, count: int = 1) -> int:
        self._left -= count
        if self._left < 0:
            raise ValueError("a header that is cut off")
        return self._value >> self._left & (1 << count) - 1

    def skip_variable(self) -> None:
        for zeros in range(32):
            if self.read():
                self.read(zeros)
                return
        raise ValueError("a number of more than 32 bits")


class _Sequence:
    """What a sequence header says of its frames."""

    def __init__(self, bits: _Bits):
        self._profile, _, self._is_still = bits.read(3), bits.read(), bits.read()
        self._time_bits = 0
        if self._is_still:
            bits.read(5)
        else:
            self._skip_operating_points(bits)
        self._size_bits = bits.read(4) + 1, bits.read(4) + 1
        self._width, self._height = (bits.read(count) + 1 for count in self._size_bits)
        self._id_bits = 0
        if not self._is_still and bits.read():
            self._id_bits = bits.read(4) + 2 + bits.read(3) + 1
        bits.read(3)
        self._screen_tools = self._integer_vectors = _CHOSEN_BY_FRAME
        if not self._is_still:
            self._read_tools(bits)
        bits.read(3)
        self._bytes_per_pixel = self._read_bytes_per_pixel(bits)

    def frame(self, bits: _Bits) -> Frame | None:
        """The frame of a header; None for one that only shows another frame."""
        width, height = self._width, self._height
        if not self._is_still:
            if bits.read():
                return None
            if self._has_own_size(bits):  # which may be above that of the sequence, and decoders do not mind
                width, height = (1 << count for count in self._size_bits)
        pixels = -(-width // _BLOCK) * -(-height // _BLOCK) * _BLOCK**2
        return Frame(width, height, int(pixels * self._bytes_per_pixel))

    def _skip_operating_points(self, bits: _Bits) -> None:
        delay_bits = 0
        if bits.read():
            bits.read(64)
            if has_equal_intervals := bits.read():
                bits.skip_variable()
            if bits.read():
                delay_bits = bits.read(5) + 1
                bits.read(37)
                time_bits = bits.read(5) + 1
                self._time_bits = 0 if has_equal_intervals else time_bits
        has_display_delays = bits.read()
        for _ in range(bits.read(5) + 1):
            bits.read(12)
            if bits.read(5) > 7:
                bits.read()
            if delay_bits and bits.read():
                bits.read(2 * delay_bits + 1)
            if has_display_delays and bits.read():
                bits.read(4)

    def _read_tools(self, bits: _Bits) -> None:
        bits.read(4)
        if has_order := bits.read():
            bits.read(2)
        self._screen_tools = _CHOSEN_BY_FRAME if bits.read() else bits.read()
        if self._screen_tools:
            self._integer_vectors = _CHOSEN_BY_FRAME if bits.read() else bits.read()
        if has_order:
            bits.read(3)

    def _read_bytes_per_pixel(self, bits: _Bits) -> float:
        """Of profile 2, at most."""
        is_deep = bits.read()
        has_twelve_bits = self._profile == 2 and is_deep and bits.read()
        is_grey = self._profile != 1 and bits.read()
        colours = bits.read(24) if bits.read() else 0
        if is_grey:
            bits.read()
        elif colours != _SRGB:
            is_halved = self._profile == 0 or bool(has_twelve_bits and bits.read() and bits.read())
            bits.read(1 + 2 * is_halved + 1)
        has_grain = bits.read()
        samples = 1 if is_grey else 1.5 if self._profile == 0 else 3
        return samples * (2 if is_deep else 1) * (2 if has_grain else 1) + _BLOCK_BYTES

    def _has_own_size(self, bits: _Bits) -> bool:
        kind, is_shown = bits.read(2), bits.read()
        bits.read(self._time_bits if is_shown else 1)
        if kind != _SWITCH_FRAME and not (kind == _KEY_FRAME and is_shown):
            bits.read()
        bits.read()
        tools = bits.read() if self._screen_tools == _CHOSEN_BY_FRAME else self._screen_tools
        if tools and self._integer_vectors == _CHOSEN_BY_FRAME:
            bits.read()
        bits.read(self._id_bits)
        return kind == _SWITCH_FRAME or bool(bits.read())


def _units(item: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Kind and payload of each unit, up to one that is cut off, where decoders stop as well."""
    position = 0
    while position < len(item):
        header = item[position]
        position += 2 if header & 4 else 1
        end = len(item)
        if header & 2:
            size, position = _variable_size(item, position)
            end = position + size
        if end > len(item):
            return
        yield header >> 3 & 15, item[position:end]
        position = end


def _variable_size(item: memoryview, position: int) -> tuple[int, int]:
    """A size of seven bits per byte, the lowest first, and where it ends."""
    size = 0
    for count, byte in enumerate(item[position : position + 8]):
        size |= (byte & 127) << 7 * count
        if byte < 128:
            return size, position + count + 1
    raise ValueError("a size that does not end")


def _coded_items(data: memoryview) -> Iterator[memoryview]:
    """The data of each item that is coded in AV1; copied only where it is in several parts."""
    meta = _first(_boxes(data), b"meta")[4:]
    coded, stored = _coded_ids(meta), _first(_boxes(meta), b"idat")
    copied = 0
    for item, is_stored, parts in _locations(_first(_boxes(meta), b"iloc")):
        if item not in coded:
            continue
        pieces = [(stored if is_stored else data)[offset : offset + length] for offset, length in parts]
        if len(pieces) > 1 and (copied := copied + sum(map(len, pieces))) > len(data):
            raise ValueError("items that share their parts")
        yield pieces[0] if len(pieces) == 1 else memoryview(b"".join(pieces))


def _coded_ids(meta: memoryview) -> set[int]:
    information = _first(_boxes(meta), b"iinf")
    entries = (box for kind, box in _boxes(information[8 if information[0] else 6 :]) if kind == b"infe")
    parsed = (struct.unpack_from(">I2x4s" if entry[0] > 2 else ">H2x4s", entry, 4) for entry in entries)
    return {item for item, kind in parsed if kind == b"av01"}


def _locations(box: memoryview) -> Iterator[tuple[int, bool, list[tuple[int, int]]]]:
    """Of each item its number, whether it is in the box for data, and where and how long its parts are, in bytes."""
    stream = io.BytesIO(box)
    version = _number(stream, 4) >> 24
    sizes = _number(stream, 2)
    offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_size = sizes & 15 if version else 0
    id_size, left = 4 if version > 1 else 2, _MOST
    for _ in range(_number(stream, id_size)):
        item = _number(stream, id_size)
        is_stored = bool(version and _number(stream, 2) & 15)
        _number(stream, 2)
        base, count = _number(stream, base_size), _number(stream, 2)
        if (left := left - 1 - count) < 0:
            raise ValueError("more items than pictures have")
        parts = []
        for _ in range(count):
            _number(stream, index_size)
            parts.append((base + _number(stream, offset_size), _number(stream, length_size)))
        yield item, is_stored, parts


def _number(stream: io.BytesIO, size: int) -> int:
    taken = stream.read(size)
    if len(taken) < size:
        raise ValueError("a box that is cut off")
    return int.from_bytes(taken)


def _first(boxes: Iterator[tuple[bytes, memoryview]], kind: bytes) -> memoryview:
    return next((payload for found, payload in boxes if found == kind), memoryview(b""))


def _boxes(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and payload of each box; a size of 1 stands for one of eight bytes, and 0 for all that is left."""
    position = 0
    for _ in range(_MOST):
        if position + 8 > len(data):
            return
        size, kind = struct.unpack_from(">I4s", data, position)
        start = position + 8
        if size == 1:
            (size,), start = struct.unpack_from(">Q", data, start), start + 8
        end = position + size if size else len(data)
        if end < start:
            raise ValueError("a box smaller than its header")
        yield kind, data[start:end]
        position = end
    raise ValueError("more boxes than pictures have")
