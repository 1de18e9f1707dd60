"""ZIP to pictures: the only code that reads an archive. Nothing is ever extracted by its own name."""

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shoe_classifier.errors import InvalidZip, TooLarge
from shoe_classifier.ml import label_lists
from shoe_classifier.ml.label_lists import Listed, Origin
from shoe_classifier.ml.preprocessing import PICTURE_NAMES

_READABLE = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, ValueError, OSError)
_LOCAL_HEADER_BYTES = 30
_ENTRY = struct.Struct("<28x3H12x")  # in the directory: the lengths of name, extra field and comment, which follow it
_ENTRY_SIGNATURE = b"PK\1\2"
_MOST_LISTS = 10  # files that are looked into, for the one that says which labels the pictures have
_ENCRYPTED = 0x1
_UTF8 = 0x800


@dataclass(frozen=True)
class ZipLimits:
    """Largest ZIP that is read.

    Attributes:
        max_files: number of entries.
        max_bytes: of all entries together, unpacked.
        max_file_bytes: of each entry, unpacked.
        max_directory_bytes: of the table of contents, which is read into memory as a whole.
        max_list_bytes: of a list of labels, unpacked.
    """

    max_files: int = 50_000
    max_bytes: int = 1 << 30
    max_file_bytes: int = 20 << 20
    max_directory_bytes: int = 16 << 20
    max_list_bytes: int = 32 << 20


OWN_DISK = ZipLimits(max_files=10_000_000, max_bytes=1 << 40, max_file_bytes=1 << 30, max_directory_bytes=2 << 30)


@dataclass(frozen=True)
class Picture:
    """One file of the archive.

    Attributes:
        label: the name of its folder, or what a list in the archive says, unchanged.
        origin: what the list of an export says about its past.
    """

    label: str
    name: str
    data: bytes
    origin: Origin | None = None


@dataclass(frozen=True)
class Skipped:
    """One file that was left out. `reason` is `corrupt`, `unsupported` or `ignored`."""

    name: str
    reason: str
    detail: str


def read_labelled(path: Path, limits: ZipLimits) -> Iterator[Picture | Skipped]:
    """Read the pictures with their labels, one at a time.

    The labels are in a list, if the archive holds one (see `label_lists`). Otherwise they are the names of the folders:
    `label/picture`, also when one folder wraps them all.

    Raises:
        InvalidZip: not a ZIP, or one whose entries overlap or state a wrong size, or with several lists.
        TooLarge: more files or bytes than `limits` allow.
    """
    with _opened(path, limits) as archive:
        found = _find_list(archive)
        yield from _read_listed(archive, *found) if found else _read_folders(archive)


def read_pictures(path: Path, limits: ZipLimits) -> Iterator[Picture | Skipped]:
    """Read all files, whatever their folders, one at a time. Raises as `read_labelled` does."""
    with _opened(path, limits) as archive:
        for entry in archive.entries:
            yield archive.read(entry)


class PictureArchive:
    """A ZIP on the user's own disk, whose pictures are read by their names, in any order and from several threads.

    Args:
        max_file_bytes: largest file that is read, unpacked.

    Raises:
        InvalidZip, TooLarge: as `read_labelled` does.
    """

    def __init__(self, path: Path, max_file_bytes: int):
        self._open = ExitStack()
        archive = self._open.enter_context(_opened(path, replace(OWN_DISK, max_file_bytes=max_file_bytes)))
        self._archive = archive
        self._entries = {entry.path: entry for entry in archive.entries if _is_picture(entry)}

    def close(self) -> None:
        """Close the file."""
        self._open.close()

    @property
    def names(self) -> list[str]:
        """The paths of the pictures, without a folder that wraps them all, sorted."""
        return sorted(self._entries)

    def read(self, name: str) -> Picture | Skipped:
        """Read one picture. Raises `KeyError` for a name that is not in the archive."""
        return self._archive.read(self._entries[name])


def _is_picture(entry: "_Entry") -> bool:
    return bool(entry.parts) and not _is_clutter(entry.parts) and entry.path.lower().endswith(PICTURE_NAMES)


@dataclass(frozen=True)
class _Entry:
    """A file of the archive; `parts` is its path without a folder that wraps all."""

    info: zipfile.ZipInfo
    parts: tuple[str, ...]

    @property
    def path(self) -> str:
        return "/".join(self.parts)


class _Archive:
    """An open ZIP whose directory was checked."""

    def __init__(self, file: zipfile.ZipFile, limits: ZipLimits):
        infos = [info for info in file.infolist() if not _is_folder(info)]
        _check_entries(infos, file, limits)
        wrapper = _wrapping_folder(infos)
        self._file = file
        self._limits = limits
        self._read = 0
        self.entries = [_Entry(info, _parts(info)[1 if wrapper else 0 :]) for info in infos]

    def read(self, entry: _Entry) -> Picture | Skipped:
        """Read one file. Raises `InvalidZip` and `TooLarge`."""
        picture = _read_entry(self._file, entry.info, entry.parts, self._limits)
        self._read += len(picture.data) if isinstance(picture, Picture) else 0
        if self._read > self._limits.max_bytes:
            raise TooLarge(f"Expected at most {self._limits.max_bytes:,} bytes unpacked; received more.")
        return picture

    def read_list(self, entry: _Entry) -> bytes:
        """Read a file that may be a list; empty if it cannot be read. Raises `InvalidZip`."""
        limits = replace(self._limits, max_file_bytes=self._limits.max_list_bytes)
        file = _read_entry(self._file, entry.info, entry.parts, limits)
        return file.data if isinstance(file, Picture) else b""


@contextmanager
def _opened(path: Path, limits: ZipLimits) -> Iterator[_Archive]:
    _check_directory(path, limits)
    try:
        file = zipfile.ZipFile(path)
    except _DAMAGE as error:
        raise InvalidZip("Expected a ZIP file; received one whose table of contents does not read.") from error
    with file:
        yield _Archive(file, limits)


def _read_folders(archive: _Archive) -> Iterator[Picture | Skipped]:
    for entry in archive.entries:
        picture = archive.read(entry)
        if isinstance(picture, Skipped) or len(entry.parts) == 2:
            yield picture
        elif entry.path.lower().endswith(label_lists.LIST_NAMES):
            yield Skipped(picture.name, "unsupported", f"Expected a list of labels ({label_lists.FORMS}); it is none.")
        else:
            yield Skipped(picture.name, "unsupported", "Not inside a labelled folder.")


def _find_list(archive: _Archive) -> tuple[_Entry, list[Listed]] | None:
    """Return the list of the archive, and its lines. Raises `InvalidZip` if there are several."""
    found = []
    candidates = _list_candidates(archive.entries)
    for entry in candidates:
        data, folder = archive.read_list(entry), _folder(entry)
        names = [other.path for other in archive.entries if _folder(other) == folder]
        lines = label_lists.parse_project(data, names) or label_lists.parse(data)
        if lines is not None:
            found.append((entry, lines))
    if len(found) > 1:
        names = [_name(entry.info)[:80] for entry, _ in found]
        raise InvalidZip(f"Expected one list of labels; received {names[0]!r} and {names[1]!r}.")
    return found[0] if found else None


def _list_candidates(entries: Sequence[_Entry]) -> list[_Entry]:
    """The files beside or above all pictures that may be lists; none if there are many, which are something else."""
    usable = [entry for entry in entries if entry.parts and not _is_clutter(entry.parts)]
    depth = 2 if len({entry.parts[0] for entry in usable}) == 1 else 1
    lists = [entry for entry in usable if entry.path.lower().endswith(label_lists.LIST_NAMES)]
    lists = [entry for entry in lists if len(entry.parts) <= depth]
    return lists if len(lists) <= _MOST_LISTS else []


def _read_listed(archive: _Archive, source: _Entry, lines: list[Listed]) -> Iterator[Picture | Skipped]:
    others = [entry for entry in archive.entries if entry is not source]
    found, missing = label_lists.match(lines, [entry.path for entry in others], _folder(source))
    list_name = _name(source.info)[:80]
    for entry in others:
        picture, line = archive.read(entry), found.get(entry.path)
        if isinstance(picture, Skipped):
            yield picture
        elif line is None:
            yield Skipped(picture.name, "ignored", f"{list_name!r} does not list it.")
        elif line.problem:
            yield Skipped(picture.name, "unsupported", line.problem)
        else:
            yield replace(picture, label=line.label, origin=line.origin)
    for line in missing:
        detail = line.problem or f"Expected the picture that {list_name!r} lists; it is not in the ZIP."
        yield Skipped(line.path, "ignored", detail)


def _folder(entry: _Entry) -> str:
    return "".join(f"{part}/" for part in entry.parts[:-1])


def _check_directory(path: Path, limits: ZipLimits) -> None:
    """Count the entries before `zipfile` builds an object for each, by the directory: the end record may lie."""
    with path.open("rb") as file:
        try:
            end: list[Any] | None = zipfile._EndRecData(file)  # type: ignore[attr-defined]
        except _DAMAGE:
            end = None
        if end is None:
            raise InvalidZip("Expected a ZIP file; received something else, or one that was cut short.")
        size, position = end[5], end[9]
        if size > limits.max_directory_bytes:
            raise TooLarge(
                f"Expected a ZIP whose table of contents has at most {limits.max_directory_bytes:,} bytes; "
                f"received {size:,}."
            )
        file.seek(max(0, position - size - _zip64_bytes(end)))
        files = _count_entries(file.read(size))
    if files > limits.max_files:
        raise TooLarge(f"Expected at most {limits.max_files:,} files in the ZIP; received {files:,}.")


def _zip64_bytes(end: list[Any]) -> int:
    """Size of the records of a ZIP64 file, which lie between the directory and the end record."""
    return 76 if end[0] == b"PK\6\6" else 0


def _count_entries(directory: bytes) -> int:
    count = position = 0
    while position + _ENTRY.size <= len(directory) and directory.startswith(_ENTRY_SIGNATURE, position):
        count, position = count + 1, position + _ENTRY.size + sum(_ENTRY.unpack_from(directory, position))
    if position != len(directory):
        raise InvalidZip("Expected a ZIP file; received one whose table of contents does not read.")
    return count


def _check_entries(entries: list[zipfile.ZipInfo], archive: zipfile.ZipFile, limits: ZipLimits) -> None:
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
    if not entry.file_size:  # opening tens of thousands of empty files takes seconds
        return Skipped(name, "corrupt", "Expected a picture; received an empty file.")
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
    if (
        not entry.flag_bits & _UTF8 and not entry.orig_filename.isascii()
    ):  # macOS writes UTF-8 without its flag, and zipfile reads that as code page 437
        try:
            return entry.orig_filename.encode("cp437").decode()
        except UnicodeError:
            pass
    return entry.orig_filename


def _is_absolute(name: str) -> bool:
    return name.startswith(("/", "\\")) or name[1:2] == ":"


def _is_clutter(parts: tuple[str, ...]) -> bool:
    return "__MACOSX" in parts or (
        bool(parts)
        and ".." not in parts
        and (parts[-1].startswith(".") or parts[-1].lower() in ("thumbs.db", "desktop.ini"))
    )


def _is_folder(entry: zipfile.ZipInfo) -> bool:
    return entry.orig_filename.endswith(("/", "\\")) and entry.file_size == 0
