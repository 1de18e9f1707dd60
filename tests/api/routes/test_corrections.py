import io
import socket
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from helpers.pictures import draw, lesson_zip
from helpers.service import finished_job, make_settings, running
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml import finetune
from shoe_classifier.settings import Settings


def predict(client: httpx.Client, data: bytes) -> dict[str, str]:
    answer: dict[str, str] = client.post("/predict", files={"file": data}).json()
    return answer


def test_feedback_puts_the_picture_into_the_training_data(client: httpx.Client) -> None:
    picture = draw("hat", 1)
    prediction_id = predict(client, picture)["prediction_id"]
    response = client.post(f"/predictions/{prediction_id}/feedback", json={"label": " hat "})
    row = response.json()
    assert (response.status_code, row["shoe_class"], row["source"], row["is_processed"]) == (
        201,
        "hat",
        "feedback",
        False,
    )
    assert client.get(row["file_url"]).content == picture
    assert client.get("/training-data").json() == [row]


def test_feedback_again_relabels(client: httpx.Client) -> None:
    prediction_id = predict(client, draw("hat", 1))["prediction_id"]
    first = client.post(f"/predictions/{prediction_id}/feedback", json={"label": "hat"}).json()
    second = client.post(f"/predictions/{prediction_id}/feedback", json={"label": "boot"}).json()
    assert (second["id"], second["shoe_class"]) == (first["id"], "Boot")  # the model's spelling wins
    assert len(client.get("/training-data").json()) == 1


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("none", {"label": "hat"}, 404, "not_found"),
        ("019a8f6e-2c1b-7d10-9a55-3f1f0c4d8e21", {"label": "hat"}, 404, "not_found"),
        ("real", {"label": "../x"}, 422, "invalid_label"),
        ("real", {"label": ""}, 422, "invalid_label"),
        ("real", {}, 422, "invalid_request"),
        ("real", {"label": 5}, 422, "invalid_request"),
        ("real", {"label": "hat", "more": 1}, 422, "invalid_request"),
    ],
)
def test_feedback_that_makes_no_sense(
    client: httpx.Client, path: str, body: dict[str, object], status: int, code: str
) -> None:
    real = predict(client, draw("hat", 1))["prediction_id"]
    response = client.post(f"/predictions/{real if path == 'real' else path}/feedback", json=body)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert client.get("/training-data").json() == []


def test_feedback_on_what_was_not_kept(settings: Settings) -> None:
    with running(settings.model_copy(update={"store_prediction_images": False})) as client:
        prediction_id = predict(client, draw("hat", 1))["prediction_id"]
        response = client.post(f"/predictions/{prediction_id}/feedback", json={"label": "hat"})
        assert response.status_code == 404 and "was kept" in response.json()["detail"]


def test_a_picture_too_small_to_teach(client: httpx.Client) -> None:
    prediction_id = predict(client, draw("hat", 1, (12, 12)))["prediction_id"]
    response = client.post(f"/predictions/{prediction_id}/feedback", json={"label": "hat"})
    assert (response.status_code, response.json()["code"]) == (422, "too_small")


def test_relabelled_pictures_are_learnt_again(client: httpx.Client) -> None:
    client.post("/upload", files={"file": lesson_zip("hat", 40)})
    job = client.post("/retrain", params={"wait": "true", "mode": "quick", "force": "true"}).json()
    assert job["state"] == "published", job["message"]
    row = client.get("/training-data").json()[0]
    changed = client.patch(f"/training-data/{row['id']}", json={"label": "cap"}).json()
    assert changed == {**row, "shoe_class": "cap", "is_processed": False}
    same = client.patch(f"/training-data/{row['id']}", json={"label": "CAP"}).json()
    assert same == changed
    assert client.get("/status").json()["training_data"] == {"labels": {"hat": 39, "cap": 1}, "unprocessed": 1}


def test_deleted_pictures_are_gone(client: httpx.Client) -> None:
    client.post("/upload", files={"file": lesson_zip("hat", 2)})
    row = client.get("/training-data").json()[0]
    assert client.delete(f"/training-data/{row['id']}").status_code == 204
    assert client.get(row["file_url"]).status_code == 404
    assert client.delete(f"/training-data/{row['id']}").status_code == 404
    assert client.patch(f"/training-data/{row['id']}", json={"label": "x"}).status_code == 404
    assert len(client.get("/training-data").json()) == 1


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("supabase", marks=pytest.mark.supabase)])
def test_corrections_during_a_retrain_count_for_the_next(
    kind: str, settings: Settings, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "supabase":
        settings = make_settings(tmp_path, **request.getfixturevalue("project"))
    waits, go_on, train = threading.Event(), threading.Event(), finetune.retrain_head

    def held(*args: Any) -> Any:
        waits.set()
        assert go_on.wait(60)
        return train(*args)

    monkeypatch.setattr(finetune, "retrain_head", held)
    with running(settings) as client:
        client.post("/upload", files={"file": lesson_zip("hat", 20)})
        deleted, relabelled = client.get("/training-data", params={"limit": 2}).json()
        prediction_id = predict(client, draw("Boot", 5000))["prediction_id"]
        job = client.post("/retrain", params={"mode": "quick", "force": True}).json()
        assert waits.wait(60)
        assert client.delete(f"/training-data/{deleted['id']}").status_code == 204
        assert client.patch(f"/training-data/{relabelled['id']}", json={"label": "Boot"}).status_code == 200
        added = client.post(f"/predictions/{prediction_id}/feedback", json={"label": "Boot"})
        assert added.status_code == 201
        assert client.post("/upload", files={"file": draw("hat", 6000)}, data={"label": "hat"}).status_code == 201
        go_on.set()
        assert finished_job(client, str(job["job_id"]))["state"] == "published"
        rows = client.get("/training-data").json()
        assert (len(rows), sum(row["is_processed"] for row in rows)) == (21, 18)
        assert {row["shoe_class"] for row in rows if row["id"] == relabelled["id"]} == {"Boot"}
        publish(client)
        assert all(row["is_processed"] for row in client.get("/training-data").json())
    after = learned(settings)
    assert deleted["sha256"][:16] not in after
    assert after[relabelled["sha256"][:16]] == ["Boot"]


def test_corrections_need_the_key(settings: Settings) -> None:
    with running(settings.model_copy(update={"api_key": settings.model_validate({"api_key": "k"}).api_key})) as client:
        for method, path in (
            ("POST", "/predictions/x/feedback"),
            ("PATCH", "/training-data/x"),
            ("DELETE", "/training-data/x"),
        ):
            assert client.request(method, path, json={"label": "x"}).status_code == 401


@pytest.mark.parametrize("call", ["POST /predictions/x/feedback", "PATCH /training-data/x"])
def test_without_the_key_no_body_is_read(settings: Settings, call: str) -> None:
    with running(settings.model_copy(update={"api_key": settings.model_validate({"api_key": "k"}).api_key})) as client:
        address = (client.base_url.host, client.base_url.port)
        with socket.create_connection(address, timeout=10) as line:
            line.sendall(f"{call} HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n".encode())
            assert line.recv(100).startswith(b"HTTP/1.1 401")


def test_a_large_body_is_refused(client: httpx.Client) -> None:
    response = client.patch("/training-data/x", content=b'{"label": "' + b"a" * 5000 + b'"}')
    assert (response.status_code, response.json()["code"]) == (413, "too_large")
    response = client.patch("/training-data/x", content=b"no json")
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")


def test_small_pictures(client: httpx.Client) -> None:
    url = predict(client, draw("Boot", 1, (300, 200)))["file_url"]
    response = client.get(url, params={"w": 64})
    assert response.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(response.content)).size == (64, 43)
    assert Image.open(io.BytesIO(client.get(url, params={"w": 2000}).content)).size == (300, 200)
    for wrong in ("0", "x", "100000"):
        assert client.get(url, params={"w": wrong}).status_code == 422


def test_minutes_of_traffic(client: httpx.Client) -> None:
    client.get("/health")
    service = client.app.state.service  # type: ignore[attr-defined]
    service.store.add_minute(service.metrics.take_minute("ready"))
    row = client.get("/system-metrics").json()[0]
    assert row["request_count"] >= 1 and row["model_uptime_status"] == "ready"


def test_the_verdict_names_pictures_whose_answer_changed(client: httpx.Client) -> None:
    job = client.post(
        "/retrain", files={"file": lesson_zip("hat", 40)}, params={"wait": "true", "mode": "quick"}
    ).json()
    changed = job["metrics"]["changed"]
    assert 30 < changed["count"] <= 40 and len(changed["pictures"]) == 24
    assert {(picture["label"], picture["after"]) for picture in changed["pictures"]} == {("hat", "hat")}
    assert all(client.get(f"/files/{picture['sha256']}").status_code == 200 for picture in changed["pictures"])


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("supabase", marks=pytest.mark.supabase)])
def test_the_next_version_forgets_deleted_pictures_and_old_labels(
    kind: str, settings: Settings, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if kind == "supabase":
        settings = make_settings(tmp_path, **request.getfixturevalue("project"))
    with running(settings) as client:
        client.post("/upload", files={"file": lesson_zip("hat", 20)})
        publish(client)
        deleted, relabelled = client.get("/training-data", params={"limit": 2}).json()
        before = learned(settings)
        assert before.keys() >= {deleted["sha256"][:16], relabelled["sha256"][:16]}
        assert client.delete(f"/training-data/{deleted['id']}").status_code == 204
        client.patch(f"/training-data/{relabelled['id']}", json={"label": "Boot"})
        publish(client)
    after = learned(settings)
    assert deleted["sha256"][:16] not in after
    assert (before[relabelled["sha256"][:16]], after[relabelled["sha256"][:16]]) == (["hat"], ["Boot"])


def publish(client: httpx.Client) -> None:
    job = client.post("/retrain", params={"mode": "quick", "force": True, "wait": True}).json()
    assert job["state"] == "published", job


def learned(settings: Settings) -> dict[str, list[str]]:
    """The labels in the replay buffer of each picture, by the first digits of its SHA-256."""
    buffer, labels = bundles.read_replay_buffer(settings.live_model), bundles.read(settings.live_model).labels
    found: dict[str, list[str]] = {}
    for key, label in zip(buffer.keys.tolist(), buffer.labels.tolist(), strict=True):
        found.setdefault(f"{key:016x}", []).append(labels[label] if label >= 0 else "background")
    return found
