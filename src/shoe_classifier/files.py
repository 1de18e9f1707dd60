"""Atomic files: written under a temporary name, flushed to the disk, and renamed."""

import contextlib
import hashlib
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PART = re.compile(r"\..+?(?:\.(?P<writer>\d+)\.\d+)?\.part(?:\.\w+)?")  # what `replacing` writes, and did in 0.1.0
FOLDER_PREFIX = "upload-"  # of private folders in TEMP_UPLOADS_DIR: the next start removes what a killed process left
_LONGEST_SECONDS = 24 * 3600.0  # without a byte: ids of processes are used again, above all in containers


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


def remove_leftovers(folder: Path, name: re.Pattern[str] = _PART, *, unused: bool = False) -> None:
    """Remove the temporary files of processes that have ended; where the folder is read-only, they stay.

    Args:
        name: matches the names of such files; its group `writer` is the id of the process, if the name has one.
        unused: this process has not written there yet, so that files with its id are those of an earlier one.
    """
    for path in folder.glob(".*"):
        if match := name.fullmatch(path.name):
            with contextlib.suppress(OSError):
                old = time.time() - path.stat().st_mtime > _LONGEST_SECONDS
                if old or not _runs(match["writer"], itself=not unused):
                    path.unlink()


def _runs(process: str | None, *, itself: bool) -> bool:
    if process is None or int(process) == os.getpid():
        return process is not None and itself
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it belongs to another user
        return True
    return True


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
