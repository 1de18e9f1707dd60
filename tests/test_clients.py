"""Clients that are generated from the OpenAPI document work against the running service."""

import importlib
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from helpers.pictures import draw, lesson_zip

ROOT = Path(__file__).parent.parent
NAME = "shoe_classifier_client"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of the generated package, which can be imported."""
    folder = tmp_path_factory.mktemp("python") / "client"
    subprocess.run(["make", "--silent", "client", f"CLIENT={folder}"], cwd=ROOT, check=True, capture_output=True)
    sys.path.insert(0, str(folder))
    yield NAME
    sys.path.remove(str(folder))


@pytest.fixture
def connection(package: str, client: httpx.Client) -> Iterator[Any]:
    connect = importlib.import_module(package).AuthenticatedClient
    key = {"token": "", "prefix": "", "auth_header_name": "X-API-Key"}
    with connect(base_url=str(client.base_url), timeout=100, **key) as connection:
        yield connection


def call(name: str) -> ModuleType:
    return importlib.import_module(f"{NAME}.api.{name}")


def model(name: str) -> Any:
    return getattr(importlib.import_module(f"{NAME}.models"), name)


def file(data: bytes, name: str) -> Any:
    return importlib.import_module(f"{NAME}.types").File(payload=io.BytesIO(data), file_name=name)


def test_the_python_client_predicts(connection: Any) -> None:
    body = model("PredictPictureBody")(file=file(draw("Boot", 1), "boot.jpg"))
    answer = call("predict.predict_picture").sync(client=connection, body=body)
    assert (answer.predicted_class, answer.decision.value) == ("Boot", "accepted")
    assert set(answer.probabilities.to_dict()) == {"Boot", "Sandal", "Shoe"}
    pictures = [file(draw(name, 5), f"{name}.jpg") for name in ("Boot", "Shoe")]
    files = [*pictures, file(b"no picture", "notes.txt")]
    batch = call("predict.predict_batch").sync(client=connection, body=model("PredictBatchBody")(files=files))
    *predictions, refused = batch.results
    assert [(one.name, one.predicted_class) for one in predictions] == [("Boot.jpg", "Boot"), ("Shoe.jpg", "Shoe")]
    assert (refused.name, refused.error.code) == ("notes.txt", "unsupported_image")
    png = call("predict.explain_prediction").sync(client=connection, body=body)
    assert png.payload.read().startswith(b"\x89PNG")


def test_the_python_of_the_readme_runs(
    package: str,
    client: httpx.Client,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "boot.jpg").write_bytes(draw("Boot", 1))
    monkeypatch.chdir(tmp_path)
    shown = (ROOT / "clients" / "README.md").read_text().split("```python\n")[1].split("```")[0]
    exec(shown.replace("http://127.0.0.1:8000", str(client.base_url)), {})
    assert capsys.readouterr().out == "Boot\n"


def test_the_python_client_teaches(connection: Any) -> None:
    upload = model("UploadPicturesBody")
    report = call("teach.upload_pictures").sync(
        client=connection, body=upload(file=file(lesson_zip("hat", 10), "hats.zip"))
    )
    assert (report.accepted, report.labels.to_dict()) == (10, {"hat": 10})
    one = call("teach.upload_pictures").sync(
        client=connection, body=upload(file=file(draw("hat", 99), "hat.jpg"), label="hat")
    )
    assert one.accepted == 1
    rows = call("records.list_training_data").sync(client=connection, limit=200)
    assert {row.shoe_class for row in rows} == {"hat"}  # and no label that nobody gave
    job = call("teach.start_retrain").sync(client=connection, wait=True, mode=model("StartRetrainMode").QUICK)
    assert (job.state.value, job.error) == ("published", None)
    assert "hat" in [row.label for row in call("teach.list_labels").sync(client=connection)]
    again = call("teach.start_retrain").sync(client=connection)
    assert again.code == "no_new_data"  # an error is an answer of its own type
    assert '"published"' in call("teach.stream_retrain_events").sync(job.job_id, client=connection)
    assert call("models.download_model").sync(job.model_version, client=connection).payload.read(4) == b"\x89HDF"


COLLECTION = ROOT / "clients" / "postman_collection.json"


def requests() -> Iterator[tuple[str, dict[str, Any]]]:
    for folder in json.loads(COLLECTION.read_text())["item"]:
        for item in folder["item"]:
            yield item["name"], item["request"]


def test_the_collection_has_every_call() -> None:
    document = json.loads((ROOT / "docs" / "openapi.json").read_text())
    ids = {operation["operationId"] for path in document["paths"].values() for operation in path.values()}
    assert {name for name, _ in requests()} == ids


def send(client: httpx.Client, request: dict[str, Any], values: dict[str, str]) -> httpx.Response:
    """Send a request as a runner of collections does: what is switched off is left out."""
    url = request["url"]
    path = "/".join(values[part[1:]] if part.startswith(":") else part for part in url["path"])
    body = request.get("body", {})
    files = [
        (field["key"], ("boot.jpg", draw("Boot", 7))) for field in body.get("formdata", []) if not field["disabled"]
    ]
    query = {one["key"]: one["value"] for one in url["query"] if not one["disabled"]}
    content = {"json": json.loads(body["raw"])} if "raw" in body else {"files": files} if files else {}
    return client.request(request["method"], f"/{path}", params=query, timeout=20, **content)


def test_the_collection_runs_against_the_service(client: httpx.Client) -> None:
    predicted = client.post("/predict", files={"file": draw("Boot", 1)}).json()
    values = {
        "version": predicted["model_version"],
        "sha256": predicted["file_url"].rpartition("/")[2],
        "prediction_id": predicted["prediction_id"],
        "job_id": predicted["prediction_id"],
        "row_id": predicted["prediction_id"],
        "label": "Boot",
    }
    reading = {name: send(client, one, values).status_code for name, one in requests() if one["method"] == "GET"}
    assert {name: status for name, status in reading.items() if status != 200} == {
        "get_retrain_job": 404,
        "stream_retrain_events": 404,
    }
    posting = dict(requests())
    assert send(client, posting["predict_picture"], values).status_code == 200
    assert send(client, posting["predict_batch"], values).status_code == 200
    assert send(client, posting["upload_pictures"], values).json()["code"] == "invalid_request"  # no label is made up
    assert send(client, posting["start_retrain"], values).json()["code"] == "no_new_data"
    assert send(client, posting["add_feedback"], values).json()["shoe_class"] == "Sandal"  # the example of the document
