"""What is to be done: which pictures there are, and how a worker fetches each.

A source is small and can be sent to another process or machine, which opens for itself what it needs: no picture passes
through the machine that started the job, and no key leaves the one that has it.
"""

import csv
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from shoe_classifier.errors import InvalidImage, InvalidRequest, NotFound, StoreUnavailable, TooLarge, UnsupportedImage
from shoe_classifier.ml.preprocessing import PICTURE_NAMES
from shoe_classifier.ml.zip_reader import PictureArchive, Skipped
from shoe_classifier.scale import bucket
from shoe_classifier.services.factories import open_store
from shoe_classifier.settings import Settings, load_settings
from shoe_classifier.storage.protocols import Store

STORED = "stored"
_PAGE = 1000  # rows of predictions read at a time
_SKIPPED = {"corrupt": InvalidImage, "unsupported": UnsupportedImage}


@dataclass(frozen=True)
class Entry:
    """One picture to be done.

    Attributes:
        label: what it is said to show; None if nothing says so.
        sha256: of its file, hexadecimal; None if that is not known yet.
    """

    path: str
    label: str | None
    sha256: str | None = None


class Source(Protocol):
    """Where pictures are."""

    def entries(self) -> Iterator[Entry]:
        """Yield the pictures, always in the same order. Raises `InvalidRequest` and `StoreUnavailable`."""

    def check(self) -> None:
        """Raise `StoreUnavailable` unless the source can be read from this machine."""

    def fetch(self, path: str) -> bytes:
        """Return the file of a picture.

        Raises:
            StoreUnavailable: the source as a whole is gone.
            AppError: this picture is missing, too large or damaged.
        """


def open_source(name: str, settings: Settings) -> Source:
    """Find out what a source is.

    Args:
        name: a folder, a ZIP, a Parquet or CSV file of paths, `s3://bucket/folder`, or `stored`, what the service
            keeps.

    Raises:
        InvalidRequest: it is none of these.
    """
    most = settings.max_image_bytes
    if name == STORED:
        folders = {key: str(getattr(settings, key).absolute()) for key in ("dataset_dir", "models_dir")}
        return StoredPictures(folders)
    if name.startswith(bucket.PREFIX):
        return Bucket(bucket.key_of(name), most)
    path = Path(name).absolute()
    if path.is_dir():
        return Folder(path, most)
    if path.suffix.lower() in (".parquet", ".csv") and path.is_file():
        return PathList(path, most)
    if path.is_file() and zipfile.is_zipfile(path):
        return Archive(path, most)
    raise InvalidRequest(
        f"Expected a folder, a ZIP, a .parquet or .csv file of paths, s3://bucket/folder or {STORED!r}; "
        f"received {name!r}, which is none."
    )


def whole_name(name: str) -> str:
    """The name of a source, the same in whatever folder the command runs."""
    return name if name == STORED or name.startswith(bucket.PREFIX) else str(Path(name).absolute())


@dataclass(frozen=True)
class Folder:
    """Pictures below a folder; the folder that holds a picture is its label."""

    root: Path
    max_bytes: int

    def entries(self) -> Iterator[Entry]:
        """See `Source`."""
        for folder, folders, names in os.walk(self.root):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                if is_picture(name):
                    yield _entry((Path(folder) / name).relative_to(self.root).as_posix())

    def check(self) -> None:
        """See `Source`."""
        _check_there(self.root)

    def fetch(self, path: str) -> bytes:
        """See `Source`."""
        return _read_file(self.root / path, self.root, self.max_bytes)


@dataclass(frozen=True)
class Archive:
    """Pictures in a ZIP, labelled like those of a folder."""

    path: Path
    max_bytes: int

    @cached_property
    def _archive(self) -> PictureArchive:
        _check_there(self.path)
        return PictureArchive(self.path, self.max_bytes)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "max_bytes": self.max_bytes}  # not the open file

    def entries(self) -> Iterator[Entry]:
        """See `Source`. Raises `InvalidZip` and `TooLarge`."""
        yield from map(_entry, self._archive.names)

    def check(self) -> None:
        """See `Source`."""
        _check_there(self.path)

    def fetch(self, path: str) -> bytes:
        """See `Source`."""
        picture = self._archive.read(path)
        if isinstance(picture, Skipped):
            raise _SKIPPED[picture.reason](picture.detail)
        return picture.data


@dataclass(frozen=True)
class PathList:
    """A Parquet or CSV file with a column `path`, and `label` if there is one. Paths are relative to its folder."""

    list: Path
    max_bytes: int

    def entries(self) -> Iterator[Entry]:
        """See `Source`."""
        rows = _rows_of_csv(self.list) if self.list.suffix.lower() == ".csv" else _rows_of_parquet(self.list)
        for row in rows:
            if row["path"]:
                yield Entry(row["path"], row.get("label") or None)

    def check(self) -> None:
        """See `Source`."""
        _check_there(self.list)

    def fetch(self, path: str) -> bytes:
        """See `Source`."""
        if path.startswith(bucket.PREFIX):
            return _within(bucket.read(bucket.key_of(path), self.max_bytes), self.max_bytes)
        return _read_file(self.list.parent / path, self.list, self.max_bytes)


@dataclass(frozen=True)
class Bucket:
    """Pictures in a bucket that speaks S3, below `bucket/folder`, labelled like those of a folder."""

    root: str
    max_bytes: int

    def entries(self) -> Iterator[Entry]:
        """See `Source`. Lists one folder after the other, so that only the names of one are in memory."""
        yield from self._entries(self.root)

    def _entries(self, folder: str) -> Iterator[Entry]:
        from pyarrow.fs import FileSelector, FileType

        try:
            found = bucket.file_system().get_file_info(FileSelector(folder))
        except OSError as error:
            raise bucket.unavailable(self.root, error) from error
        for item in sorted(found, key=lambda item: item.path):
            if item.type == FileType.Directory:
                yield from self._entries(item.path)
            elif is_picture(item.base_name):
                yield _entry(item.path[len(self.root) + 1 :])

    def check(self) -> None:
        """See `Source`."""
        from pyarrow.fs import FileType

        try:
            there = bucket.file_system().get_file_info(self.root).type != FileType.NotFound
        except OSError as error:
            raise bucket.unavailable(self.root, error) from error
        if not there:
            raise StoreUnavailable(f"Expected files below {bucket.PREFIX}{self.root}; there are none.")

    def fetch(self, path: str) -> bytes:
        """See `Source`."""
        return _within(bucket.read(f"{self.root}/{path}", self.max_bytes), self.max_bytes)


@dataclass(frozen=True)
class StoredPictures:
    """The pictures that the service keeps, each once: its training pictures, then those of its predictions.

    Attributes:
        folders: settings of the machine that started the job. The others, and the key of the Supabase project, come
            from the environment of the machine that fetches.
    """

    folders: dict[str, str]

    @cached_property
    def _store(self) -> Store:
        return open_store(load_settings(**self.folders))

    def __getstate__(self) -> dict[str, Any]:
        return {"folders": self.folders}  # not the open store

    def entries(self) -> Iterator[Entry]:
        """See `Source`."""
        seen = set()
        for row in self._store.training_rows():
            seen.add(row.image_path)
            yield Entry(row.image_path, row.shoe_class)
        for path in self._predicted():
            if path not in seen:
                seen.add(path)
                yield Entry(path, None)

    def _predicted(self) -> Iterator[str]:
        before = None
        while rows := self._store.predictions(_PAGE, before):
            yield from (row.image_path for row in rows if row.image_path)
            before = rows[-1].id

    def check(self) -> None:
        """See `Source`."""
        if not load_settings(**self.folders).supabase:
            _check_there(Path(self.folders["dataset_dir"]))

    def fetch(self, path: str) -> bytes:
        """See `Source`."""
        return next(self._store.pictures([path]))


def is_picture(name: str) -> bool:
    """Whether a file counts, by its name."""
    return name.lower().endswith(PICTURE_NAMES) and not name.startswith(".")


def _entry(path: str) -> Entry:
    parts = path.split("/")
    return Entry(path, parts[-2] if len(parts) > 1 else None)


def _check_there(path: Path) -> None:
    """Raise `StoreUnavailable` for what is gone: also for an empty folder, as a disk leaves that is not mounted."""
    if not path.exists() or (path.is_dir() and _is_empty(path)):
        raise StoreUnavailable(f"Expected {str(path)!r}, where the pictures are; it is not there, or not any more.")


def _is_empty(folder: Path) -> bool:
    with os.scandir(folder) as found:  # a list of all names would take seconds
        return not any(found)


def _read_file(path: Path, root: Path, max_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            return _within(file.read(max_bytes + 1), max_bytes)
    except OSError as error:  # of this file, or of the whole disk
        _check_there(root)
        raise NotFound(f"Expected a file that can be read; {error.strerror or error}.") from error


def _within(data: bytes, max_bytes: int) -> bytes:
    if len(data) > max_bytes:
        raise TooLarge(f"Expected at most {max_bytes:,} bytes; received more.")
    return data


def _rows_of_csv(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        try:
            _check_columns(path, reader.fieldnames or [])
            yield from reader
        except (csv.Error, UnicodeDecodeError) as error:
            raise InvalidRequest(f"Expected a CSV file in UTF-8; {path.name} does not read ({error}).") from error


def _rows_of_parquet(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            _check_columns(path, names)
            for batch in file.iter_batches(columns=[name for name in ("path", "label") if name in names]):
                yield from batch.to_pylist()
    except (OSError, ValueError) as error:  # Arrow's errors are both
        raise InvalidRequest(f"Expected a Parquet file; {path.name} does not read ({error}).") from error


def _check_columns(path: Path, names: Any) -> None:
    if "path" not in names:
        raise InvalidRequest(f"Expected a column 'path' in {path.name}; received {', '.join(map(repr, names))}.")
