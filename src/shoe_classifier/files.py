"""Atomic files: written under a temporary name, flushed to the disk, and renamed."""

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield the path of a temporary file, which replaces `path` when the block ends without an error.

    Args:
        path: its folder must exist. The temporary file has the same extension, because Keras requires one.
        durable: flush the file and its name to the disk, so that both survive a power cut.
    """
    part = path.with_name(f".{path.stem}.{os.getpid()}.{threading.get_ident()}.part{path.suffix}")
    try:
        yield part
        if durable:
            fsync(part)
        part.replace(path)
        if durable:
            fsync(path.parent)
    finally:
        part.unlink(missing_ok=True)


def fsync(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
