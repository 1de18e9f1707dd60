"""The scans of a JPEG file (ITU-T T.81), found without decoding them."""

import re
from collections.abc import Iterator
from itertools import pairwise

_SOS, _EOI = b"\xff\xda", b"\xff\xd9"
_PROGRESSIVE = {b"\xff\xc2", b"\xff\xc6", b"\xff\xca", b"\xff\xce"}  # frames
_FRAMES = _PROGRESSIVE | {b"\xff\xc0", b"\xff\xc1", b"\xff\xc5", b"\xff\xc9", b"\xff\xcd"}
# Of a segment, or the end. Decoders skip what else stands before it: fill bytes, compressed data, and markers without a
# length, such as restarts. A reader that stopped there would find no frame, and take the picture for a cheap one.
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
_MOST_SEGMENTS = 1000  # colour profiles and previews, cut into pieces of 64 kB, take some hundred
_MOST_SKIPPED = 64 << 10  # bytes between segments


def is_quickly_opened(data: bytes) -> bool:
    """Whether a file has a scan, and few segments and little else before it.

    Pillow reads what comes before the first scan in Python, segment by segment and else byte by byte: up to eight
    seconds in a file of 15 MB that is made of this.
    """
    end, skipped = 2, 0
    for start in _segments(data):
        skipped += start - end
        if skipped > _MOST_SKIPPED:
            return False
        if data[start : start + 2] == _SOS:
            return True
        end = _end_of_header(data, start)
    return False


def count_scans(data: bytes) -> int:
    """Most scans of a JPEG file that a decoder reads; those of an embedded thumbnail count, too.

    In compressed data 0xFF is followed by zero or a restart number, so searching for the marker finds no other bytes.
    """
    return 1 if _has_one_scan(data, *_headers(data)) else data.count(_SOS)


def coefficient_bytes(data: bytes) -> int:
    """Memory for the coefficients that a decoder must keep until the last scan, whatever size is wanted.

    None for a sequential file with one scan for all components, as cameras write them.
    """
    frame, scan = _headers(data)
    if not frame or not scan or _has_one_scan(data, frame, scan):
        return 0
    height, width = int.from_bytes(data[frame + 5 : frame + 7]), int.from_bytes(data[frame + 7 : frame + 9])
    factors = [(byte >> 4, byte & 15) for byte in data[frame + 11 : frame + 10 + 3 * data[frame + 9] : 3]]
    most = max((h for h, _ in factors), default=1) * max((v for _, v in factors), default=1)
    return 2 * width * height * sum(h * v for h, v in factors) // max(1, most)


def keep_dc_scans(data: bytes) -> bytes:
    """Leave the scans of AC coefficients out of a progressive JPEG file.

    At an eighth of its size a picture is made of its DC coefficients alone (annex G), so it decodes in a fraction of
    the time, and only subsampled colours differ by a shade.
    """
    kept = [
        data[start:end]
        for start, end in pairwise(_segments(data))
        if data[start : start + 2] != _SOS or _is_dc(data, start)
    ]
    return data[:2] + b"".join(kept) + _EOI


def _is_dc(data: bytes, start: int) -> bool:
    """Whether the scan whose marker is at `start` begins with coefficient 0; True for a header that is cut off."""
    components = data[start + 4]
    first = start + 5 + 2 * components
    return first >= len(data) or data[first] == 0


def _headers(data: bytes) -> tuple[int, int]:
    """Where the headers of the frame and of the first scan begin; 0 for what is not there."""
    frame = 0
    for start in _segments(data):
        marker = data[start : start + 2]
        if marker == _SOS:
            return frame, start
        if marker in _FRAMES:
            frame = frame or start
    return frame, 0


def _has_one_scan(data: bytes, frame: int, scan: int) -> bool:
    """Whether the first scan, which begins at `scan`, is all that a decoder reads: it has all components, at once."""
    if not frame or not scan or data[frame : frame + 2] in _PROGRESSIVE:
        return False
    return data[scan + 4 : scan + 5] == data[frame + 9 : frame + 10]


def _segments(data: bytes) -> Iterator[int]:
    """Where each of the first segments begins, and at last where the picture ends; a scan's data belongs to its header.

    The end of a scan is only searched for when the next segment is asked for.
    """
    position = 2
    for _ in range(_MOST_SEGMENTS):
        found = _MARKER.search(data, position)
        if not found or found[0] == _EOI or found.start() + 4 >= len(data):
            yield found.start() if found else len(data)
            return
        yield found.start()
        position = _end_of_header(data, found.start())


def _end_of_header(data: bytes, start: int) -> int:
    """Where the segment whose marker is at `start` ends, without the data of a scan."""
    return start + 2 + int.from_bytes(data[start + 2 : start + 4])
