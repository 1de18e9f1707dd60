"""The training data as a stream: a ZIP of labelled folders with a manifest, the manifest alone, or COCO.

The rows are read once, at the start, into a temporary file; pictures are read one after the other while the stream is
sent. A picture that was deleted in between is left out, and named.
"""

import csv
import io
import pickle
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import PurePath
from typing import IO, Any, Literal

import orjson

from shoe_classifier.errors import AppError, NotFound
from shoe_classifier.ml.label_lists import OMITTED
from shoe_classifier.ml.preprocessing import size_of
from shoe_classifier.settings import Settings
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import TrainingPicture, utc_now

ExportFormat = Literal["zip", "csv", "coco"]

MANIFEST = "manifest.csv"
_COLUMNS = (
    "path", "label", "sha256", "split", "source", "uploaded_at", "id", "upload_id", "is_processed", OMITTED,
)  # fmt: skip
_DELETED = "deleted meanwhile"
_CHUNK = 64  # rows whose pictures are asked for at once
_BLOCK = 1 << 16  # bytes of a text that are sent at once
_UNSAFE = re.compile(r'[<>:"|?*]')  # in the name of a folder, on one system or another


class TrainingExport:
    """Streams all training pictures, in memory that does not grow with their size."""

    def __init__(self, settings: Settings, store: Store):
        self._folder = settings.temp_uploads_dir
        self._store = store

    def open(self, kind: ExportFormat) -> Iterator[bytes]:
        """Take down all rows as they are now, and return the stream of the export.

        Raises:
            StoreUnavailable: a shared store does not answer. Later, the stream ends with it, before its end.
        """
        rows = self._snapshot()
        return {"zip": self._zip, "csv": self._csv, "coco": self._coco}[kind](rows)

    def _snapshot(self) -> IO[bytes]:
        """Return a temporary file of rows, one in each line."""
        file = self._temporary()
        file.writelines(orjson.dumps(row) + b"\n" for row in self._store.training_rows())
        file.seek(0)
        return file

    def _temporary(self) -> IO[bytes]:
        self._folder.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=self._folder)

    def _zip(self, rows: IO[bytes]) -> Iterator[bytes]:
        window = _Window()
        with (
            rows,
            self._temporary() as manifest,
            self._temporary() as entries,
            self._temporary() as end,
            zipfile.ZipFile(window, "w") as archive,
        ):
            archive.filelist = _Entries(entries)  # type: ignore[assignment] # a list of its own takes 1 KB for each
            with _table(manifest) as table:
                for row, data in self._with_pictures(rows):
                    table.writerow(_line(row, "" if data else _DELETED))
                    if data:
                        archive.writestr(_path(row), data)  # not compressed: pictures are
                        archive.NameToInfo.clear()  # which only tells names that come twice
                        yield window.take()
            manifest.seek(0)
            window.move_to(end)
            with archive.open(_deflated(MANIFEST), "w", force_zip64=True) as entry:
                shutil.copyfileobj(manifest, entry)
            archive.close()
            yield from _blocks(end)

    def _csv(self, rows: IO[bytes]) -> Iterator[bytes]:
        with rows, self._temporary() as manifest:
            with _table(manifest) as table:
                table.writerows(_line(row, "") for row in _decoded(rows))
            yield from _blocks(manifest)

    def _coco(self, rows: IO[bytes]) -> Iterator[bytes]:
        """The pictures are images, the labels categories; an annotation says that a whole image has a category."""
        categories: dict[str, int] = {}
        omitted: list[dict[str, str]] = []
        with rows, self._temporary() as annotations:
            yield b'{"info":' + orjson.dumps({"date_created": utc_now()}) + b',"images":['
            number = 0
            for row, data in self._with_pictures(rows):
                size = _size(data) if data else None
                if size is None:
                    omitted.append({"file_name": _path(row), "id": row.id})
                    continue
                comma, number = b"," if number else b"", number + 1
                category = categories.setdefault(row.shoe_class, len(categories) + 1)
                annotations.write(comma + orjson.dumps(_annotation(number, category, size)))
                yield comma + orjson.dumps(_image(number, row, size))
            yield b'],"annotations":['
            yield from _blocks(annotations)
            listed = [{"id": category, "name": label} for label, category in categories.items()]
            yield b'],"categories":' + orjson.dumps(listed) + b',"omitted":' + orjson.dumps(omitted) + b"}"

    def _with_pictures(self, rows: IO[bytes]) -> Iterator[tuple[TrainingPicture, bytes | None]]:
        decoded = _decoded(rows)
        while chunk := list(islice(decoded, _CHUNK)):
            yield from self._files_of(chunk)

    def _files_of(self, rows: Sequence[TrainingPicture]) -> Iterator[tuple[TrainingPicture, bytes | None]]:
        """Yield rows with their files, or None for a file that is missing."""
        start = 0
        while start < len(rows):
            files = self._store.pictures([row.image_path for row in rows[start:]])
            try:
                for data in files:
                    yield rows[start], data
                    start += 1
            except (NotFound, OSError):  # the iterator ends here; go on with the picture after this one
                yield rows[start], None
                start += 1


class _Window(io.RawIOBase):
    """What was written since the last `take`. Writers may seek in it, as `zipfile` does to complete a header."""

    def __init__(self) -> None:
        self._taken = 0
        self._buffer: IO[bytes] = io.BytesIO()

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._taken + self._buffer.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._taken + self._buffer.seek(offset - self._taken if whence == io.SEEK_SET else offset, whence)

    def write(self, data: bytes) -> int:  # type: ignore[override] # as all who write into it do
        return self._buffer.write(data)

    def take(self) -> bytes:
        self._buffer.seek(0)
        data = self._buffer.read()
        self._taken += len(data)
        self._buffer = io.BytesIO()
        return data

    def move_to(self, file: IO[bytes]) -> None:
        """Write into an empty file from now on. All that was written before must have been taken."""
        self._buffer = file


class _Entries:
    """The entries of an archive for its directory, on disk."""

    def __init__(self, file: IO[bytes]):
        self._file = file
        self._count = 0

    def append(self, entry: zipfile.ZipInfo) -> None:
        pickle.dump(entry, self._file)
        self._count += 1

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[zipfile.ZipInfo]:
        self._file.seek(0)
        for _ in range(self._count):
            yield pickle.load(self._file)  # noqa: S301 - our own file


def _decoded(rows: IO[bytes]) -> Iterator[TrainingPicture]:
    return (TrainingPicture(**orjson.loads(line)) for line in rows)


@contextmanager
def _table(file: IO[bytes]) -> Iterator[Any]:
    """A writer of the manifest, with its header; the file stays open."""
    text = io.TextIOWrapper(file, "utf-8", newline="")
    table = csv.writer(text)
    table.writerow(_COLUMNS)
    yield table
    text.detach()


def _line(row: TrainingPicture, omitted: str) -> list[object]:
    values = {**vars(row), "path": _path(row), "label": row.shoe_class, OMITTED: omitted}
    return [int(value) if isinstance(value := values[name], bool) else value for name in _COLUMNS]


def _path(row: TrainingPicture) -> str:
    """The picture's path in the export: a folder of its label, in characters that are safe everywhere."""
    folder = _UNSAFE.sub("_", row.shoe_class).strip(". ") or "_"
    return f"{'_' if folder == '__MACOSX' else folder}/{PurePath(row.image_path).name}"


def _deflated(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    file.seek(0)
    yield from iter(lambda: file.read(_BLOCK), b"")


def _size(data: bytes) -> tuple[int, int] | None:
    try:
        return size_of(data)
    except AppError:  # the file was damaged on the disk
        return None


def _image(number: int, row: TrainingPicture, size: tuple[int, int]) -> dict[str, object]:
    past = {name: getattr(row, name) for name in ("sha256", "split", "source", "uploaded_at")}
    return {"id": number, "file_name": _path(row), "width": size[0], "height": size[1], **past}


def _annotation(number: int, category: int, size: tuple[int, int]) -> dict[str, object]:
    whole = {"bbox": [0, 0, *size], "area": size[0] * size[1], "iscrowd": 0}
    return {"id": number, "image_id": number, "category_id": category, **whole}
