"""The memory that pictures take while they are decoded, over all threads of the process."""

import ctypes
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from shoe_classifier.errors import TooLarge

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGE_BLOCK = 2 << 20  # most pictures are resized from less, and new memory for each would cost 0.5 ms
_KEPT = 2 * _LARGE_BLOCK  # free at the end of a heap; with the default of 128 KB, pictures of 1 MB would cost the same
_LARGE_PICTURE = 64 << 20  # it takes longer to decode than the heap to be searched


def give_back_large_blocks() -> None:
    """Let glibc return freed blocks of pictures to the system; each thread would keep those of its largest picture.

    Measured with 28 pictures of 49 megapixels on four threads: 14 MB more afterwards instead of 246 MB.
    """
    try:
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)
        library.mallopt(_M_TRIM_THRESHOLD, _KEPT)
    except (AttributeError, OSError, TypeError):  # another C library
        return


def _give_back_freed_memory() -> None:
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return


class DecodingLimits:
    """Lets pictures in, in the order they came, while there is memory for them.

    Attributes:
        max_bytes: of all pictures together. One that takes more by itself is refused.
        max_jpeg_scans: of one picture. Cameras write one and progressive encoders about ten; each costs a pass over the
            whole picture.
    """

    def __init__(self, max_bytes: int, max_jpeg_scans: int):
        self.max_bytes, self.max_jpeg_scans = max_bytes, max_jpeg_scans
        self._held = 0
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, count: int, what: str) -> Iterator[None]:
        """Hold `count` bytes, as soon as they are free. Raises `TooLarge`, which says `what` the picture is."""
        if count > self.max_bytes:
            raise TooLarge(
                f"Expected a picture that takes at most {self.max_bytes:,} bytes to decode; received {what}, "
                f"which takes {count:,}."
            )
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)  # in order, or small pictures would overtake a large one for ever
            self._changed.wait_for(lambda: self._waiting[0] is ticket and self._held + count <= self.max_bytes)
            self._waiting.popleft()
            self._held += count
            self._changed.notify_all()
        if count > _LARGE_PICTURE:
            _give_back_freed_memory()  # a retrain leaves 100 MB, which this picture may need
        try:
            yield
        finally:
            with self._changed:
                self._held -= count
                self._changed.notify_all()
