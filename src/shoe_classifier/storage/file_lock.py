"""A lock between the processes of one machine."""

import fcntl
import os
import threading
from pathlib import Path


class FileLock:
    """Held by one process until it releases it, or ends: a killed one leaves nothing behind."""

    def __init__(self, path: Path):
        self._path = path
        self._handle: int | None = None
        self._own = threading.Lock()

    def acquire(self) -> bool:
        """Take the lock; False when it is held already, here or elsewhere."""
        with self._own:
            if self._handle is not None:
                return False
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                return False
            self._handle = handle
            return True

    def release(self) -> None:
        """Let go of the lock."""
        with self._own:
            if self._handle is not None:
                os.close(self._handle)
                self._handle = None
