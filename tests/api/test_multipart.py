import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from shoe_classifier.api.body_limits import BodyLimits
from shoe_classifier.api.form import Form
from shoe_classifier.api.multipart import private_folder, read_form, read_json
from shoe_classifier.api.schemas.corrections import LabelBody
from shoe_classifier.errors import AppError, InvalidRequest, Overloaded, RequestTimeout, TooLarge
from shoe_classifier.settings import Settings


def part(name: str, data: bytes, filename: str | None = None, headers: bytes = b"") -> bytes:
    disposition = f'Content-Disposition: form-data; name="{name}"' + (f'; filename="{filename}"' if filename else "")
    return b"--edge\r\n" + disposition.encode() + b"\r\n" + headers + b"\r\n" + data + b"\r\n"


END = b"--edge--\r\n"


def limits_of(**settings: Any) -> BodyLimits:
    return BodyLimits(Settings(_env_file=None, **{"silence_seconds": 0.05, **settings}))  # type: ignore[call-arg]


def read(
    body: bytes,
    *,
    max_bytes: int = 1000,
    folder: Path | None = None,
    pieces: int = 7,
    content_type: str = "multipart/form-data; boundary=edge",
    silence: float = 5,
) -> Form:
    async def run() -> Form:
        chunks = [body[i : i + pieces] for i in range(0, len(body), pieces)] or [b""]

        async def receive() -> dict[str, object]:
            if chunks:
                return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}
            await asyncio.sleep(60)
            return {"type": "http.disconnect"}

        headers = [(b"content-type", content_type.encode())]
        request = Request({"type": "http", "headers": headers}, receive)
        async with read_form(request, max_bytes, limits_of(silence_seconds=silence), folder) as form:
            return form

    return asyncio.run(run())


@pytest.mark.parametrize("pieces", [1, 7, 10_000])
def test_fields_and_files(pieces: int) -> None:
    form = read(part("label", b"hat") + part("file", b"\0\r\n--ed\xff", "h\xe4t.jpg") + END, pieces=pieces)
    assert form.fields == {"label": "hat"}
    assert form.file("file").data == b"\0\r\n--ed\xff"
    assert form.file("other", "file").name == "hät.jpg"


def test_large_files_go_to_the_folder(tmp_path: Path) -> None:
    data = bytes(range(256)) * 12_000
    form = read(part("file", data, "x.zip") + END, max_bytes=10_000_000, folder=tmp_path, pieces=65_536)
    file = form.file("file")
    assert file.data == b""
    assert file.path and file.path.parent == tmp_path
    assert file.read() == data


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", InvalidRequest),
        (part("file", b"abc", "x"), InvalidRequest),
        (b"rubbish", InvalidRequest),
        (b"--edge\r\nContent-Disposition: form-data\r\n\r\nx\r\n" + END, InvalidRequest),
        (part("file", bytes(1001), "x") + END, TooLarge),
        (part("a", bytes(600), "x") + part("b", bytes(600), "x") + END, TooLarge),
        (part("label", bytes(5000)) + END, TooLarge),
        (part("file", b"", "x", headers=b"X: " + bytes(9000) + b"\r\n") + END, (TooLarge, InvalidRequest)),
        (part("a", b"") * 1001 + END, TooLarge),
    ],
)
def test_bad_bodies(body: bytes, error: type[AppError]) -> None:
    with pytest.raises(error, match="Expected"):
        read(body, pieces=1000)


@pytest.mark.parametrize("folder", [None, Path("/nowhere")])
def test_a_boundary_that_is_too_long(folder: Path | None) -> None:
    edge = "x" * 257
    with pytest.raises(InvalidRequest, match="malformed"):
        read(f"--{edge}--\r\n".encode(), folder=folder, content_type=f"multipart/form-data; boundary={edge}")


@pytest.mark.parametrize("content_type", ["", "application/json", "multipart/form-data"])
def test_other_content_types(content_type: str) -> None:
    with pytest.raises(InvalidRequest, match="multipart/form-data"):
        read(b"{}", content_type=content_type)


def test_silent_clients_time_out() -> None:
    async def run() -> None:
        async def receive() -> dict[str, object]:
            await asyncio.sleep(60)
            return {}

        headers = [(b"content-type", b"multipart/form-data; boundary=edge")]
        async with read_form(Request({"type": "http", "headers": headers}, receive), 1000, limits_of()):
            pytest.fail("the form was read")

    with pytest.raises(RequestTimeout, match=r"within 0\.05 s"):
        asyncio.run(run())


async def trickling(limits: BodyLimits, seconds: float, body: bytes = b"", announced: str = "") -> int:
    """Send a byte again and again; returns how many were read before the form was refused."""
    count = 0

    async def receive() -> dict[str, object]:
        nonlocal count
        count += 1
        await asyncio.sleep(seconds)
        return {"type": "http.request", "body": body or b"-", "more_body": True}

    headers = [(b"content-type", b"multipart/form-data; boundary=edge"), (b"content-length", announced.encode())]
    async with read_form(Request({"type": "http", "headers": headers}, receive), 10**6, limits):
        pytest.fail("the form was read")
    return count


def test_a_byte_now_and_then_is_too_slow() -> None:
    with pytest.raises(RequestTimeout, match="at least 1,000 bytes per second"):
        asyncio.run(trickling(limits_of(silence_seconds=0.1, min_bytes_per_second=1000), 0.01))


def test_a_body_has_a_longest_time() -> None:
    with pytest.raises(RequestTimeout, match=r"whole body within 0\.1 s"):
        asyncio.run(trickling(limits_of(min_bytes_per_second=0, request_seconds=0.1, silence_seconds=1), 0.01))


@pytest.mark.parametrize("announced", ["5000", ""])
def test_bodies_beyond_the_budget_are_refused_before_they_are_read(announced: str) -> None:
    with pytest.raises(Overloaded, match="memory for bodies") as refused:
        asyncio.run(trickling(limits_of(max_body_memory_bytes=2000), 0, bytes(300), announced))
    assert refused.value.headers == {"Retry-After": "1", "Connection": "close"}
    assert refused.value.reason == "memory"


def test_forms_share_the_budget_while_they_are_used(tmp_path: Path) -> None:
    limits = limits_of(max_body_memory_bytes=2000, max_body_disk_bytes=1000)

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": part("file", bytes(800), "x") + END, "more_body": False}

    def form(folder: Path | None = None) -> AbstractAsyncContextManager[Form]:
        headers = [(b"content-type", b"multipart/form-data; boundary=edge")]
        return read_form(Request({"type": "http", "headers": headers}, receive), 1000, limits, folder)

    async def run() -> None:
        async with form():
            async with form(tmp_path):
                with pytest.raises(Overloaded, match="disk for bodies"):
                    limits.disk.check(500)
            limits.disk.check(1000)
            with pytest.raises(Overloaded, match="memory for bodies"):
                limits.memory.check(1500)
        limits.memory.check(2000)

    asyncio.run(run())


def test_private_folders_are_always_removed(tmp_path: Path) -> None:
    async def run() -> AsyncIterator[None]:
        async with private_folder(tmp_path / "uploads") as folder:
            (folder / "part").write_bytes(b"1")
            raise RuntimeError("in the middle")
        yield

    with pytest.raises(RuntimeError):
        asyncio.run(anext(run()))  # type: ignore[arg-type]
    assert list((tmp_path / "uploads").iterdir()) == []


def json_request(body: bytes) -> Request:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request({"type": "http", "headers": []}, receive)


def test_json_is_read_into_a_model() -> None:
    assert asyncio.run(read_json(json_request(b'{"label": "hat"}'), LabelBody, 5)).label == "hat"


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        (b"", InvalidRequest, "the body to be valid"),
        (b"{}", InvalidRequest, "label to be valid"),
        (b'{"label": "\\ud800"}', InvalidRequest, "the body to be valid"),
        (b'{"label": "' + b"a" * 5000 + b'"}', TooLarge, "4,096 bytes"),
    ],
)
def test_json_of_another_shape(body: bytes, error: type[AppError], message: str) -> None:
    with pytest.raises(error, match=message):
        asyncio.run(read_json(json_request(body), LabelBody, 5))
