"""Pictures of Supabase that were used here lately, as files, within a bound."""

import contextlib
import os
import shutil
import threading
from pathlib import Path

_FULL = 0.9


class PictureCache:
    """Files under their `image_path`; the longest unused go first when they are too many bytes."""

    def __init__(self, folder: Path, max_bytes: int):
        self._folder = folder
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._bytes: int | None = None  # counted when the first file is kept

    def get(self, image_path: str) -> bytes | None:
        """A picture, if it is here."""
        path = self._folder / image_path
        try:
            data = path.read_bytes()
            os.utime(path)
        except FileNotFoundError:  # another thread, or another worker, may just have removed it
            return None
        return data

    def find(self, sha256: str) -> str | None:
        """The `image_path` of a picture by its hash, if it is here."""
        found = next((self._folder / "images" / sha256[:2]).glob(f"{sha256}.*"), None)
        return str(found.relative_to(self._folder)) if found else None

    def keep(self, image_path: str, data: bytes | Path) -> None:
        """Keep a picture, from memory or by moving a file. A full disk is no reason to fail: it is only a cache."""
        path = self._folder / image_path
        part = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(data, Path):
                shutil.move(data, part)
            else:
                part.write_bytes(data)
            part.replace(path)
            self._trim(path.stat().st_size)
        part.unlink(missing_ok=True)

    def forget(self, image_path: str) -> None:
        """Delete a picture here."""
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
                if self._bytes <= self._max_bytes * _FULL:  # some room, or each new picture would count all of them
                    break
                file.unlink(missing_ok=True)
                self._bytes -= size
