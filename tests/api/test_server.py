"""Several processes on one port, one set of model files and one store."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import uvicorn

from helpers.pictures import draw, lesson_zip
from helpers.service import Process, make_settings, wait_for
from shoe_classifier.api import server
from shoe_classifier.main import create_app


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
    monkeypatch.setattr(uvicorn.Config, "bind_socket", lambda _: None)
    server.serve(make_settings(tmp_path, uvicorn_workers=2), create_app)
    (config,) = configs
    assert (config.app, config.factory, config.workers) == ("shoe_classifier.main:create_app", True, 2)
    config.load()
    assert config.loaded_app is not None


def test_wrong_settings_end_with_their_message(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="SUPABASE_URL and SUPABASE_KEY of a project"):
        server.serve(make_settings(tmp_path, supabase_url="no address", supabase_key="y"), create_app)


@pytest.mark.parametrize(("host", "shown"), [("0.0.0.0", "localhost"), ("127.0.0.1", "localhost"), ("::1", "[::1]")])
def test_the_address_printed_can_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], host: str, shown: str
) -> None:
    monkeypatch.setattr(uvicorn.Server, "run", lambda _: None)
    server.serve(make_settings(tmp_path, host=host, port=9000), create_app)
    assert f"http://{shown}:9000/docs" in capsys.readouterr().out
