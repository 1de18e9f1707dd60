import asyncio
import re

import httpx

from helpers.pictures import draw
from helpers.service import wait_for
from shoe_classifier.api.metrics import RequestMetrics, write_minutes
from shoe_classifier.types import MinuteMetrics


def test_alive_and_ready(client: httpx.Client) -> None:
    assert client.get("/health").json() == {"status": "alive"}
    assert client.get("/ready").json() == {"status": "ready"}


def test_status_says_everything(client: httpx.Client) -> None:
    client.post("/predict", files={"file": draw("Boot", 1)})
    body = client.get("/status").json()
    assert body["status"] == "ready"
    assert body["model"]["labels"] == ["Boot", "Sandal", "Shoe"]
    assert body["store"] == {"kind": "sqlite", "unrecorded_predictions": 0}
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


def test_swagger_has_pickers_and_examples(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    assert "/upload-zip" not in document["paths"]
    for path, field in (("/predict", "file"), ("/predict/batch", "files"), ("/upload", "file"), ("/retrain", "file")):
        form = document["paths"][path]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
        schema = form["properties"][field]
        assert (schema.get("items") or schema)["format"] == "binary"
    schemas = document["components"]["schemas"]
    assert all(
        "example" in schemas[name] for name in ("PredictionBody", "UploadBody", "JobBody", "ModelBody", "ErrorBody")
    )
    assert document["paths"]["/upload"]["post"]["security"]


def test_a_row_a_minute_while_there_is_traffic() -> None:
    rows: list[MinuteMetrics] = []

    class Rows:
        def add_minute(self, row: MinuteMetrics) -> None:
            rows.append(row)

    async def run() -> None:
        traffic = RequestMetrics()
        task = asyncio.create_task(write_minutes(traffic, Rows(), lambda: "ready", 0.01))  # type: ignore[arg-type]
        await asyncio.sleep(0.05)
        assert rows == []
        traffic.count("/x", "GET", 200, 0.002)
        traffic.count("/x", "GET", 200, 0.004)
        await asyncio.to_thread(wait_for, lambda: rows)
        traffic.count("/x", "GET", 200, 0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
    assert [(row.request_count, row.avg_response_time) for row in rows] == [(2, 3.0), (1, 1.0)]
