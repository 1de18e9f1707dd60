"""Request bodies, read as they arrive: limits hold while reading, and nothing is read before the endpoint asks.

FastAPI's own `File()` reads the whole body before dependencies run, so a client without a key could fill the disk.
"""

import asyncio
import math
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import anyio.to_thread
from pydantic import BaseModel, ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect, Request

from shoe_classifier.api.body_limits import BodyLimits
from shoe_classifier.api.error_handlers import CLOSE
from shoe_classifier.api.form import Form
from shoe_classifier.api.form_parser import FormParser
from shoe_classifier.errors import InvalidRequest, RequestTimeout, TooLarge
from shoe_classifier.files import FOLDER_PREFIX

_MAX_JSON_BYTES = 4 << 10
_FORM_OVERHEAD = 64 << 10
_HELD_BYTES = 2 << 20  # of a form whose files go to disk: what `FormParser` holds until it is written

Model = TypeVar("Model", bound=BaseModel)


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


@asynccontextmanager
async def read_form(
    request: Request, max_bytes: int, limits: BodyLimits, folder: Path | None = None
) -> AsyncIterator[Form]:
    """Read a multipart form, and hold its share of the budgets as long as it is used.

    Args:
        max_bytes: largest size of one file, and, with a `folder`, of all of them together.
        limits: those of all bodies.
        folder: where files above a megabyte go; without it, they stay in memory.

    Raises:
        InvalidRequest: no multipart form, or a malformed one.
        TooLarge: more bytes, parts or header bytes than allowed.
        RequestTimeout: the client stopped sending, or sent too slowly.
        Overloaded: the bodies of all requests together hold too much; if announced, before anything is read.
    """
    boundary = _boundary(request)
    announced = request.headers.get("content-length", "")
    count = int(announced) if announced.isdecimal() and announced.isascii() else 0
    if count > max_bytes + _FORM_OVERHEAD:
        raise TooLarge(f"Expected at most {max_bytes:,} bytes; received {count:,}.", headers=CLOSE)
    limits.disk.check(count if folder else 0)
    limits.memory.check(min(count, _HELD_BYTES) if folder else count)
    with limits.memory.share() as memory, limits.disk.share() as disk:
        pace = _Pace(limits)

        def admit(chunk: bytes) -> None:
            if folder:
                disk.take(len(chunk))
            memory.take(min(len(chunk), _HELD_BYTES - memory.taken) if folder else len(chunk))
            pace.check(len(chunk))

        most = math.inf if folder else max_bytes + _FORM_OVERHEAD
        yield await _parse(_chunks(request, limits.silence_seconds, admit, most), boundary, max_bytes, folder)


async def _parse(chunks: AsyncIterator[bytes], boundary: bytes, max_bytes: int, folder: Path | None) -> Form:
    try:
        parser = FormParser(boundary, max_bytes, folder)
        if folder is None:  # it stays in memory anyway, so it can be parsed in one go
            body = bytearray()
            async for chunk in chunks:
                body += chunk
            parser.feed_whole(body)
            return parser.finish()
        async for chunk in chunks:
            parser.feed(chunk)
            if parser.waiting:
                await anyio.to_thread.run_sync(parser.write_waiting)
        return parser.finish()
    except FormParserError as error:
        raise InvalidRequest(
            "Expected a well-formed multipart body; received a malformed one.", headers=CLOSE
        ) from error


def _boundary(request: Request) -> bytes:
    content_type = request.headers.get("content-type")
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        received = (content_type or "none")[:80]
        raise InvalidRequest(f"Expected a body of type multipart/form-data with a boundary; received {received!r}.")
    return boundary


async def read_json(
    request: Request, shape: type[Model], silence_seconds: float, max_bytes: int = _MAX_JSON_BYTES
) -> Model:
    """Read a small JSON body. FastAPI would read all of it before it checks the key.

    Raises:
        InvalidRequest: no JSON, or JSON of another shape.
        TooLarge: more bytes than allowed.
        RequestTimeout: the client stopped sending, or took too long.
    """
    chunks = _chunks(request, silence_seconds, lambda _: None, max_bytes)
    try:
        async with asyncio.timeout(silence_seconds):  # for so little, the whole time that others may be silent
            data = b"".join([chunk async for chunk in chunks])
    except TimeoutError:
        raise RequestTimeout(
            f"Expected the whole body within {silence_seconds:g} s; received a part of it.", headers=CLOSE
        ) from None
    try:
        return shape.model_validate_json(data)
    except ValidationError as error:
        raise invalid_value(error, "the body") from None


def invalid_value(error: ValidationError, whole: str) -> InvalidRequest:
    """The first problem that validation found, as one of this service's errors; `whole` names what has no parts."""
    first = error.errors()[0]
    name = ".".join(map(str, first["loc"])) or whole
    return InvalidRequest(f"Expected {name} to be valid: {first['msg']}; received {str(first['input'])[:80]!r}.")


async def _chunks(
    request: Request, silence_seconds: float, admit: Callable[[bytes], None], most: float
) -> AsyncIterator[bytes]:
    """The pieces of a body, each admitted as it arrives: what is only announced takes nothing from the budgets."""
    stream = request.stream()
    received = 0
    while True:
        try:
            async with asyncio.timeout(silence_seconds):
                chunk = await anext(stream, None)
        except TimeoutError:
            raise RequestTimeout(
                f"Expected the rest of the body within {silence_seconds:g} s; received nothing.", headers=CLOSE
            ) from None
        except ClientDisconnect:
            raise InvalidRequest("Expected the whole body; the client disconnected.") from None
        if chunk is None:
            return
        received += len(chunk)
        if received > most:
            raise TooLarge(f"Expected at most {most:,} bytes; received more.", headers=CLOSE)
        admit(chunk)
        yield chunk


class _Pace:
    """How fast a body arrives, over spans of `silence_seconds`: a byte now and then must not hold a connection."""

    def __init__(self, limits: BodyLimits):
        self._limits = limits
        self._started = self._since = time.monotonic()
        self._bytes = 0

    def check(self, count: int) -> None:
        """Count bytes that arrived. Raises `RequestTimeout` when they are too few, or take too long in all."""
        now, limits = time.monotonic(), self._limits
        self._bytes += count
        if now - self._started > limits.request_seconds:
            raise RequestTimeout(
                f"Expected the whole body within {limits.request_seconds:g} s; received a part of it.", headers=CLOSE
            )
        if now - self._since < limits.silence_seconds:
            return
        rate = self._bytes / (now - self._since)
        if rate < limits.min_bytes_per_second:
            raise RequestTimeout(
                f"Expected at least {limits.min_bytes_per_second:,} bytes per second; received {rate:,.0f}.",
                headers=CLOSE,
            )
        self._since, self._bytes = now, 0
