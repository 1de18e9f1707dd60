"""ZIP to pictures: the only code that reads an archive. Nothing is ever extracted by its own name."""

import stat
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from shoe_classifier.errors import InvalidZip, TooLarge
from shoe_classifier.ml.preprocessing import PICTURE_NAMES

_READABLE = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, ValueError, OSError)
_DIRECTORY_BYTES_PER_FILE = 1024  # of the ZIP's own table of contents; a usual entry takes about 100
_LOCAL_HEADER_BYTES = 30
_ENCRYPTED = 0x1
_UTF8 = 0x800


@dataclass(frozen=True)
class ZipLimits:
    """Largest ZIP that is read.

    Attributes:
        max_files: number of entries.
        max_bytes: of all entries together, unpacked.
        max_file_bytes: of each entry, unpacked.
    """

    max_files: int = 50_000
    max_bytes: int = 1 << 30
    max_file_bytes: int = 20 << 20


@dataclass(frozen=True)
class Picture:
    """One file of the archive. `label` is the name of its folder, unchanged."""

    label: str
    name: str
    data: bytes


@dataclass(frozen=True)
class Skipped:
    """One file that was left out. `reason` is `corrupt`, `unsupported` or `ignored`."""

    name: str
    reason: str
    detail: str


def read_labelled(path: Path, limits: ZipLimits) -> Iterator[Picture | Skipped]:
    """Read `label/picture` files, also when one folder wraps them all, one at a time.

    Raises:
        InvalidZip: not a ZIP, or one whose entries overlap or state a wrong size.
        TooLarge: more files or bytes than `limits` allow.
    """
    for parts, picture in _read(path, limits):
        if isinstance(picture, Picture) and len(parts) != 2:
            yield Skipped(
                picture.name, "unsupported", f"Expected label/picture; received a path of {len(parts)} parts."
            )
        else:
            yield picture


def read_pictures(path: Path, limits: ZipLimits) -> Iterator[Picture | Skipped]:
    """Read all files, whatever their folders, one at a time. Raises as `read_labelled` does."""
    for _, picture in _read(path, limits):
        yield picture


def _read(path: Path, limits: ZipLimits) -> Iterator[tuple[tuple[str, ...], Picture | Skipped]]:
    _check_directory(path, limits)
    try:
        archive = zipfile.ZipFile(path)
    except _DAMAGE as error:
        raise InvalidZip("Expected a ZIP file; received one whose table of contents does not read.") from error
    with archive:
        entries = [entry for entry in archive.infolist() if not _is_folder(entry)]
        _check_entries(entries, archive, limits)
        wrapper = _wrapping_folder(entries)
        total = 0
        for entry in entries:
            parts = _parts(entry)[1 if wrapper else 0 :]
            picture = _read_entry(archive, entry, parts, limits)
            total += len(picture.data) if isinstance(picture, Picture) else 0
            if total > limits.max_bytes:
                raise TooLarge(f"Expected at most {limits.max_bytes:,} bytes unpacked; received more.")
            yield parts, picture


def _check_directory(path: Path, limits: ZipLimits) -> None:
    """Check the end record before `zipfile` builds an object for each entry: there may be millions."""
    with path.open("rb") as file:
        try:
            end: list[Any] | None = zipfile._EndRecData(file)  # type: ignore[attr-defined]
        except _DAMAGE:
            end = None
    if end is None:
        raise InvalidZip("Expected a ZIP file; received something else, or one that was cut short.")
    files, directory_bytes = end[4], end[5]
    if files > limits.max_files or directory_bytes > limits.max_files * _DIRECTORY_BYTES_PER_FILE:
        raise TooLarge(f"Expected at most {limits.max_files:,} files in the ZIP; received {files:,}.")


def _check_entries(entries: list[zipfile.ZipInfo], archive: zipfile.ZipFile, limits: ZipLimits) -> None:
    if len(entries) > limits.max_files:  # the end record may be wrong
        raise TooLarge(f"Expected at most {limits.max_files:,} files in the ZIP; received {len(entries):,}.")
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > limits.max_bytes:
        raise TooLarge(f"Expected at most {limits.max_bytes:,} bytes unpacked; received {unpacked:,}.")
    by_offset = sorted(entries, key=lambda entry: entry.header_offset)
    starts = [*(entry.header_offset for entry in by_offset), archive.start_dir]
    for entry, end in zip(by_offset, starts[1:], strict=True):
        if entry.header_offset + _LOCAL_HEADER_BYTES + entry.compress_size > end:
            raise InvalidZip(
                f"Expected entries that do not overlap; received {entry.filename[:80]!r}, which overlaps the next."
            )


def _read_entry(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, parts: tuple[str, ...], limits: ZipLimits
) -> Picture | Skipped:
    name = _name(entry)
    if _is_clutter(parts):
        return Skipped(name, "ignored", "A file of the operating system.")
    problem = _problem(entry, parts, limits)
    if problem:
        return Skipped(name, "unsupported", problem)
    try:
        with archive.open(entry) as file:
            data = file.read(entry.file_size + 1)
    except _DAMAGE:
        return Skipped(name, "corrupt", "The entry does not unpack to what the ZIP says it holds.")
    if len(data) != entry.file_size:
        raise InvalidZip(f"Expected {entry.file_size:,} bytes in {name[:80]!r}; received {len(data):,}.")
    return Picture(parts[0] if len(parts) > 1 else "", name, data)


def _problem(entry: zipfile.ZipInfo, parts: tuple[str, ...], limits: ZipLimits) -> str | None:
    """Why an entry must not be read, or None."""
    if not parts or ".." in parts or "\0" in entry.orig_filename or _is_absolute(_name(entry)):
        return "Expected a path inside the ZIP; received one that leads outside, or is empty."
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "Expected a file; received a symbolic link."
    if entry.flag_bits & _ENCRYPTED:
        return "Expected an open file; received an encrypted one."
    if entry.compress_type not in _READABLE:
        return "Expected stored or deflated data; received another compression."
    if entry.file_size > limits.max_file_bytes:
        return f"Expected at most {limits.max_file_bytes:,} bytes; received {entry.file_size:,}."
    return None


def _wrapping_folder(entries: list[zipfile.ZipInfo]) -> bool:
    """True when one folder holds all pictures, some of them at folder/label/picture: the folder is not a label then."""
    paths = [parts for parts in map(_parts, entries) if parts and ".." not in parts and not _is_clutter(parts)]
    paths = [path for path in paths if path[-1].lower().endswith(PICTURE_NAMES)]
    return len({path[0] for path in paths}) == 1 and max(map(len, paths)) == 3


def _parts(entry: zipfile.ZipInfo) -> tuple[str, ...]:
    return tuple(part for part in _name(entry).replace("\\", "/").split("/") if part not in ("", "."))


def _name(entry: zipfile.ZipInfo) -> str:
    """The name as intended. `filename` would drop a NUL and everything after it."""
    if not entry.flag_bits & _UTF8:  # macOS writes UTF-8 without its flag, and zipfile reads that as code page 437
        try:
            return entry.orig_filename.encode("cp437").decode()
        except UnicodeError:
            pass
    return entry.orig_filename


def _is_absolute(name: str) -> bool:
    return PurePosixPath(name.replace("\\", "/")).is_absolute() or name[1:2] == ":"


def _is_clutter(parts: tuple[str, ...]) -> bool:
    return "__MACOSX" in parts or (
        bool(parts)
        and ".." not in parts
        and (parts[-1].startswith(".") or parts[-1].lower() in ("thumbs.db", "desktop.ini"))
    )


def _is_folder(entry: zipfile.ZipInfo) -> bool:
    return entry.orig_filename.endswith(("/", "\\")) and entry.file_size == 0
