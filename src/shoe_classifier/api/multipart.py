"""Bodies, read as they arrive: limits hold while reading, and nothing is read before the caller asks.

FastAPI's own `File()` reads the whole body before dependencies run, so a client without a key could fill the disk.
"""

import asyncio
import math
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import anyio.to_thread
from pydantic import BaseModel, ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from shoe_classifier.errors import InvalidRequest, RequestTimeout, TooLarge

FOLDER_PREFIX = "upload-"  # of private folders; what a killed process left is known by it
MAX_PARTS = 1000
MAX_HEADER_BYTES = 8 << 10  # of one part
MAX_FIELD_BYTES = 4 << 10
_MAX_JSON_BYTES = 4 << 10
_WRITE_BYTES = 1 << 20  # a larger file goes to the disk in pieces of this size
_FORM_OVERHEAD = 64 << 10
CLOSE = {"Connection": "close"}  # what is left of the body must not be read as the next request

Body = TypeVar("Body", bound=BaseModel)


@dataclass
class FormFile:
    """An uploaded file: in memory (`data`), or when it is large and a folder was given, on disk (`path`)."""

    field: str
    name: str
    data: bytes = b""
    path: Path | None = None

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.path.stat().st_size if self.path else len(self.data)

    def start(self) -> bytes:
        """The first two bytes, which tell a ZIP."""
        if self.path is None:
            return self.data[:2]
        with self.path.open("rb") as file:
            return file.read(2)

    def read(self) -> bytes:
        """All bytes, from wherever they are."""
        return self.path.read_bytes() if self.path else self.data

    def on_disk(self, folder: Path) -> Path:
        """The file's path; it is written into `folder` when it was only in memory."""
        if self.path is None:
            self.path = folder / "part"
            self.path.write_bytes(self.data)
        return self.path


@dataclass
class Form:
    """The parts of a form: text fields by name, and files in the order in which they came."""

    fields: dict[str, str] = field(default_factory=dict)
    files: list[FormFile] = field(default_factory=list)

    def file(self, *names: str) -> FormFile:
        """The file of the field `names[0]`, or of one of its other names. Raises `InvalidRequest` without one."""
        for item in self.files:
            if item.field in names:
                return item
        came = sorted({item.field for item in self.files} | self.fields.keys())
        raise InvalidRequest(f"Expected a file in the form field {names[0]!r}; received {came or 'no fields'}.")


@asynccontextmanager
async def private_folder(parent: Path) -> AsyncIterator[Path]:
    """A folder for one request, always removed."""
    await anyio.to_thread.run_sync(lambda: parent.mkdir(parents=True, exist_ok=True))
    folder = Path(await anyio.to_thread.run_sync(lambda: tempfile.mkdtemp(dir=parent, prefix=FOLDER_PREFIX)))
    try:
        yield folder
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))


async def read_form(request: Request, max_bytes: int, silence_seconds: float, folder: Path | None = None) -> Form:
    """Read a multipart form.

    Args:
        max_bytes: most bytes of one file, and, with a `folder`, of all of them.
        silence_seconds: a client that sends nothing for so long is given up.
        folder: where files above a megabyte go; without it, they stay in memory.

    Raises:
        InvalidRequest: no multipart form, or a damaged one.
        TooLarge: more bytes, parts or header bytes than allowed.
        RequestTimeout: the client fell silent.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        came = request.headers.get("content-type", "none")[:80]
        raise InvalidRequest(f"Expected a body of type multipart/form-data with a boundary; received {came!r}.")
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > max_bytes + _FORM_OVERHEAD:
        raise TooLarge(f"Expected at most {max_bytes:,} bytes; received {int(announced):,}.", headers=CLOSE)
    reader = _FormReader(options[b"boundary"], max_bytes, folder)
    try:
        if folder is None:  # it stays in memory anyway, so it can be taken apart in one go
            reader.take([chunk async for chunk in _chunks(request, silence_seconds, max_bytes + _FORM_OVERHEAD)])
            return reader.finish()
        async for chunk in _chunks(request, silence_seconds):
            reader.feed(chunk)
            if reader.waiting:
                await anyio.to_thread.run_sync(reader.write_waiting)
        return reader.finish()
    except FormParserError as error:
        raise InvalidRequest("Expected a well-formed multipart body; received a damaged one.", headers=CLOSE) from error


async def read_json(request: Request, shape: type[Body], silence_seconds: float) -> Body:
    """Read a small JSON body. FastAPI would read all of it before it looks at the key.

    Raises:
        InvalidRequest: no JSON, or of another shape.
        TooLarge: more than 4 KiB.
        RequestTimeout: the client fell silent.
    """
    data = b"".join([chunk async for chunk in _chunks(request, silence_seconds, _MAX_JSON_BYTES)])
    try:
        return shape.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        what = ".".join(map(str, first["loc"])) or "the body"
        came = str(first["input"])[:80]
        raise InvalidRequest(f"Expected {what} to be valid: {first['msg']}; received {came!r}.") from None


async def _chunks(request: Request, silence_seconds: float, most: float = math.inf) -> AsyncIterator[bytes]:
    stream = request.stream()
    came = 0
    while True:
        try:
            async with asyncio.timeout(silence_seconds):
                chunk = await anext(stream, None)
        except TimeoutError:
            raise RequestTimeout(
                f"Expected the rest of the body within {silence_seconds:g} s; received nothing.", headers=CLOSE
            ) from None
        except ClientDisconnect:
            raise InvalidRequest("Expected the whole body; the client left.") from None
        if chunk is None:
            return
        came += len(chunk)
        if came > most:
            raise TooLarge(f"Expected at most {most:,} bytes; received more.", headers=CLOSE)
        yield chunk


class _FormReader:
    """Callbacks of the parser: they gather one part after the other."""

    def __init__(self, boundary: bytes, max_bytes: int, folder: Path | None):
        self._boundary, self._max_bytes, self._folder = boundary, max_bytes, folder
        self._form = Form()
        self._total = self._parts = self._held = 0  # `_held`: bytes of whole files that stay in memory
        self._header_name, self._header_value = b"", b""
        self._headers: dict[bytes, bytes] = {}
        self._file: FormFile | None = None
        self._data = bytearray()
        self._name = ""
        self._ended = False
        self.waiting: list[tuple[Path, bytes]] = []
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._part_data,
                "on_part_end": self._part_end,
                "on_end": self._end,
            },
        )

    def feed(self, chunk: bytes) -> None:
        self._parser.write(chunk)

    def take(self, chunks: list[bytes]) -> None:
        """Take a whole body. What clients send as a rule is found by its boundaries; the parser takes all else."""
        body = b"".join(chunks)
        first, between = b"--" + self._boundary + b"\r\n", b"\r\n--" + self._boundary
        end = body.find(between, len(first))
        blank = body.find(b"\r\n\r\n", len(first), len(first) + MAX_HEADER_BYTES)
        if (
            not body.startswith(first)
            or body[end:] not in (between + b"--\r\n", between + b"--")
            or not 0 < blank <= end - 4
        ):
            self.feed(body)
            return
        self._part_begin()
        for line in body[len(first) : blank].split(b"\r\n"):
            name, _, value = line.partition(b":")
            self._headers[name.strip().lower()] = value.strip()
        self._headers_finished()
        self._part_data(body, blank + 4, end)
        self._part_end()
        self._end()

    def finish(self) -> Form:
        if not self._ended:
            raise InvalidRequest(
                "Expected a multipart body with its closing boundary; received one that was cut short."
            )
        return self._form

    def write_waiting(self) -> None:
        for path, data in self.waiting:
            with path.open("ab") as file:
                file.write(data)
        self.waiting.clear()

    def _part_begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise TooLarge(f"Expected at most {MAX_PARTS} parts in the form; received more.", headers=CLOSE)
        self._headers = {}
        self._data = bytearray()
        self._file = None
        self._name = ""

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]
        self._check_header()

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]
        self._check_header()

    def _check_header(self) -> None:
        if len(self._header_name) + len(self._header_value) + sum(map(len, self._headers.values())) > MAX_HEADER_BYTES:
            raise TooLarge(
                f"Expected at most {MAX_HEADER_BYTES:,} bytes of headers in a part; received more.", headers=CLOSE
            )

    def _header_end(self) -> None:
        self._headers[self._header_name.lower()] = self._header_value
        self._header_name, self._header_value = b"", b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        if b"name" not in options:
            raise InvalidRequest(
                "Expected a name in each part of the form; received a part without one.", headers=CLOSE
            )
        self._name = options[b"name"].decode("utf-8", "replace")
        if b"filename" in options:
            self._file = FormFile(self._name, options[b"filename"].decode("utf-8", "replace"))

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self._total += end - start
        self._data += data[start:end]
        if self._file is None:
            if len(self._data) > MAX_FIELD_BYTES:
                raise TooLarge(
                    f"Expected at most {MAX_FIELD_BYTES:,} bytes in {self._name[:40]!r}; received more.", headers=CLOSE
                )
        elif self._total > self._max_bytes:
            raise TooLarge(f"Expected at most {self._max_bytes:,} bytes; received more.", headers=CLOSE)
        elif self._folder and len(self._data) + self._held >= _WRITE_BYTES:
            self._to_disk(self._file, self._folder)

    def _to_disk(self, file: FormFile, folder: Path) -> None:
        if file.path is None:
            file.path = folder / f"part{len(self._form.files)}"
        self.waiting.append((file.path, bytes(self._data)))
        self._data = bytearray()

    def _part_end(self) -> None:
        if self._file is None:
            self._form.fields[self._name] = self._data.decode("utf-8", "replace")
            return
        if self._file.path and self._folder:
            self._to_disk(self._file, self._folder)
        else:
            self._file.data = bytes(self._data)
            self._held += len(self._data)
        self._form.files.append(self._file)

    def _end(self) -> None:
        self._ended = True
