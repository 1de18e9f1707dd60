"""Several processes on one port, one set of model files and one store."""

import logging
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn

from helpers.pictures import draw, lesson_zip
from helpers.service import Process, make_settings, wait_for
from helpers.supabase_stack import free_port
from shoe_classifier.api import server
from shoe_classifier.main import create_app
from shoe_classifier.settings import Settings


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Restore what `serve` changes when a test calls it in this process."""
    root, ours = logging.getLogger(), logging.getLogger("shoe_classifier")
    before = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


def test_answers_are_sent_without_delay(settings: Settings) -> None:
    with (
        server._listen(settings.model_copy(update={"host": "127.0.0.1", "port": 0})) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as connection,
    ):
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def request(process: Process, method: str, path: str, **options: object) -> httpx.Response:
    """A request on a connection of its own: any worker may take it."""
    return httpx.request(method, f"{process.client.base_url}{path}", timeout=100, trust_env=False, **options)


def two_workers(start: Callable[..., Process]) -> Process:
    """A service whose workers are both ready: each loads its model by itself."""
    process = start(UVICORN_WORKERS="2")
    wait_for(lambda: all(request(process, "GET", "/ready").status_code == 200 for _ in range(20)))
    return process


def versions(process: Process, tries: int = 12) -> list[str]:
    return [
        request(process, "POST", "/predict", files={"file": draw("hat", 1)}).json()["model_version"]
        for _ in range(tries)
    ]


def test_all_workers_swap_within_a_second(start: Callable[..., Process]) -> None:
    process = two_workers(start)
    before = set(versions(process))
    assert len(before) == 1
    job = request(
        process, "POST", "/retrain?wait=true&mode=quick&force=true", files={"file": lesson_zip("hat", 60)}
    ).json()
    assert job["state"] == "published", job
    time.sleep(1)  # the promise itself
    assert set(versions(process, 30)) == {job["model_version"]} != before


def test_one_retrain_at_a_time_whichever_worker_answers(start: Callable[..., Process]) -> None:
    process = two_workers(start)
    request(process, "POST", "/upload", files={"file": lesson_zip("hat", 60)})
    job_id = request(process, "POST", "/retrain?mode=full").json()["job_id"]
    again = [request(process, "POST", "/retrain") for _ in range(8)]
    assert {(response.status_code, response.json()["code"]) for response in again} == {(409, "retrain_running")}
    wait_for(lambda: all(request(process, "GET", f"/retrain/{job_id}").json()["progress"] > 0 for _ in range(6)))
    assert request(process, "DELETE", f"/retrain/{job_id}").status_code == 202
    wait_for(lambda: {request(process, "GET", f"/retrain/{job_id}").json()["state"] for _ in range(6)} == {"cancelled"})
    assert request(process, "GET", "/status").json()["training_data"]["unprocessed"] == 60


def test_sigterm_ends_all_workers(start: Callable[..., Process]) -> None:
    process = two_workers(start)
    before = set(versions(process))
    process.process.send_signal(signal.SIGTERM)
    assert process.process.wait(30) == 0
    assert set(versions(two_workers(start))) == before


def test_workers_import_the_factory_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configs: list[uvicorn.Config] = []

    class Supervisor:
        def __init__(self, config: uvicorn.Config, sockets: list[object]):
            configs.append(config)

        def run(self) -> None: ...

    monkeypatch.setattr(server.multiprocess, "Multiprocess", Supervisor)
    monkeypatch.setattr(server.multiprocess, "Process", server.multiprocess.Process)  # restored afterwards
    server.serve(make_settings(tmp_path, port=0, uvicorn_workers=2), create_app)
    (config,) = configs
    assert (config.app, config.factory, config.workers) == ("shoe_classifier.main:create_app", True, 2)
    config.load()
    assert config.loaded_app is not None


def test_wrong_settings_end_with_their_message(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="SUPABASE_URL and SUPABASE_KEY of a project"):
        server.serve(make_settings(tmp_path, port=0, supabase_url="no address", supabase_key="y"), create_app)


@pytest.mark.parametrize(("host", "shown"), [("0.0.0.0", "localhost"), ("127.0.0.1", "localhost"), ("::1", "[::1]")])
def test_the_address_printed_can_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], host: str, shown: str
) -> None:
    monkeypatch.setattr(uvicorn.Server, "run", lambda *_: None)
    server.serve(make_settings(tmp_path, host=host, port=free_port()), create_app)
    assert re.search(rf"http://{re.escape(shown)}:\d+/docs", capsys.readouterr().out)


def leave_upload(settings: Settings) -> Path:
    """What a killed process leaves of an upload, or a running one has of it."""
    folder = settings.temp_uploads_dir / "upload-x"
    folder.mkdir(parents=True)
    (folder / "part").write_bytes(b"x")
    return folder


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_uploads_that_a_killed_service_left_are_cleared(
    settings: Settings, start: Callable[..., Process], workers: str
) -> None:
    left, other = leave_upload(settings), settings.temp_uploads_dir / "other"
    other.mkdir()
    start(UVICORN_WORKERS=workers)
    assert not left.exists()
    assert other.exists()


@pytest.mark.parametrize(("same_port", "told"), [(True, "Address already in use"), (False, "for this service alone")])
def test_a_second_service_ends_and_clears_nothing(
    settings: Settings, start: Callable[..., Process], same_port: bool, told: str
) -> None:
    first = start()
    upload = leave_upload(settings)
    port = first.port if same_port else free_port()
    second = Process.run(settings.models_dir.parent, "serve", "--port", str(port))
    assert second.returncode == 1
    assert told in second.stderr and second.stderr.count("\n") == 1
    assert upload.exists()
    assert first.client.get("/ready").status_code == 200


def test_a_service_starts_again_after_a_kill(start: Callable[..., Process]) -> None:
    first = start()
    first.close()
    start()


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_a_closed_terminal_stops_nothing(start: Callable[..., Process], workers: str) -> None:
    process = start(UVICORN_WORKERS=workers)
    children = Path(f"/proc/{process.process.pid}/task/{process.process.pid}/children").read_text().split()
    os.killpg(process.process.pid, signal.SIGHUP)
    time.sleep(1)  # twice the supervisor's look at its signals
    assert process.client.get("/ready").status_code == 200
    assert Path(f"/proc/{process.process.pid}/task/{process.process.pid}/children").read_text().split() == children


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_a_second_sigterm_lets_requests_finish(start: Callable[..., Process], workers: str) -> None:
    process = start(UVICORN_WORKERS=workers)
    form = httpx.Request("POST", f"{process.client.base_url}/predict", files={"file": draw("hat", 1)})
    body, headers = form.read(), "".join(f"{name}: {value}\r\n" for name, value in form.headers.items())
    with socket.create_connection(("127.0.0.1", process.port)) as client:
        client.sendall(f"POST /predict HTTP/1.1\r\n{headers}\r\n".encode())
        time.sleep(0.5)  # until the request has begun
        for _ in range(2):
            os.killpg(process.process.pid, signal.SIGTERM)
            time.sleep(0.2)
        client.sendall(body)
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
    assert process.process.wait(30) in (0, -signal.SIGTERM)
    assert "Traceback" not in process.log.read_text()
