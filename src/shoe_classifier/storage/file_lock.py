"""A lock between the processes of one machine."""

import fcntl
import os
import threading
from pathlib import Path


class FileLock:
    """A lock on a file, which the system releases when its process ends, even by a kill."""

    def __init__(self, path: Path):
        self._path = path
        self._handle: int | None = None
        self._own = threading.Lock()

    def acquire(self) -> bool:
        """Take the lock; return False when it is already held, by this object or another process."""
        with self._own:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                return False
            self._handle = handle
            return True

    def release(self) -> None:
        """Release the lock; does nothing when this object does not hold it."""
        with self._own:
            if self._handle is not None:
                os.close(self._handle)
                self._handle = None
