import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.requests import Request

from shoe_classifier.api.form import Form
from shoe_classifier.api.multipart import private_folder, read_form, read_json
from shoe_classifier.api.schemas import LabelBody
from shoe_classifier.errors import AppError, InvalidRequest, RequestTimeout, TooLarge


def part(name: str, data: bytes, filename: str | None = None, headers: bytes = b"") -> bytes:
    disposition = f'Content-Disposition: form-data; name="{name}"' + (f'; filename="{filename}"' if filename else "")
    return b"--edge\r\n" + disposition.encode() + b"\r\n" + headers + b"\r\n" + data + b"\r\n"


END = b"--edge--\r\n"


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
        return await read_form(Request({"type": "http", "headers": headers}, receive), max_bytes, silence, folder)

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


def test_small_files_go_to_disk_when_asked(tmp_path: Path) -> None:
    file = read(part("file", b"abc", "x") + END, folder=tmp_path).file("file")
    assert file.path is None
    assert file.on_disk(tmp_path).read_bytes() == b"abc"


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


def test_a_missing_file_names_the_fields_received() -> None:
    with pytest.raises(InvalidRequest, match=r"'file'; received \['picture'\]"):
        read(part("picture", b"1", "x") + END).file("file")


def test_silent_clients_time_out() -> None:
    async def run() -> None:
        async def receive() -> dict[str, object]:
            await asyncio.sleep(60)
            return {}

        headers = [(b"content-type", b"multipart/form-data; boundary=edge")]
        await read_form(Request({"type": "http", "headers": headers}, receive), 1000, 0.05)

    with pytest.raises(RequestTimeout, match=r"within 0\.05 s"):
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
