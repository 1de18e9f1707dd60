import io
import shutil
import zipfile
from pathlib import Path

import httpx
import pytest

from helpers.pictures import lesson_zip
from helpers.service import make_settings, running
from shoe_classifier.settings import Settings


def test_an_empty_service_takes_it_back_unchanged(client: httpx.Client, settings: Settings, tmp_path: Path) -> None:
    client.post("/upload", files={"file": lesson_zip("hat", 10)})
    response = client.get("/training-data/export")
    assert response.headers["content-type"] == "application/zip"
    assert response.headers["content-disposition"].endswith('.zip"')
    shutil.copytree(settings.models_dir, tmp_path / "other" / "models")
    with running(make_settings(tmp_path / "other")) as empty:
        report = empty.post("/upload", files={"file": ("x.zip", response.content)}).json()
        rows = empty.get("/training-data").json()
    assert (report["accepted"], report["skipped"]) == (10, [])
    names = ("sha256", "shoe_class", "split", "source", "uploaded_at")
    expected = client.get("/training-data").json()
    assert [[row[name] for name in names] for row in rows] == [[row[name] for name in names] for row in expected]


def test_export_while_retraining(client: httpx.Client) -> None:
    client.post("/upload", files={"file": lesson_zip("hat", 10)})
    job = client.post("/retrain", params={"mode": "quick"}).json()
    data = client.get("/training-data/export").content
    assert client.get(f"/retrain/{job['job_id']}").status_code == 200
    assert len(zipfile.ZipFile(io.BytesIO(data)).namelist()) == 11


@pytest.mark.parametrize(("kind", "media_type"), [("csv", "text/csv; charset=utf-8"), ("coco", "application/json")])
def test_other_formats(client: httpx.Client, kind: str, media_type: str) -> None:
    client.post("/upload", files={"file": lesson_zip("hat", 2)})
    response = client.get("/training-data/export", params={"format": kind})
    assert response.headers["content-type"] == media_type
    assert "hat" in response.text


def test_an_unknown_format(client: httpx.Client) -> None:
    response = client.get("/training-data/export", params={"format": "tar"})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
