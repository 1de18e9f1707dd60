"""Locks between the processes of one machine."""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
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
            if not _locked(handle):
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


@contextmanager
def folder_lock(folder: Path) -> Iterator[bool]:
    """Lock a folder, which is created if need be, during the block; yields False when it is already locked.

    It needs no right to write there.

    Raises:
        OSError: there is no such folder, it cannot be read, or its file system has no such locks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield _locked(handle)
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
