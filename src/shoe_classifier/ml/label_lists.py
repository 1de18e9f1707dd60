"""Lists that say which label the pictures of an archive have, in the forms in which other tools write them.

A list is a file beside the pictures: the manifest of an export, a CSV of paths and labels, a COCO file, what Label
Studio exports as JSON, or the manifest of a Teachable Machine project. Its form is known by its content, not by its
name. What it says is data from a stranger: paths in it are only compared with the names of the archive.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson

from shoe_classifier.errors import InvalidZip
from shoe_classifier.ml.preprocessing import PICTURE_NAMES
from shoe_classifier.types import to_iso

LIST_NAMES = (".csv", ".json")
FORMS = "a CSV with the columns path and label, COCO, Label Studio's JSON, or a Teachable Machine image project"
PATH_COLUMNS = ("path", "file", "file_name", "filename", "image", "image_path")
LABEL_COLUMNS = ("label", "class", "class_name", "category", "choice", "shoe_class")
OMITTED = "omitted"  # column of a manifest: why its export lacks a picture

_TEACHABLE_MACHINE = "-!-"  # between the class and the number in the name of each of its samples
_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")  # of files that were uploaded to Label Studio
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SOURCE = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_OLDEST = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Origin:
    """What an export says about a picture's past; None for what it does not say, or says wrongly.

    Attributes:
        sha256: of its file, hexadecimal.
        source: where it came from.
        uploaded_at: when, in the format of all rows.
    """

    sha256: str | None = None
    source: str | None = None
    uploaded_at: str | None = None


@dataclass(frozen=True)
class Listed:
    """One line of a list.

    Attributes:
        path: as the list writes it.
        label: of the picture; empty when there is a problem.
        problem: why the list gives it no label, for people.
    """

    path: str
    label: str
    problem: str = ""
    origin: Origin | None = None


def parse(data: bytes) -> list[Listed] | None:
    """Return the lines of a list, or None if the file is none.

    Raises:
        InvalidZip: a project of Teachable Machine whose samples are no pictures.
    """
    text = data.lstrip(b"\xef\xbb\xbf \r\n\t")
    if text[:1] not in (b"[", b"{"):
        return _parse_csv(data)
    try:
        content = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return _parse_coco(content) if isinstance(content, dict) else _parse_label_studio(content)


def parse_project(data: bytes, names: Iterable[str]) -> list[Listed] | None:
    """Return the samples of a Teachable Machine project, given its manifest and the names of its files.

    Returns:
        None if it is no such manifest.

    Raises:
        InvalidZip: its samples are no pictures.
    """
    try:
        content = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(content, dict) or not isinstance(content.get("appdata"), dict) or "type" not in content:
        return None
    if content["type"] != "image":
        kind = str(content["type"])[:40]
        raise InvalidZip(f"Expected an image project of Teachable Machine; received one of type {kind!r}.")
    samples = [name for name in names if _TEACHABLE_MACHINE in name]
    return [Listed(name, PurePosixPath(name).name.rpartition(_TEACHABLE_MACHINE)[0]) for name in samples]


def match(lines: Iterable[Listed], names: Sequence[str], folder: str) -> tuple[dict[str, Listed], list[Listed]]:
    """Find the files that a list means.

    A path may be relative to the list, or to the archive, or it may be an address on another machine, of which only the
    last part counts if just one file has that name.

    Args:
        names: of the files in the archive.
        folder: of the list, empty or with a slash at its end.

    Returns:
        The lines by the names of their files, and the lines without a file.
    """
    known, by_last_part = set(names), _by_last_part(names)
    found: dict[str, Listed] = {}
    missing = []
    for line in lines:
        name = _find(line.path, folder, known, by_last_part)
        if name is None:
            missing.append(line)
        elif name in found and found[name].label != line.label:
            found[name] = Listed(line.path, "", "Expected one label; the list gives it several.")
        else:
            found[name] = line
    return found, missing


def _by_last_part(names: Iterable[str]) -> Mapping[str, str | None]:
    """Map the last part of each name to the name, or to None if several share it."""
    parts: dict[str, str | None] = {}
    for name in names:
        last = PurePosixPath(name).name
        parts[last] = None if last in parts else name
    return parts


def _find(path: str, folder: str, known: set[str], by_last_part: Mapping[str, str | None]) -> str | None:
    plain = path.replace("\\", "/").removeprefix("./")
    for name in (folder + plain, plain):
        if name in known:
            return name
    last = PurePosixPath(_address_path(plain)).name
    return by_last_part.get(last) or by_last_part.get(_UPLOAD_PREFIX.sub("", last))


def _address_path(address: str) -> str:
    """Return the path of an address; Label Studio writes that of a local file as `/data/local-files/?d=path`."""
    try:
        parts = urlsplit(address)
    except ValueError:  # as of "http://["
        return address
    return parse_qs(parts.query).get("d", [parts.path])[0]


# ------------------------------------------------------------ CSV


def _parse_csv(data: bytes) -> list[Listed] | None:
    try:
        text = data.decode("utf-8-sig")
        first = text.partition("\n")[0]
        delimiter = max(",;\t", key=first.count)
        rows = list(csv.reader(io.StringIO(text), delimiter=delimiter, strict=True))
    except (UnicodeDecodeError, csv.Error):
        return None
    if not rows:
        return None
    header = [name.strip().lower() for name in rows[0]]
    path, label = _column(header, PATH_COLUMNS), _column(header, LABEL_COLUMNS)
    if path is not None and label is not None:
        return [_csv_line(dict(zip(header, row, strict=False)), header[path], header[label]) for row in rows[1:] if row]
    if len(header) == 2 and header[0].endswith(PICTURE_NAMES):  # without a header
        return [Listed(row[0], row[1]) for row in rows if len(row) == 2]
    return None


def _column(header: Sequence[str], names: Iterable[str]) -> int | None:
    return next((header.index(name) for name in names if name in header), None)


def _csv_line(row: Mapping[str, str], path: str, label: str) -> Listed:
    if row.get(OMITTED):
        return Listed(row.get(path, ""), "", f"Left out of the export: {row[OMITTED]}.")
    return Listed(row.get(path, ""), row.get(label, ""), origin=_origin(row))


def _origin(row: Mapping[str, Any]) -> Origin:
    sha256, source, uploaded_at = (str(row.get(name) or "") for name in ("sha256", "source", "uploaded_at"))
    return Origin(
        sha256 if _SHA256.fullmatch(sha256) else None,
        source if _SOURCE.fullmatch(source) else None,
        _past(uploaded_at),
    )


def _past(text: str) -> str | None:
    """Return a time in the format of all rows, if it is one and can be true."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return to_iso(time) if time.tzinfo and _OLDEST <= time <= datetime.now(UTC) else None


# ------------------------------------------------------------ COCO


def _parse_coco(content: dict[str, Any]) -> list[Listed] | None:
    images, annotations, categories = (_dictionaries(content.get(n)) for n in ("images", "annotations", "categories"))
    if images is None or annotations is None or categories is None:
        return None
    names = {_key(category.get("id")): str(category.get("name", "")) for category in categories}
    labels: dict[str, set[str]] = {}
    for annotation in annotations:
        name = names.get(_key(annotation.get("category_id")), "")
        labels.setdefault(_key(annotation.get("image_id")), set()).add(name)
    return [
        _one_label(str(image.get("file_name", "")), labels.get(_key(image.get("id")), set()), _origin(image))
        for image in images
    ]


def _dictionaries(items: Any) -> list[dict[str, Any]] | None:
    """The dictionaries in a list; None if it is no list."""
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else None


def _key(value: Any) -> str:
    return f"{type(value).__name__}:{value}"


def _one_label(path: str, labels: set[str], origin: Origin | None = None) -> Listed:
    if len(labels) == 1:
        return Listed(path, next(iter(labels)), origin=origin)
    return Listed(path, "", f"Expected one label; the list gives it {len(labels) or 'none'}.")


# ------------------------------------------------------------ Label Studio


def _parse_label_studio(content: Any) -> list[Listed] | None:
    tasks = _dictionaries(content)
    if not tasks:
        return None
    if all(isinstance(task.get("data"), dict) and "annotations" in task for task in tasks):
        return [_one_label(_picture_of(task["data"]), set(_choices(task))) for task in tasks]
    if all("image" in task and "id" in task for task in tasks):  # its JSON-MIN
        return [_one_label(str(task["image"]), set(_texts(task.get("choice")))) for task in tasks]
    return None


def _picture_of(data: Mapping[str, Any]) -> str:
    """The address of a task's picture: `image`, as in its templates, or whatever else ends like one."""
    texts = [value for value in (data.get("image"), *data.values()) if isinstance(value, str)]
    return next(
        (text for text in texts if _address_path(text).lower().endswith(PICTURE_NAMES)), texts[0] if texts else ""
    )


def _choices(task: Mapping[str, Any]) -> Iterator[str]:
    """What people chose, in all annotations that were not cancelled."""
    for annotation in _dictionaries(task["annotations"]) or []:
        for result in [] if annotation.get("was_cancelled") else _dictionaries(annotation.get("result")) or []:
            value = result.get("value")
            yield from _texts(value.get("choices")) if isinstance(value, dict) else ()


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [item for item in values if isinstance(item, str)]
