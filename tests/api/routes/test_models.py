import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image
from pydantic import SecretStr

from helpers.pictures import draw, lesson_zip
from helpers.service import finished_job, make_settings, running, wait_for
from shoe_classifier.files import sha256_of
from shoe_classifier.ml.plots import draw_report
from shoe_classifier.services.model_export import ParityPictures
from shoe_classifier.settings import Settings


def teach(client: httpx.Client, label: str) -> str:
    job = client.post(
        "/retrain", files={"file": lesson_zip(label)}, params={"wait": "true", "mode": "quick", "force": "true"}
    ).json()
    assert job["state"] == "published", job["message"]
    version: str = job["model_version"]
    return version


def test_versions_and_the_way_back(client: httpx.Client, tmp_path: Path) -> None:
    first = client.get("/models").json()[0]
    assert first["state"] == "live"
    second = teach(client, "hat")
    states = {row["version"]: row["state"] for row in client.get("/models").json()}
    assert states == {second: "live", first["version"]: "archived"}
    back = client.post(f"/models/{first['version']}/activate")
    assert (back.status_code, back.json()["state"]) == (200, "live")
    answer = client.post("/predict", files={"file": draw("Boot", 1)}).json()
    assert answer["model_version"] == first["version"]
    assert sha256_of(tmp_path / "models" / "shoe_classifier.h5") == first["sha256"]
    assert client.post(f"/models/{second}/activate").json()["version"] == second
    assert client.post(f"/models/{second}/activate").status_code == 200
    assert "hat" in client.post("/predict", files={"file": draw("Boot", 1)}).json()["probabilities"]


def test_one_version_and_its_file(client: httpx.Client, tmp_path: Path) -> None:
    row = client.get("/models").json()[0]
    assert client.get(f"/models/{row['version']}").json() == {**row, "waiting": 0, "shadow": None}
    assert row["metrics"]["accuracy"] > 0.5
    file = client.get(f"/models/{row['version']}/file", params={"format": "h5"})
    (tmp_path / "download.h5").write_bytes(file.content)
    assert sha256_of(tmp_path / "download.h5") == row["sha256"]
    assert client.get(f"/models/{row['version']}/file", params={"format": "onnx"}).status_code == 422


def test_report_is_a_picture_with_room_for_all_labels(client: httpx.Client) -> None:
    row = client.get("/models").json()[0]
    response = client.get(f"/models/{row['version']}/report.png")
    assert response.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(response.content)).width > 400
    many = {f"label {i}": {"precision": 0.5, "recall": 0.4, "f1": 0.45, "support": 3} for i in range(20)}
    metrics = {**row["metrics"], "per_class": many, "confusion_matrix": [[1] * 20] * 20}
    assert Image.open(io.BytesIO(draw_report("x", metrics))).width > 20 * 56


@pytest.mark.parametrize(
    "call",
    [("GET", ""), ("GET", "/report.png"), ("GET", "/file"), ("POST", "/activate"), ("GET", "/export?format=tflite")],
)
def test_unknown_version(client: httpx.Client, call: tuple[str, str]) -> None:
    response = client.request(call[0], f"/models/none{call[1]}")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


def test_old_files_are_pruned_and_said_to_be(settings: Settings) -> None:
    with running(settings.model_copy(update={"keep_versions": 1})) as client:
        first = client.get("/models").json()[0]["version"]
        for label in ("hat", "skirt"):
            teach(client, label)
        assert client.get(f"/models/{first}").json()["state"] == "deleted"
        response = client.post(f"/models/{first}/activate")
        assert (response.status_code, response.json()["code"]) == (404, "not_found")


def test_the_version_survives_a_restart(settings: Settings) -> None:
    with running(settings) as client:
        version = teach(client, "hat")
    with running(settings) as client:
        assert client.get("/status").json()["model"]["version"] == version


@pytest.mark.parametrize("damage", ["cut", "flip", "text", "gone"])
def test_broken_live_file_falls_back_to_the_one_before(settings: Settings, damage: str) -> None:
    with running(settings) as client:
        first = client.get("/models").json()[0]["version"]
        teach(client, "hat")
    live = settings.live_model
    data = bytearray(live.read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2) if damage == "flip" else b""
    live.unlink() if damage == "gone" else live.write_bytes(b"text" if damage == "text" else bytes(data))
    with running(settings) as client:
        assert client.get("/ready").status_code == 200
        assert client.get("/status").json()["model"]["version"] == first
        assert client.post("/predict", files={"file": draw("Boot", 1)}).status_code == 200


def test_without_any_model_the_service_says_why(tmp_path: Path) -> None:
    with running(make_settings(tmp_path)) as client:
        response = client.get("/ready")
        assert (response.status_code, response.json()["code"]) == (503, "not_ready")
        assert "there is none" in response.json()["detail"]
        assert client.get("/health").status_code == 200
        assert client.get("/status").json()["status"] == "failing"
        assert client.post("/predict", files={"file": draw("Boot", 1)}).status_code == 503
        assert client.post("/upload", files={"file": lesson_zip("hat", 2)}).status_code == 503


def test_a_live_file_that_another_process_replaces_is_served(client: httpx.Client, settings: Settings) -> None:
    first = client.get("/models").json()[0]["version"]
    teach(client, "hat")
    old, live = settings.models_dir / "versions" / f"{first}.h5", settings.live_model
    live.unlink()
    client.app.state.service.model_registry.refresh()  # type: ignore[attr-defined] # none there for a moment
    shutil.copy(old, live)
    wait_for(lambda: client.get("/status").json()["model"]["version"] == first)


def test_an_earlier_version_as_shadow(client: httpx.Client) -> None:
    first = client.get("/models").json()[0]["version"]
    live = teach(client, "hat")
    state = client.post(f"/models/{first}/shadow", params={"predictions": 2}).json()
    assert (state["version"], state["live_version"], state["wanted"]) == (first, live, 2)
    for seed in range(2):
        client.post("/predict", files={"file": draw("Boot", seed)})
        wait_for(lambda seed=seed: client.get(f"/models/{first}").json()["shadow"]["seen"] > seed)  # type: ignore[misc]
    shadow = client.get("/status").json()["shadow"]
    assert (shadow["version"], shadow["running"]) == (first, False)
    assert client.get(f"/models/{live}").json()["shadow"] is None
    assert client.delete(f"/models/{live}/shadow").json()["code"] == "not_found"
    assert client.delete(f"/models/{first}/shadow").status_code == 204
    assert client.get("/status").json()["shadow"] is None


@pytest.mark.parametrize("predictions", [0, -1, 100_001, "many"])
def test_a_shadow_of_a_wrong_length(client: httpx.Client, predictions: object) -> None:
    response = client.post("/models/x/shadow", params={"predictions": predictions})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")


def test_a_shadow_that_does_not_exist(client: httpx.Client) -> None:
    live = client.get("/models").json()[0]["version"]
    assert client.post("/models/none/shadow").status_code == 404
    assert client.post(f"/models/{live}/shadow").json()["code"] == "invalid_request"


@pytest.fixture
def exports(settings: Settings) -> Iterator[httpx.Client]:
    """A service with keys, which compares exports on two pictures."""
    keys = {"api_key": SecretStr("writer"), "read_key": SecretStr("reader")}
    with running(settings.model_copy(update=keys)) as client:
        client.app.state.service.model_export._pictures = ParityPictures(0, 2)  # type: ignore[attr-defined]
        client.headers["X-API-Key"] = "reader"
        yield client


def test_exports_and_their_parity(exports: httpx.Client) -> None:
    version = exports.get("/models").json()[0]["version"]
    file = exports.get(f"/models/{version}/export", params={"format": "onnx"})
    assert file.headers["content-disposition"] == f'attachment; filename="shoe_classifier-{version}.onnx"'
    assert b"shoe_classifier" in file.content
    report = exports.get(f"/models/{version}/export", params={"format": "onnx", "report": True}).json()
    assert (report["label_changes"], report["drawn"]) == (0, 2)
    assert report["runtime"].startswith("ONNX Runtime ")
    del exports.headers["X-API-Key"]
    refused = exports.get(f"/models/{version}/export", params={"format": "onnx"})
    assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")


@pytest.mark.parametrize("query", ["?format=h5", "?report=perhaps"])
def test_an_export_that_does_not_exist(client: httpx.Client, query: str) -> None:
    version = client.get("/models").json()[0]["version"]
    response = client.get(f"/models/{version}/export{query}")
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")


def test_an_export_while_a_retrain_runs(client: httpx.Client) -> None:
    client.app.state.service.model_export._pictures = ParityPictures(10, 2)  # type: ignore[attr-defined]
    version = client.get("/models").json()[0]["version"]
    job = client.post("/retrain", files={"file": lesson_zip("hat")}, params={"mode": "quick", "force": "true"}).json()
    export = client.get(f"/models/{version}/export", params={"format": "tflite"})
    assert (export.status_code, export.content[4:8]) == (200, b"TFL3")
    assert finished_job(client, job["job_id"])["state"] == "published"
