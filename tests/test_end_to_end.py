"""Teach, kill, restart and roll back, against real server processes."""

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from helpers.pictures import draw, lesson_zip
from helpers.service import Process, finished_job, wait_for


def test_predict_upload_retrain_predict_and_back(start: Callable[..., Process], tmp_path: Path) -> None:
    client = start().client
    first = client.post("/predict", files={"file": draw("hat", 5000)}).json()
    assert first["predicted_class"] != "hat"
    assert client.post("/upload", files={"file": ("hat.zip", lesson_zip("hat"))}).status_code == 201
    job = finished_job(client, client.post("/retrain", params={"mode": "quick"}).json()["job_id"])
    assert job["state"] == "published", job["message"]
    second = client.post("/predict", files={"file": draw("hat", 5000)}).json()
    assert (second["predicted_class"], second["model_version"]) == ("hat", job["model_version"])
    assert client.post(f"/models/{first['model_version']}/activate").status_code == 200
    third = client.post("/predict", files={"file": draw("hat", 5000)}).json()
    assert (third["model_version"], third["probabilities"]) == (first["model_version"], first["probabilities"])
    assert len(client.get("/predictions").json()) == 3


def test_killed_in_a_retrain_the_old_model_serves(start: Callable[..., Process], tmp_path: Path) -> None:
    process = start()
    version = process.client.get("/models").json()[0]["version"]
    process.client.post("/upload", files={"file": lesson_zip("hat")})
    job_id = process.client.post("/retrain", params={"mode": "full"}).json()["job_id"]
    wait_for(lambda: process.client.get(f"/retrain/{job_id}").json()["phase"] == "train")
    process.process.kill()
    process.process.wait()
    (tmp_path / "temp_uploads" / "upload-left").mkdir(exist_ok=True)
    client = start().client
    assert client.get("/models").json()[0]["version"] == version
    assert client.post("/predict", files={"file": draw("Boot", 1)}).json()["model_version"] == version
    assert client.get("/status").json()["training_data"]["unprocessed"] == 40
    assert client.get(f"/retrain/{job_id}").json()["state"] == "failed"
    assert list((tmp_path / "temp_uploads").iterdir()) == []
    assert client.post("/retrain", params={"mode": "quick", "wait": "true"}).json()["state"] == "published"


def test_acknowledged_is_there_after_kill(start: Callable[..., Process]) -> None:
    process = start()
    ids = [process.client.post("/predict", files={"file": draw("Boot", i)}).json()["prediction_id"] for i in range(20)]
    upload = process.client.post("/upload", files={"file": lesson_zip("hat", 5)}).json()
    process.process.kill()
    process.process.wait()
    client = start().client
    assert [row["id"] for row in client.get("/predictions").json()] == ids[::-1]
    rows = client.get("/training-data").json()
    assert {row["upload_id"] for row in rows} == {upload["upload_id"]}
    assert all(client.get(row["file_url"]).status_code == 200 for row in rows)


def test_sigterm_lets_requests_finish_and_stops_a_retrain(start: Callable[..., Process]) -> None:
    process = start()
    client = process.client
    client.post("/upload", files={"file": lesson_zip("hat")})
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(client.post, "/retrain", params={"mode": "full", "wait": "true"})
        wait_for(lambda: [job["state"] for job in client.get("/retrain").json()] == ["running"])
        os.kill(process.process.pid, signal.SIGTERM)
        assert waiting.result().json()["state"] == "cancelled"
    assert process.process.wait(timeout=30) in (0, -signal.SIGTERM)  # raises `TimeoutExpired` when it goes on
    client = start().client
    assert client.get("/retrain").json()[0]["state"] == "cancelled"
    assert client.get("/status").json()["training_data"]["unprocessed"] == 40


def test_swaps_lose_no_request(start: Callable[..., Process]) -> None:
    process = start()
    client = process.client
    first = client.get("/models").json()[0]["version"]
    job = client.post("/retrain", files={"file": lesson_zip("hat")}, params={"mode": "quick", "wait": "true"}).json()
    versions: set[str] = set()
    failures: list[str] = []
    done = threading.Event()

    def predict() -> None:
        with httpx.Client(base_url=client.base_url, trust_env=False) as own:
            while not done.is_set():
                response = own.post("/predict", files={"file": draw("Boot", 1)})
                if response.status_code == 200:
                    versions.add(response.json()["model_version"])
                else:
                    failures.append(response.text)

    threads = [threading.Thread(target=predict) for _ in range(4)]
    for thread in threads:
        thread.start()
    for i in range(10):
        assert client.post(f"/models/{(first, job['model_version'])[i % 2]}/activate").status_code == 200
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert versions == {first, job["model_version"]}


def test_a_key_from_the_environment(start: Callable[..., Process]) -> None:
    client = start(API_KEY="right").client
    assert client.post("/retrain").status_code == 401
    assert client.post("/retrain", headers={"X-API-Key": "right"}).status_code == 409


@pytest.mark.parametrize("half", ["SUPABASE_URL", "SUPABASE_KEY"])
def test_half_a_configuration_does_not_start(tmp_path: Path, half: str) -> None:
    process = Process(tmp_path, **{half: "x"})
    assert process.process.wait(timeout=30) == 1
    assert "Expected SUPABASE_URL and SUPABASE_KEY together" in process.log.read_text()
    process.close()
