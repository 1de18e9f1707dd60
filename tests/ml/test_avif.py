"""What the header reader sees of AV1 frames is what the decoder allocates, also in files made to differ."""

import struct
from contextlib import suppress
from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers.pictures import encode
from shoe_classifier.errors import AppError, InvalidImage, TooLarge
from shoe_classifier.ml import avif
from shoe_classifier.ml.preprocessing import LIMITS, decode, size_of

SIDE = 256  # eight bits, so that writing a frame's own size moves what follows by whole bytes
PICTURE = encode(Image.new("RGB", (SIDE, SIDE), (200, 30, 30)), "AVIF", speed=10)
TRANSPARENT = encode(Image.new("RGBA", (33, 20), (9, 90, 30, 100)), "AVIF", speed=10)
ANIMATION = encode(
    Image.new("RGB", (SIDE, SIDE), "red"),
    "AVIF",
    speed=10,
    save_all=True,
    append_images=[Image.new("RGB", (SIDE, SIDE), "blue")],
).replace(b"avis", b"avif")  # so that its item counts, whose sequence header is that of a video


def named(data: bytes, width: int, height: int) -> bytes:
    """The file with another size of the picture."""
    place = data.index(b"ispe") + 8
    return data[:place] + struct.pack(">II", width, height) + data[place + 8 :]


def box(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(payload), kind) + payload


def rebuilt(data: bytes, version: int = 0, *, is_stored: bool = False, parts: int = 1, coded: bytes = b"") -> bytes:
    """A file of one item whose place is written another way; `coded` are other units than those of the file."""
    meta = memoryview(data)[data.index(b"meta") - 4 :]
    inner = [(kind, bytes(payload)) for kind, payload in avif._boxes(avif._first(avif._boxes(meta), b"meta")[4:])]
    coded = coded or bytes(next(avif._coded_items(memoryview(data))))
    start = [data[: data.index(b"meta") - 4]]

    def written(offset: int) -> bytes:
        cuts = [len(coded) * part // parts for part in range(parts + 1)]
        extents = [struct.pack(">II", offset + a, b - a) for a, b in pairwise(cuts)]
        wide = "I" if version > 1 else "H"
        item = struct.pack(f">{wide}{wide}", 1, 1) + (struct.pack(">H", is_stored) if version else b"")
        place = struct.pack(">IH", version << 24, 0x4400) + item + struct.pack(">HH", 0, parts) + b"".join(extents)
        boxes = [box(kind, place if kind == b"iloc" else payload) for kind, payload in inner]
        boxes += [box(b"idat", coded)] if is_stored else []
        return b"".join([*start, box(b"meta", bytes(4) + b"".join(boxes))])

    if is_stored:
        return written(0)
    return written(len(written(0)) + 8) + box(b"mdat", coded)


def size_bits(width: int, height: int) -> str:
    return f"{width - 1:08b}{height - 1:08b}"


def with_own_size(units: bytes) -> bytes:
    """The units with a sequence that says 20 x 20, and a frame that says its own size."""
    changed = bytearray()
    for kind, payload in avif._units(memoryview(units)):
        bits = f"{int.from_bytes(payload):0{8 * len(payload)}b}"
        if kind == 1:
            bits = bits.replace("01110111" + size_bits(SIDE, SIDE), "01110111" + size_bits(20, 20), 1)
        elif kind in (3, 6):
            flag = (
                6 if bits[5] == "0" else 7
            )  # after show_existing_frame, frame_type, show_frame, and two or three tools
            order = 7  # bits of order_hint
            bits = (
                bits[:flag] + "1" + bits[flag + 1 : flag + 1 + order] + size_bits(SIDE, SIDE) + bits[flag + 1 + order :]
            )
        data = int(bits or "0", 2).to_bytes(len(bits) // 8)
        changed += bytes([kind << 3 | 2, len(data) & 127 | 128, len(data) >> 7]) + data
    return bytes(changed)


@pytest.mark.parametrize(
    ("mode", "size"), list(product(["RGB", "RGBA", "L", "LA", "P"], [(1, 1), (33, 20), (131, 64)]))
)
def test_frames_have_the_size_that_the_file_names(mode: str, size: tuple[int, int]) -> None:
    for quality, subsampling in [(0, "4:2:0"), (60, "4:2:2"), (100, "4:4:4"), (60, "4:0:0")]:
        data = encode(Image.new(mode, size), "AVIF", quality=quality, subsampling=subsampling, speed=10)
        assert [frame[:2] for frame in avif.frames(data)] == [size] * (2 if "A" in mode else 1)
        decode(data, 8)


@pytest.mark.parametrize(("subsampling", "bytes_per_pixel"), [("4:0:0", 1), ("4:2:0", 1.5), ("4:4:4", 3)])
def test_memory_of_frames(subsampling: str, bytes_per_pixel: float) -> None:
    data = encode(Image.new("RGB", (SIDE, SIDE)), "AVIF", subsampling=subsampling, speed=10)
    assert avif.frames(data)[0].memory == (bytes_per_pixel + 0.5) * SIDE**2


def test_grain_is_added_to_a_second_frame() -> None:
    data = encode(Image.new("RGB", (SIDE, SIDE)), "AVIF", speed=10, advanced={"film-grain-test": "1"})
    assert avif.frames(data)[0].memory == (2 * 1.5 + 0.5) * SIDE**2


@pytest.mark.parametrize("data", [PICTURE, TRANSPARENT, ANIMATION])
def test_pictures_are_charged_by_their_frames(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    small = named(data, 16, 16)
    assert size_of(small) == (16, 16)
    decode(small, 8)
    monkeypatch.setattr(LIMITS, "max_bytes", 14 * 16 * 16)
    with pytest.raises(TooLarge, match="16 x 16 AVIF, which takes"):
        decode(small, 8)


def test_frames_keep_to_the_limit_of_pixels() -> None:
    decode(named(PICTURE, 16, 16), 8, max_pixels=SIDE**2)
    with pytest.raises(TooLarge, match="received 256 x 256"):
        decode(named(PICTURE, 16, 16), 8, max_pixels=SIDE**2 - 1)


def test_a_frame_larger_than_its_sequence_says_is_seen() -> None:
    units = next(avif._coded_items(memoryview(ANIMATION)))
    data = named(rebuilt(ANIMATION, coded=with_own_size(bytes(units))), 20, 20)
    assert decode(data, 8)[0, 0, 0] > 200, "the decoder takes it"
    with pytest.raises(TooLarge, match="received 256 x 256"):
        decode(data, 8, max_pixels=1000)


@pytest.mark.parametrize(("version", "is_stored"), [(0, False), (1, False), (1, True), (2, False), (2, True)])
@pytest.mark.parametrize("parts", [1, 3])
def test_items_are_found_wherever_they_are(version: int, is_stored: bool, parts: int) -> None:
    data = rebuilt(PICTURE, version, is_stored=is_stored, parts=parts)
    decode(data, 8)
    assert avif.frames(data) == avif.frames(PICTURE)


def test_timing_and_operating_points_come_before_the_size() -> None:
    timing = f"1{1:032b}{25:032b}1001011{1:05b}{1:032b}{3:05b}{4:05b}"  # equal intervals, and how decoders buffer
    points = f"1{1:05b}" + f"{0:012b}{8:05b}01101011{1:04b}" + f"{0:012b}{1:05b}00"
    bits = f"000{0:02b}{timing}{points}{7:04b}{7:04b}{size_bits(200, 100)}{0:040b}"
    payload = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8))
    sequence = avif._Sequence(avif._Bits(memoryview(payload)))
    frame = sequence.frame(avif._Bits(memoryview(bytes(4))))
    assert frame
    assert frame[:2] == (200, 100)


@pytest.mark.parametrize("kind", [b"iloc", b"iinf", b"av01", b"meta"])
def test_a_file_without_frames_is_damaged(kind: bytes) -> None:
    with pytest.raises(InvalidImage, match="complete AVIF"):
        decode(PICTURE.replace(kind, b"free"), 8)


def test_the_configuration_is_no_frame() -> None:
    """It may differ from the item, which is what decoders read."""
    place = PICTURE.index(b"mdat") + 4
    with pytest.raises(ValueError, match="no frames"):
        avif.frames(PICTURE[:place] + bytes(len(PICTURE) - place))


def test_a_frame_without_a_sequence_header_is_damaged() -> None:
    units = next(avif._coded_items(memoryview(PICTURE)))
    frame = next(bytes(payload) for kind, payload in avif._units(units) if kind == 6)
    with pytest.raises(ValueError, match="without a sequence header"):
        avif.frames(rebuilt(PICTURE, coded=b"\x30" + frame))


def test_a_file_of_countless_units_is_refused_at_once() -> None:
    data = rebuilt(PICTURE, coded=b"\x12\0" * 1_000_000)
    with pytest.raises(ValueError, match="more units"):
        avif.frames(data)


@settings(max_examples=300, deadline=None, database=None)
@given(st.sampled_from([PICTURE, TRANSPARENT, ANIMATION]), st.data())
def test_damaged_files_raise_our_own_errors(data: bytes, draw: st.DataObject) -> None:
    damaged = bytearray(data[: draw.draw(st.integers(20, len(data)))] if draw.draw(st.booleans()) else data)
    for place, byte in draw.draw(st.lists(st.tuples(st.integers(12, 700), st.integers(0, 255)), max_size=4)):
        damaged[place % len(damaged)] = byte
    with suppress(AppError):
        decode(bytes(damaged), 8, max_pixels=1_000_000)
    with suppress(ValueError, IndexError, struct.error):
        avif.frames(bytes(damaged))
