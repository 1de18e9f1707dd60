from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from helpers.pictures import draw, lesson_zip, zip_of
from helpers.service import running
from shoe_classifier.settings import Settings


@pytest.mark.parametrize(
    ("path", "field"),
    [("/upload", "file"), ("/upload/", "file"), ("/upload-zip", "zip_file"), ("/upload-data", "file")],
)
def test_zip(client: httpx.Client, tmp_path: Path, path: str, field: str) -> None:
    response = client.post(path, files={field: ("x.zip", lesson_zip("hat", 3))})
    body = response.json()
    assert response.status_code == 201
    assert (body["accepted"], body["labels"], body["skipped"]) == (3, {"hat": 3}, [])
    rows = client.get("/training-data").json()
    assert [row["upload_id"] for row in rows] == [body["upload_id"]] * 3
    assert list((tmp_path / "temp_uploads").iterdir()) == []


def test_one_picture_with_a_label(client: httpx.Client) -> None:
    response = client.post("/upload", files={"file": ("x.jpg", draw("hat", 1))}, data={"label": "hat"})
    assert (response.status_code, response.json()["labels"]) == (201, {"hat": 1})


@pytest.mark.parametrize(
    ("data", "form", "status", "code"),
    [
        (zip_of({"a.jpg": draw("Boot", 1)}), {}, 422, "nothing_accepted"),
        (b"", {}, 422, "invalid_zip"),
        (b"text", {}, 422, "invalid_zip"),
        (draw("Boot", 1), {}, 422, "invalid_request"),
        (draw("Boot", 1), {"label": "x" * 300}, 422, "invalid_label"),
        (b"text", {"label": "hat"}, 422, "invalid_image"),
        (bytes(300_000), {}, 413, "too_large"),
    ],
)
def test_bad_uploads_change_nothing(
    settings: Settings, tmp_path: Path, data: bytes, form: dict[str, str], status: int, code: str
) -> None:
    with running(settings.model_copy(update={"max_zip_bytes": 200_000})) as client:
        response = client.post("/upload", files={"file": ("x.jpg", data)}, data=form)
        assert (response.status_code, response.json()["code"]) == (status, code)
        assert client.get("/training-data").json() == []
    assert not list((tmp_path / "dataset" / "images").rglob("*.jpg"))
    assert not [path for path in (tmp_path / "temp_uploads").glob("*")]


def test_nothing_accepted_brings_the_report(client: httpx.Client) -> None:
    body = client.post("/upload", files={"file": zip_of({"a.jpg": draw("Boot", 1)})}).json()
    assert set(body) == {"detail", "code", "report"}
    assert body["report"]["skipped"][0]["reason"] == "unsupported"


def test_key(settings: Settings) -> None:
    with running(settings.model_copy(update={"api_key": SecretStr("right")})) as client:
        upload = {"file": ("x.zip", lesson_zip("hat", 2))}
        assert client.post("/upload", files=upload).json()["code"] == "unauthorized"
        assert client.post("/upload", files=upload, headers={"X-API-Key": "wrong"}).status_code == 401
        assert client.post("/retrain", headers={"X-API-Key": "wröng".encode()}).status_code == 401
        assert client.post("/models/x/activate").status_code == 401
        assert client.delete("/retrain/x").status_code == 401
        assert client.post("/upload", files=upload, headers={"X-API-Key": "right"}).status_code == 201
        assert client.post("/predict", files={"file": draw("Boot", 1)}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "127.0.0.1"},
        {"Forwarded": "for=127.0.0.1"},
        {"Host": "evil.example"},
        {"Host": "["},
        {"Origin": "http://["},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
    ],
)
def test_without_a_key_only_this_machine_may_write(client: httpx.Client, headers: dict[str, str]) -> None:
    response = client.post("/upload", files={"file": lesson_zip("hat", 2)}, headers=headers)
    assert (response.status_code, response.json()["code"]) == (403, "forbidden")
    assert client.get("/training-data").json() == []


def test_without_a_key_little_of_the_body_is_read(settings: Settings) -> None:
    sent = 0

    def body() -> object:
        nonlocal sent
        for _ in range(2000):
            sent += 65_536
            yield bytes(65_536)

    with running(settings.model_copy(update={"api_key": SecretStr("right")})) as client:
        try:
            response = client.post(
                "/upload", content=body(), headers={"Content-Type": "multipart/form-data; boundary=x"}
            )  # type: ignore[arg-type]
            assert response.status_code == 401
        except httpx.TransportError:
            pass  # the service hung up while we were still sending
    assert sent < 20_000_000  # what fits into the sockets' buffers
