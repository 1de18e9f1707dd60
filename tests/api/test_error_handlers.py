"""Every error has one shape, whatever went wrong."""

import errno
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from helpers.pictures import draw, lesson_zip
from helpers.service import Process, make_settings, running
from shoe_classifier.settings import Settings


def form(boundary: str, *more: str) -> dict[str, bytes]:
    return {"Content-Type": "; ".join(["multipart/form-data", f"boundary={boundary}", *more]).encode()}


def sqlite_error(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("x")
    error.sqlite_errorcode = code
    return error


CALLS = [
    ("GET", "/nowhere", {}, 404),
    ("GET", "/%ff%00", {}, 404),
    ("OPTIONS", "/predict", {}, 405),
    ("GET", "/nowhere/", {}, 404),
    ("GET", "/predict", {}, 405),
    ("PUT", "/upload", {}, 405),
    ("POST", "/predict", {}, 422),
    ("POST", "/predict", {"json": {"file": "x"}}, 422),
    ("POST", "/predict", {"files": {"file": b"x"}}, 422),
    ("POST", "/predict", {"files": {"file": ("x.pdf", b"%PDF")}}, 415),
    ("POST", "/predict/batch", {}, 422),
    (
        "POST",
        "/predict",
        {"headers": form("x" * 257)},
        422,
    ),
    (
        "POST",
        "/predict",
        {"headers": form("ü")},
        422,
    ),
    ("POST", "/predict", {"headers": form("", "boundary*=x''%ff")}, 422),
    ("POST", "/predict/batch", {"headers": form("x" * 257)}, 422),
    ("POST", "/upload", {}, 422),
    ("POST", "/upload", {"headers": {"X-Forwarded-For": "1.2.3.4"}}, 403),
    ("POST", "/retrain", {}, 409),
    ("POST", "/retrain", {"params": {"mode": "other"}}, 422),
    ("POST", "/retrain", {"params": {"max_seconds": "1e999"}}, 422),
    ("POST", "/retrain", {"headers": form("x" * 257), "content": b"x"}, 422),
    ("POST", "/retrain", {"headers": {"Content-Type": "text/plain"}, "content": b"x"}, 422),
    ("PATCH", "/training-data/none", {"content": b"\xff"}, 422),
    ("PATCH", "/training-data/none", {"content": b'{"label": "\\ud800"}'}, 422),
    ("PATCH", "/training-data/%00", {"json": {"label": "x"}}, 404),
    ("DELETE", "/training-data/none", {}, 404),
    ("GET", "/retrain/%00", {}, 404),
    ("GET", "/models/%ed%a0%80", {}, 404),
    ("GET", "/models/none/report.png", {}, 404),
    ("GET", "/models/none/file?format=%00", {}, 422),
    ("GET", "/retrain/none", {}, 404),
    ("DELETE", "/retrain/none", {}, 404),
    ("GET", "/retrain/none/events", {}, 404),
    ("GET", "/models/none", {}, 404),
    ("GET", "/models/none/file", {}, 404),
    ("POST", "/models/none/activate", {}, 404),
    ("GET", "/predictions?limit=-1", {}, 422),
    ("GET", "/training-data?before=x", {}, 422),
    ("GET", "/files/none", {}, 422),
    ("GET", f"/files/{'0' * 64}", {}, 404),
]


@pytest.fixture(scope="module")
def shared(model_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """One service for all calls, because none of them changes anything."""
    folder = tmp_path_factory.mktemp("service")
    (folder / "models").mkdir()
    shutil.copy(model_file, folder / "models" / "shoe_classifier.h5")
    with running(make_settings(folder)) as client:
        yield client


@pytest.mark.parametrize(("method", "path", "content", "status"), CALLS)
def test_shape(shared: httpx.Client, method: str, path: str, content: dict[str, object], status: int) -> None:
    response = shared.request(method, path, **content)  # type: ignore[arg-type]
    body = response.json()
    assert response.status_code == status
    assert set(body) == {"detail", "code"}
    assert body["detail"].startswith("Expected ")
    assert body["code"] == body["code"].lower()


@pytest.mark.parametrize("error", [RuntimeError("a secret"), KeyError("a secret"), OSError("a secret")])
def test_unknown_failures_do_not_show_their_text(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    with running(settings) as client:

        def broken(*_: object) -> None:
            raise error

        monkeypatch.setattr(client.app.state.service.live_model, "predict", broken)  # type: ignore[attr-defined]
        response = client.post("/predict", files={"file": draw("Boot", 1)})
        assert response.status_code == 500
        assert response.json() == {
            "detail": "The service failed internally; its log says why.",
            "code": "internal_error",
        }


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (OSError(errno.ENOSPC, "x"), 507, "storage_full"),
        (sqlite_error(sqlite3.SQLITE_FULL), 507, "storage_full"),
        (OSError(errno.EROFS, "x"), 507, "storage_read_only"),
        (sqlite_error(sqlite3.SQLITE_READONLY_DBMOVED), 507, "storage_read_only"),
        (sqlite_error(sqlite3.SQLITE_BUSY_SNAPSHOT), 503, "store_unavailable"),
    ],
)
def test_a_failing_disk(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, failure: Exception, status: int, code: str
) -> None:
    with running(settings) as client:

        def broken(*_: object) -> None:
            raise failure

        monkeypatch.setattr(client.app.state.service.store, "add_training", broken)  # type: ignore[attr-defined]
        response = client.post("/upload", files={"file": draw("Boot", 1)}, data={"label": "Boot"})
        assert (response.status_code, response.json()["code"]) == (status, code)
        assert client.get("/training-data").json() == []


def test_read_only_folders(settings: Settings, start: Callable[..., Process]) -> None:
    client = start(as_user=True).client
    first = client.get("/models").json()[0]["version"]
    taught = client.post("/retrain?wait=true&mode=quick&force=true", files={"file": lesson_zip("hat", 20)}).json()
    assert taught["state"] == "published", taught
    client.post("/upload", files={"file": draw("hat", 90)}, data={"label": "hat"})
    told = "Expected to write to the service's folders; they are read-only."

    settings.models_dir.chmod(0o555)
    activation = client.post(f"/models/{first}/activate")
    assert (activation.status_code, activation.json()["code"]) == (507, "storage_read_only")
    job = client.post("/retrain?wait=true&mode=quick&force=true").json()
    assert job["state"] == "failed" and job["error"].startswith(told)

    settings.temp_uploads_dir.chmod(0o555)
    upload = client.post("/upload", files={"file": draw("hat", 91)}, data={"label": "hat"})
    assert upload.status_code == 507 and upload.json()["detail"].startswith(told)

    settings.models_dir.chmod(0o755)
    settings.temp_uploads_dir.chmod(0o755)
    assert client.post(f"/models/{first}/activate").status_code == 200
    assert client.post("/upload", files={"file": draw("hat", 91)}, data={"label": "hat"}).status_code == 201
