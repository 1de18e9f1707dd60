import re

import httpx
import pytest

from helpers.pictures import draw


def test_alive_and_ready(client: httpx.Client) -> None:
    assert client.get("/health").json() == {"status": "alive"}
    assert client.get("/ready").json() == {"status": "ready"}


def test_status_says_everything(client: httpx.Client) -> None:
    client.post("/predict", files={"file": draw("Boot", 1)})
    body = client.get("/status").json()
    assert body["status"] == "ready"
    assert body["model"]["labels"] == ["Boot", "Sandal", "Shoe"]
    assert body["store"] == {
        "kind": "sqlite", "unrecorded_predictions": 0, "waiting_predictions": 0, "dropped_predictions": 0,
    }  # fmt: skip
    assert body["training_data"] == {"labels": {}, "unprocessed": 0}
    assert body["retrain"] is None
    assert body["requests"]["count"] >= 1
    assert body["limits"]["max_image_bytes"] == 15 << 20


def test_metrics_count(client: httpx.Client) -> None:
    client.post("/predict", files={"file": draw("Boot", 1)})
    client.post("/predict", files={"file": b"text"})
    client.get("/models/none")
    text = client.get("/metrics").text
    assert 'shoe_requests_total{method="POST",path="/predict",status="200"} 1.0' in text
    assert 'shoe_requests_total{method="POST",path="/predict",status="422"} 1.0' in text
    assert 'path="/models/{version}",status="404"' in text
    assert re.search(r'shoe_predictions_total\{decision="\w+",label="\w+"\} 1.0', text)
    assert "process_resident_memory_bytes" in text


def test_trailing_slashes_answer_directly(client: httpx.Client) -> None:
    for path in ("/health/", "/models/", "/predictions/", "/status/", "/retrain/", "/docs/", "/openapi.json/"):
        assert client.get(path).status_code == 200, path
    assert client.post("/predict/", files={"file": draw("Boot", 1)}).status_code == 200


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_probes_may_use_head(client: httpx.Client, path: str) -> None:
    response = client.head(path)
    assert (response.status_code, response.content) == (200, b"")
