import threading
from collections import Counter
from pathlib import Path

import httpx
import pytest
from PIL import Image

from helpers.pictures import SHAPES, draw, encode, zip_of
from helpers.service import running
from shoe_classifier.settings import Settings


def test_answer_has_all_fields(client: httpx.Client) -> None:
    response = client.post("/predict", files={"file": ("boot.jpg", draw("Boot", 1), "image/jpeg")})
    body = response.json()
    assert response.status_code == 200
    assert set(body) == {
        "prediction_id",
        "predicted_class",
        "confidence",
        "decision",
        "probabilities",
        "model_version",
        "response_time_ms",
        "file_url",
    }
    assert list(body["probabilities"]) == list(SHAPES)
    assert sum(body["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert body["confidence"] == max(body["probabilities"].values())
    assert body["response_time_ms"] > 0
    picture = client.get(body["file_url"])
    assert picture.content == draw("Boot", 1)
    assert picture.headers["content-type"] == "image/jpeg"


def test_prediction_is_in_the_records(client: httpx.Client) -> None:
    answer = client.post("/predict", files={"file": draw("Shoe", 2)}).json()
    row = client.get("/predictions").json()[0]
    assert row["id"] == answer["prediction_id"]
    assert row["predicted_class"] == answer["predicted_class"]
    assert row["probabilities"] == answer["probabilities"]
    assert row["file_url"] == answer["file_url"]


def test_pictures_are_not_kept_when_so_set(settings: Settings) -> None:
    with running(settings.model_copy(update={"store_prediction_images": False})) as client:
        answer = client.post("/predict", files={"file": draw("Shoe", 2)}).json()
        assert answer["file_url"] is None
        assert client.get("/predictions").json()[0]["image_path"] is None


def test_nothing_is_kept_of_a_frame(client: httpx.Client, settings: Settings) -> None:
    answer = client.post("/predict", params={"record": "false"}, files={"file": draw("Shoe", 2)})
    assert (answer.status_code, answer.json()["file_url"]) == (200, None)
    assert client.get("/predictions").json() == []
    assert list((settings.dataset_dir / "images").rglob("*.jpg")) == []


def test_record_is_true_or_false(client: httpx.Client) -> None:
    answer = client.post("/predict?record=perhaps", files={"file": draw("Shoe", 2)})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert "'perhaps'" in answer.json()["detail"]


def test_failing_record_does_not_fail_the_prediction(client: httpx.Client, settings: Settings) -> None:
    client.app.state.service.store._db.execute("drop table Predict")  # type: ignore[attr-defined]
    assert client.post("/predict", files={"file": draw("Shoe", 2)}).status_code == 200
    assert client.get("/status").json()["store"]["unrecorded_predictions"] == 1


@pytest.mark.parametrize(
    ("data", "name", "status", "code"),
    [
        (b"", "x.jpg", 422, "invalid_image"),
        (b"text", "x.jpg", 422, "invalid_image"),
        (b"text", "x.txt", 415, "unsupported_image"),
        (encode(Image.new("RGB", (9, 9)), "TIFF"), "x.tiff", 415, "unsupported_image"),
        (draw("Boot", 1)[:300], "x.jpg", 422, "invalid_image"),
        (bytes(3000), "x.jpg", 413, "too_large"),
        (draw("Boot", 1, (400, 300), quality=1), "x.jpg", 413, "too_large"),
    ],
)
def test_bad_pictures(settings: Settings, tmp_path: Path, data: bytes, name: str, status: int, code: str) -> None:
    limited = settings.model_copy(update={"max_image_bytes": 2900, "max_image_pixels": 100_000})
    with running(limited) as client:
        response = client.post("/predict", files={"file": (name, data)})
        assert (response.status_code, response.json()["code"]) == (status, code)
        assert client.get("/predictions").json() == []


def test_missing_file(client: httpx.Client) -> None:
    response = client.post("/predict", files={"picture": draw("Boot", 1)})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
    assert client.post("/predict").json()["code"] == "invalid_request"


def test_too_many_at_once_are_refused_with_a_hint(settings: Settings) -> None:
    statuses: Counter[int] = Counter()
    hints = set()
    with running(settings.model_copy(update={"max_pending": 2, "predict_threads": 1})) as client:

        def ask() -> None:
            for _ in range(10):
                response = client.post("/predict", files={"file": draw("Boot", 1, (3000, 2000))})
                statuses[response.status_code] += 1
                if response.status_code == 503:
                    hints.add(response.headers["retry-after"])

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert client.post("/predict", files={"file": draw("Boot", 1)}).status_code == 200
    assert set(statuses) == {200, 503}
    assert hints == {"1"}


def test_batch_of_files(client: httpx.Client) -> None:
    files = [("files", (f"{label}.jpg", draw(label, 3))) for label in SHAPES] + [("files", ("notes.txt", b"text"))]
    results = client.post("/predict/batch", files=files).json()["results"]
    assert [result["name"] for result in results] == ["Boot.jpg", "Sandal.jpg", "Shoe.jpg", "notes.txt"]
    assert all("predicted_class" in result for result in results[:3])
    assert results[3]["error"]["code"] == "unsupported_image"


@pytest.mark.parametrize("files", [{}, {"Boot/": b""}])
def test_a_zip_without_files_is_the_clients_mistake(client: httpx.Client, files: dict[str, bytes]) -> None:
    for path, field, code in (("/predict/batch", "files", "invalid_zip"), ("/upload", "file", "nothing_accepted")):
        response = client.post(path, files={field: zip_of(files)})
        assert (response.status_code, response.json()["code"]) == (422, code)


def test_batch_of_a_zip(client: httpx.Client) -> None:
    data = zip_of({"a.jpg": draw("Boot", 1), "deep/b.jpg": draw("Shoe", 1), ".DS_Store": b"x", "../c.jpg": b"x"})
    results = client.post("/predict/batch", files={"files": ("x.zip", data)}).json()["results"]
    assert [result["name"] for result in results] == ["a.jpg", "deep/b.jpg", "../c.jpg"]
    assert results[2]["error"]["code"] == "unsupported"


def test_batch_limits(settings: Settings, tmp_path: Path) -> None:
    with running(settings.model_copy(update={"max_batch_files": 2})) as client:
        files = [("files", (f"{i}.jpg", draw("Boot", i))) for i in range(3)]
        assert client.post("/predict/batch", files=files).status_code == 413
        zipped = zip_of({f"{i}.jpg": draw("Boot", i) for i in range(3)})
        assert client.post("/predict/batch", files={"files": zipped}).status_code == 413
        assert client.post("/predict/batch", files={"x": b"1"}).status_code == 422
    assert list((tmp_path / "temp_uploads").iterdir()) == []
