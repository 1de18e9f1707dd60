"""The scans of a JPEG file (ITU-T T.81), found without decoding them."""

from collections.abc import Iterator

MAX_SCANS = 100  # cameras write one and progressive encoders about ten; each scan costs a pass over the whole picture

_SOS, _EOI = b"\xff\xda", b"\xff\xd9"
_BETWEEN_SCANS = (_SOS, _EOI, b"\xff\xc4", b"\xff\xdb", b"\xff\xdd")  # and tables: Huffman, quantisation, restarts


def count_scans(data: bytes) -> int:
    """Most scans that a JPEG file can have; those of an embedded thumbnail count, too.

    In compressed data 0xFF is followed by zero or a restart number, so searching for the marker finds no other bytes.
    """
    return data.count(_SOS)


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
