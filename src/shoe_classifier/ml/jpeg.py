"""The scans of a JPEG file (ITU-T T.81), found without decoding them."""

from collections.abc import Iterator

_SOS, _EOI = b"\xff\xda", b"\xff\xd9"
_FRAMES = {0xC0, 0xC1, 0xC2, 0xC5, 0xC6, 0xC9, 0xCA, 0xCD, 0xCE}  # their headers: sequential, progressive, arithmetic
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
_BETWEEN_SCANS = (_SOS, _EOI, b"\xff\xc4", b"\xff\xdb", b"\xff\xdd")  # and tables: Huffman, quantisation, restarts


def count_scans(data: bytes) -> int:
    """Most scans that a JPEG file can have; those of an embedded thumbnail count, too.

    In compressed data 0xFF is followed by zero or a restart number, so searching for the marker finds no other bytes.
    """
    return data.count(_SOS)


def coefficient_bytes(data: bytes) -> int:
    """Memory for the coefficients that a decoder must keep until the last scan, whatever size is wanted.

    None for a sequential file with one scan for all components, as cameras write them.
    """
    frame = next((start for start, _ in _segments(data) if data[start + 1] in _FRAMES), None)
    scan = next((start for start, _ in _segments(data) if data[start : start + 2] == _SOS), None)
    if frame is None or scan is None or len(data) < scan + 5:
        return 0
    height, width = int.from_bytes(data[frame + 5 : frame + 7]), int.from_bytes(data[frame + 7 : frame + 9])
    components = data[frame + 9]
    if data[frame + 1] not in _PROGRESSIVE and data[scan + 4] == components:
        return 0
    factors = [(byte >> 4, byte & 15) for byte in data[frame + 11 : frame + 10 + 3 * components : 3]]
    most = max((h for h, _ in factors), default=1) * max((v for _, v in factors), default=1)
    return 2 * width * height * sum(h * v for h, v in factors) // max(1, most)


def keep_dc_scans(data: bytes) -> bytes:
    """Leave the scans of AC coefficients out of a progressive JPEG file.

    At an eighth of its size a picture is made of its DC coefficients alone (annex G), so it decodes in a fraction of
    the time, and only subsampled colours differ by a shade.
    """
    kept = [data[start:end] for start, end in _segments(data) if data[start : start + 2] != _SOS or _is_dc(data, start)]
    return data[:2] + b"".join(kept) + _EOI


def _is_dc(data: bytes, start: int) -> bool:
    """Whether the scan whose marker is at `start` begins with coefficient 0; True for a header that is cut off."""
    components = data[start + 4]
    first = start + 5 + 2 * components
    return first >= len(data) or data[first] == 0


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of each segment before the end of the picture; a scan's data belongs to its header."""
    position = 2
    while position + 4 < len(data) and data[position] == 0xFF and data[position : position + 2] != _EOI:
        if data[position + 1] == 0xFF:  # a fill byte
            position += 1
            continue
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4])
        if data[position : position + 2] == _SOS:
            found = [place for marker in _BETWEEN_SCANS if (place := data.find(marker, end)) >= 0]
            end = min(found, default=len(data))
        yield position, end
        position = end
