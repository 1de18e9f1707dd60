"""Request bodies, read as they arrive: limits hold while reading, and nothing is read before the endpoint asks.

FastAPI's own `File()` reads the whole body before dependencies run, so a client without a key could fill the disk.
"""

import asyncio
import math
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import anyio.to_thread
from pydantic import BaseModel, ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect, Request

from shoe_classifier.api.error_handlers import CLOSE
from shoe_classifier.api.form import Form
from shoe_classifier.api.form_parser import FormParser
from shoe_classifier.errors import InvalidRequest, RequestTimeout, TooLarge

FOLDER_PREFIX = "upload-"  # of private folders; those that a killed process left are recognised by it
_MAX_JSON_BYTES = 4 << 10
_FORM_OVERHEAD = 64 << 10

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


async def read_form(request: Request, max_bytes: int, silence_seconds: float, folder: Path | None = None) -> Form:
    """Read a multipart form.

    Args:
        max_bytes: largest size of one file, and, with a `folder`, of all of them together.
        silence_seconds: a client that sends nothing for this long is disconnected.
        folder: where files above a megabyte go; without it, they stay in memory.

    Raises:
        InvalidRequest: no multipart form, or a malformed one.
        TooLarge: more bytes, parts or header bytes than allowed.
        RequestTimeout: the client stopped sending.
    """
    boundary = _boundary(request)
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and announced.isascii() and int(announced) > max_bytes + _FORM_OVERHEAD:
        raise TooLarge(f"Expected at most {max_bytes:,} bytes; received {int(announced):,}.", headers=CLOSE)
    try:
        parser = FormParser(boundary, max_bytes, folder)
        if folder is None:  # it stays in memory anyway, so it can be parsed in one go
            most = max_bytes + _FORM_OVERHEAD
            parser.feed_whole(b"".join([chunk async for chunk in _chunks(request, silence_seconds, most)]))
            return parser.finish()
        async for chunk in _chunks(request, silence_seconds):
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
        RequestTimeout: the client stopped sending.
    """
    data = b"".join([chunk async for chunk in _chunks(request, silence_seconds, max_bytes)])
    try:
        return shape.model_validate_json(data)
    except ValidationError as error:
        raise invalid_value(error, "the body") from None


def invalid_value(error: ValidationError, whole: str) -> InvalidRequest:
    """The first problem that validation found, as one of this service's errors; `whole` names what has no parts."""
    first = error.errors()[0]
    name = ".".join(map(str, first["loc"])) or whole
    return InvalidRequest(f"Expected {name} to be valid: {first['msg']}; received {str(first['input'])[:80]!r}.")


async def _chunks(request: Request, silence_seconds: float, most: float = math.inf) -> AsyncIterator[bytes]:
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
        yield chunk
