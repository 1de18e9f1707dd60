import io
import time

import pytest
from PIL import Image

from helpers.pictures import draw
from shoe_classifier.errors import InvalidImage
from shoe_classifier.ml.jpeg import coefficient_bytes, count_scans, is_quickly_opened, keep_dc_scans
from shoe_classifier.ml.preprocessing import thumbnail


def test_a_baseline_file_has_one_scan() -> None:
    assert count_scans(draw("Boot", 1)) == 1


def test_scans_of_a_progressive_file_are_counted() -> None:
    assert 5 < count_scans(draw("Boot", 1, progressive=True)) < 20


def test_restart_markers_and_stuffed_bytes_end_no_scan() -> None:
    assert count_scans(draw("Boot", 1, (200, 200), restart_marker_blocks=3, quality=100)) == 1


def test_a_sequential_file_of_more_scans_is_refused_by_the_decoder_after_the_first() -> None:
    data = draw("Boot", 1)
    bomb = data[:-2] + data[data.rindex(b"\xff\xda") : -2] * 200 + data[-2:]
    assert count_scans(bomb) == 1
    with pytest.raises(OSError, match="broken"):
        Image.open(io.BytesIO(bomb)).load()


def test_without_ac_scans_an_eighth_of_the_size_stays_the_same() -> None:
    whole = draw("Boot", 1, (640, 480), progressive=True)
    reduced = keep_dc_scans(whole)
    assert len(reduced) < len(whole) / 2
    assert count_scans(reduced) < count_scans(whole)
    pictures = [Image.open(io.BytesIO(data)) for data in (whole, reduced)]
    for picture in pictures:
        picture.draft("RGB", (80, 60))
        assert picture.size == (80, 60)
    first, second = (list(picture.convert("L").get_flattened_data()) for picture in pictures)
    assert sum(abs(a - b) for a, b in zip(first, second, strict=True)) / len(first) < 3


@pytest.mark.parametrize("step", [1, 7])
def test_damaged_files_end_the_reading(step: int) -> None:
    data = draw("Boot", 1, progressive=True)
    for end in range(0, len(data), step):
        assert count_scans(data[:end]) <= count_scans(data)
        keep_dc_scans(data[:end])


@pytest.mark.parametrize("junk", [b"\xff", b"\xff\0", b"\xff\0\xff", b"\xff\xd0", b"\xff\xd3\0\xff"])
def test_what_decoders_skip_before_a_segment_changes_nothing(junk: bytes) -> None:
    """Whoever stops there takes a progressive file for one that needs no memory for its coefficients."""
    whole = draw("Boot", 1, (640, 480), progressive=True)
    quantisation = whole.index(b"\xff\xdb")
    changed = whole[:quantisation] + junk + whole[quantisation:]
    assert (
        Image.open(io.BytesIO(changed)).convert("L").tobytes() == Image.open(io.BytesIO(whole)).convert("L").tobytes()
    )
    assert coefficient_bytes(changed) == coefficient_bytes(whole)
    assert count_scans(changed) == count_scans(whole)
    assert len(keep_dc_scans(changed)) == len(keep_dc_scans(whole)) + len(junk)


def test_restart_markers_hide_no_headers() -> None:
    """Whoever reads a length after one skips the real headers, and finds here that there is one scan."""
    whole = draw("Boot", 1, progressive=True)
    frame = whole.index(b"\xff\xc2")
    length = 2 + len(whole) - frame
    sequential = b"\xff\xc0\0\x0b\x08\0\x10\0\x10\x01\x01\x11\0\xff\xda\0\x08\x01\x01\0\0\x3f\0"
    changed = whole[:frame] + b"\xff\xd0" + length.to_bytes(2) + whole[frame:] + sequential
    assert Image.open(io.BytesIO(changed)).info["progressive"]
    assert coefficient_bytes(changed) == coefficient_bytes(whole)
    assert count_scans(changed) > count_scans(whole)


def test_many_scans_are_found_in_one_pass() -> None:
    """Each search for one kind of marker to the end of the file took 17 seconds for 12 MB."""
    whole = draw("Boot", 1, progressive=True)
    bomb = whole[:-2] + b"\xff\xda\0\x02" * 85 + b"\xff\0ab" * 1_000_000
    started = time.process_time()
    keep_dc_scans(bomb)
    assert time.process_time() - started < 1


def test_only_files_of_many_scans_need_their_coefficients() -> None:
    assert coefficient_bytes(draw("Boot", 1, (640, 480))) == 0
    assert coefficient_bytes(draw("Boot", 1, (640, 480), progressive=True, subsampling=0)) == 2 * 640 * 480 * 3
    assert coefficient_bytes(draw("Boot", 1, (640, 480), progressive=True, subsampling=2)) == 2 * 640 * 480 * 1.5
    assert coefficient_bytes(b"\xff\xd8\xff") == 0


def test_usual_files_are_quickly_opened() -> None:
    """With the largest colour profile that a file can have, in 255 segments, and some fill bytes."""
    data = draw("Boot", 1, icc_profile=bytes(255 * 65_519))
    assert is_quickly_opened(data)
    assert is_quickly_opened(data[:2] + b"\xff" * 1000 + data[2:])
    assert not is_quickly_opened(data[: data.index(b"\xff\xda")])


@pytest.mark.parametrize("unit", [b"\xff\xe0\0\2", b"\xff\xfe\0\3!", b"\xff\xd0", b"\xff", b"\xff\0", b"\0"])
def test_files_that_pillow_would_read_for_seconds_are_refused_at_once(unit: bytes) -> None:
    data = draw("Boot", 1)
    bomb = data[:4] + b"\0\2" + unit * (200_000 // len(unit)) + data[2:]
    assert not is_quickly_opened(bomb)
    with pytest.raises(InvalidImage, match="does not decode"):
        thumbnail(bomb, 100)


def test_segments_after_the_first_scan_are_bounded_too() -> None:
    data = draw("Boot", 1, (640, 480), progressive=True)
    second = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    bomb = data[:second] + b"\xff\xe0\0\2" * 500_000 + data[second:]
    assert is_quickly_opened(bomb)
    assert len(keep_dc_scans(bomb)) < len(data) + 4000
