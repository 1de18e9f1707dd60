"""The pictures of a single machine: files named by their SHA-256."""

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from shoe_classifier.errors import NotFound
from shoe_classifier.files import fsync, remove_leftovers, replacing, sha256_of
from shoe_classifier.types import picture_url

_SYNC_ALL_FROM = 8  # files; a single `sync` is then faster than flushing each


class PictureFiles:
    """Pictures below a folder, each under its `image_path`."""

    def __init__(self, folder: Path):
        self._folder = folder

    def add(self, image_path: str, data: bytes | Path) -> None:
        """Keep a picture, from memory or by moving a file, unless it is already there."""
        if os.path.exists(f"{self._folder}/{image_path}"):  # noqa: PTH110 - five times as fast, in each prediction
            return
        path = self._folder / image_path
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, durable=False) as part:
            if isinstance(data, Path):
                shutil.move(data, part)
            else:
                part.write_bytes(data)

    def remove_leftovers(self) -> None:
        """Remove what killed processes left of pictures that they were writing."""
        for folder in self._folder.glob("images/*/"):
            remove_leftovers(folder)

    def heal(self, image_path: str, file: Path) -> bool:
        """Keep a picture by moving its file, unless it is already there and whole. Return whether it was moved."""
        path = self._folder / image_path
        if path.exists() and sha256_of(path) == path.stem:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, durable=False) as part:
            shutil.move(file, part)
        return True

    def flush(self, image_paths: Sequence[str]) -> None:
        """Flush pictures and their names to the disk."""
        if len(image_paths) >= _SYNC_ALL_FROM:
            os.sync()
            return
        files = [self._folder / image_path for image_path in image_paths]
        for path in {*files, *(file.parent for file in files)}:
            fsync(path)

    def pictures(self, image_paths: Sequence[str]) -> Iterator[bytes]:
        """See `PictureStore`."""
        for image_path in image_paths:
            try:
                yield (self._folder / image_path).read_bytes()
            except FileNotFoundError:
                raise NotFound(f"Expected the path of a stored picture; received {image_path!r}.") from None

    def find_picture(self, sha256: str) -> tuple[str, bytes]:
        """See `PictureStore`."""
        for path in (self._folder / "images" / sha256[:2]).glob(f"{sha256}.*"):
            return str(path.relative_to(self._folder)), path.read_bytes()
        raise NotFound(f"Expected the SHA-256 of a stored picture; received {sha256[:80]!r}.")

    def urls(self, image_paths: Sequence[str]) -> dict[str, str]:
        """See `PictureStore`."""
        return {path: picture_url(path) for path in image_paths}

    def size(self, image_path: str) -> int:
        """Return the bytes of a picture; 0 if it is missing."""
        try:
            return (self._folder / image_path).stat().st_size
        except FileNotFoundError:
            return 0

    def delete(self, image_path: str) -> None:
        """Delete a picture, if it is there."""
        (self._folder / image_path).unlink(missing_ok=True)
