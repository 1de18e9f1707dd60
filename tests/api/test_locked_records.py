"""Predictions while another program, such as a database viewer, locks the records."""

import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import httpx
import pytest

from helpers.pictures import draw
from helpers.service import Process, wait_for
from shoe_classifier.settings import Settings

PREDICTIONS = 40


@contextmanager
def locked(settings: Settings) -> Iterator[None]:
    with closing(sqlite3.connect(settings.dataset_dir / "records.sqlite3", isolation_level=None)) as other:
        other.execute("begin exclusive")
        yield


def predict_many(process: Process) -> set[str]:
    """Predict from two clients; each answer takes less than a second. Returns the ids."""

    def predict(number: int) -> tuple[str, float]:
        began = time.monotonic()
        answer = process.client.post("/predict", files={"file": draw("hat", number)})
        return answer.json()["prediction_id"], time.monotonic() - began

    with ThreadPoolExecutor(2) as clients:
        answers = list(clients.map(predict, range(PREDICTIONS)))
    assert max(seconds for _, seconds in answers) < 1
    return {prediction_id for prediction_id, _ in answers}


def store(process: Process) -> dict[str, Any]:
    return process.client.get("/status").json()["store"]


def test_they_are_answered_at_once_and_recorded_later(settings: Settings, start: Callable[..., Process]) -> None:
    process = start()
    with locked(settings):
        ids = predict_many(process)
        assert store(process)["waiting_predictions"] == PREDICTIONS
    wait_for(lambda: store(process)["waiting_predictions"] == 0)
    assert {row["id"] for row in process.client.get("/predictions?limit=100").json()} == ids
    assert store(process)["dropped_predictions"] == 0 == store(process)["unrecorded_predictions"]


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_what_waits_is_recorded_at_the_end(settings: Settings, start: Callable[..., Process], workers: str) -> None:
    process = start(UVICORN_WORKERS=workers)
    ready = f"{process.client.base_url}/ready"
    wait_for(lambda: all(httpx.get(ready, trust_env=False).status_code == 200 for _ in range(20)))  # each worker
    with locked(settings):
        ids = predict_many(process)
        process.process.send_signal(signal.SIGTERM)
        time.sleep(1)  # it still waits for the records
        assert process.process.poll() is None
    process.process.wait(30)
    with closing(sqlite3.connect(settings.dataset_dir / "records.sqlite3")) as records:
        assert {prediction_id for (prediction_id,) in records.execute("select id from Predict")} == ids
