"""Several processes on one port, one set of model files and one store."""

import signal
import time
from collections.abc import Callable

import httpx

from helpers.pictures import draw, lesson_zip
from helpers.service import Process, wait_for


def ask(process: Process, method: str, path: str, **options: object) -> httpx.Response:
    """A request on a connection of its own: any worker may take it."""
    return httpx.request(method, f"{process.client.base_url}{path}", timeout=100, trust_env=False, **options)


def two_workers(start: Callable[..., Process]) -> Process:
    """A service whose workers are both ready: each loads its model by itself."""
    process = start(UVICORN_WORKERS="2")
    wait_for(lambda: all(ask(process, "GET", "/ready").status_code == 200 for _ in range(20)))
    return process


def versions(process: Process, tries: int = 12) -> list[str]:
    return [
        ask(process, "POST", "/predict", files={"file": draw("hat", 1)}).json()["model_version"] for _ in range(tries)
    ]


def test_all_workers_swap_within_a_second(start: Callable[..., Process]) -> None:
    process = two_workers(start)
    before = set(versions(process))
    assert len(before) == 1
    job = ask(process, "POST", "/retrain?wait=true&mode=quick", files={"file": lesson_zip("hat", 60)}).json()
    assert job["state"] == "published", job
    time.sleep(1)  # the promise itself
    assert set(versions(process, 30)) == {job["model_version"]} != before


def test_one_retrain_at_a_time_seen_and_cancelled_from_anywhere(start: Callable[..., Process]) -> None:
    process = two_workers(start)
    ask(process, "POST", "/upload", files={"file": lesson_zip("hat", 60)})
    job_id = ask(process, "POST", "/retrain?mode=full").json()["job_id"]
    again = [ask(process, "POST", "/retrain") for _ in range(8)]
    assert {(response.status_code, response.json()["code"]) for response in again} == {(409, "retrain_running")}
    wait_for(lambda: all(ask(process, "GET", f"/retrain/{job_id}").json()["progress"] > 0 for _ in range(6)))
    assert ask(process, "DELETE", f"/retrain/{job_id}").status_code == 202
    wait_for(lambda: {ask(process, "GET", f"/retrain/{job_id}").json()["state"] for _ in range(6)} == {"cancelled"})
    assert ask(process, "GET", "/status").json()["training_data"]["unprocessed"] == 60


def test_sigterm_ends_all_workers(start: Callable[..., Process]) -> None:
    process = two_workers(start)
    seen = set(versions(process))
    process.process.send_signal(signal.SIGTERM)
    assert process.process.wait(30) == 0
    assert set(versions(two_workers(start))) == seen
