"""Pictures in a file instead of in memory, for trainings of more than fit."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np


class ImageFile:
    """Pictures `uint8 (n, size, size, 3)` in a file, used like an array.

    Indexing by an index, a slice or indices `int (m,)` reads these pictures; `select` chooses without reading.
    It can be sent to another process of this machine: only its path and rows are.
    """

    def __init__(self, path: Path, size: int, rows: np.ndarray):
        """`rows`, `int (n,)`, are the places of its pictures in the file."""
        self._path, self._size, self._rows = path, size, rows

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self), self._size, self._size, 3

    def __getitem__(self, keep: int | slice | np.ndarray) -> np.ndarray:
        rows = self._rows[keep]
        if not np.size(rows):  # an empty file cannot be mapped
            return np.zeros((0, *self.shape[1:]), np.uint8)
        # Mapped anew each time: what a mapping has touched would count as this process's memory until it is closed.
        stored = np.memmap(self._path, np.uint8, "r").reshape(-1, *self.shape[1:])
        return np.take(stored, rows, axis=0)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[i] for i in range(len(self)))

    def select(self, keep: np.ndarray) -> "ImageFile":
        """Choose pictures by indices `int (m,)`."""
        return ImageFile(self._path, self._size, self._rows[keep])

    def extended(self, images: np.ndarray) -> "ImageFile":
        """Write more pictures, `uint8 (m, size, size, 3)`, to the end of the file; returns these pictures and those."""
        with self._path.open("ab") as file:
            first = file.tell() // (self._size**2 * 3)
            file.write(np.ascontiguousarray(images).data)
        return ImageFile(self._path, self._size, np.concatenate([self._rows, first + np.arange(len(images))]))


Images = np.ndarray | ImageFile


class ImageCollector:
    """Takes pictures of one size, one by one, into a file or, without a path, into memory."""

    def __init__(self, size: int, path: Path | None = None):
        self._size, self._path = size, path
        self._file = path.open("wb") if path else None
        self._held: list[np.ndarray] = []
        self._count = 0

    def __enter__(self) -> "ImageCollector":
        return self

    def __exit__(self, *ignored: object) -> None:
        if self._file:
            self._file.close()

    def add(self, image: np.ndarray) -> None:
        """Take a picture, `uint8 (size, size, 3)`."""
        self._count += 1
        if self._file:
            self._file.write(np.ascontiguousarray(image).data)
        else:
            self._held.append(image)

    def collected(self) -> Images:
        """All pictures that were taken; when they go to a file, call it after that is closed."""
        if self._path:
            return ImageFile(self._path, self._size, np.arange(self._count))
        return np.stack(self._held) if self._held else np.zeros((0, self._size, self._size, 3), np.uint8)
