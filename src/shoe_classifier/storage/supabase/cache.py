"""A cache on this machine's disk for the pictures in Supabase."""

import contextlib
import os
import shutil
import threading
from pathlib import Path

from shoe_classifier.files import replacing

_TRIM_TO = 0.9  # of the bound, so that not every further picture walks through all files


class PictureCache:
    """Files under their `image_path`. Beyond `max_bytes`, the least recently used are deleted."""

    def __init__(self, folder: Path, max_bytes: int):
        self._folder = folder
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._bytes: int | None = None  # unknown until the first file is kept

    def get(self, image_path: str) -> bytes | None:
        """Return a picture, if it is cached."""
        path = self._folder / image_path
        try:
            data = path.read_bytes()
            os.utime(path)
        except FileNotFoundError:  # never cached, or just deleted by another worker
            return None
        return data

    def find(self, sha256: str) -> str | None:
        """Return the `image_path` of the picture with this hash, if it is cached."""
        found = next((self._folder / "images" / sha256[:2]).glob(f"{sha256}.*"), None)
        return str(found.relative_to(self._folder)) if found else None

    def paths(self) -> list[str]:
        """Return the `image_path` of each cached picture."""
        return [str(file.relative_to(self._folder)) for file in self._folder.glob("images/*/*.*")]

    def keep(self, image_path: str, data: bytes | Path) -> None:
        """Keep a picture, from memory or by moving a file. Does nothing when the disk is full: it is only a cache."""
        path = self._folder / image_path
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path, durable=False) as part:
                if isinstance(data, Path):
                    shutil.move(data, part)
                else:
                    part.write_bytes(data)
            self._trim(path.stat().st_size)

    def forget(self, image_path: str) -> None:
        """Delete a picture from the cache."""
        (self._folder / image_path).unlink(missing_ok=True)

    def _trim(self, added: int) -> None:
        with self._lock:
            if self._bytes is not None and self._bytes + added <= self._max_bytes:
                self._bytes += added
                return
            kept = []
            for file in self._folder.rglob("*"):
                with contextlib.suppress(FileNotFoundError):
                    if file.is_file():
                        status = file.stat()
                        kept.append((status.st_mtime, status.st_size, file))
            self._bytes = sum(size for _, size, _ in kept)
            for _, size, file in sorted(kept):
                if self._bytes <= self._max_bytes * _TRIM_TO:
                    break
                file.unlink(missing_ok=True)
                self._bytes -= size
