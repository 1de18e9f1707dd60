"""Until TensorFlow has arrived, the service teaches the head and refuses full retrains with a reason."""

import importlib.util

import httpx
import pytest

from helpers.pictures import lesson_zip
from helpers.service import finished_job


@pytest.fixture(autouse=True)
def without_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec

    def find(name: str, package: str | None = None) -> object:
        return None if name == "tensorflow" else find_spec(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find)


def retrain(client: httpx.Client, mode: str) -> dict[str, object]:
    response = client.post("/retrain", files={"file": lesson_zip("hat", 60)}, params={"mode": mode})
    return finished_job(client, response.json()["job_id"])


def test_a_full_retrain_names_the_missing_package(client: httpx.Client) -> None:
    job = retrain(client, "full")
    assert job["state"] == "failed"
    assert "Expected TensorFlow" in str(job["error"])
    assert "make install" in str(job["error"])


def test_auto_stays_with_a_quick_retrain(client: httpx.Client) -> None:
    job = retrain(client, "auto")
    assert (job["state"], job["mode"]) == ("published", "quick"), job["message"]
    assert "TensorFlow is not installed yet" in str(job["message"])
