import json
import re
from collections.abc import Callable
from pathlib import Path

from helpers.command import run
from helpers.pictures import draw, lesson_zip, zip_of
from helpers.service import Process


def test_retrain(start: Callable[..., Process], tmp_path: Path) -> None:
    process = start()
    (tmp_path / "hat.zip").write_bytes(lesson_zip("hat"))
    url = f"http://127.0.0.1:{process.port}"
    result = run(tmp_path, "retrain", "hat.zip", "--url", url, "--mode", "quick")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "published" in result.stdout
    assert re.search(r"(?m)^ *\d+%  \w", result.stdout), "Expected lines of progress, as there is no terminal."
    again = run(tmp_path, "retrain", "--url", url)
    assert again.returncode == 1
    assert "Upload some first" in again.stderr
    assert json.loads(process.client.get("/status").text)["training_data"]["labels"] == {"hat": 40}


def test_retrain_without_a_service(tmp_path: Path) -> None:
    result = run(tmp_path, "retrain", "--url", "http://127.0.0.1:9")
    assert result.returncode == 1
    assert "Expected a running service" in result.stderr


def test_import(start: Callable[..., Process], tmp_path: Path) -> None:
    process = start()
    url = f"http://127.0.0.1:{process.port}"
    folder = tmp_path / "mine"
    (folder / "pictures").mkdir(parents=True)
    for seed in range(3):
        (folder / "pictures" / f"{seed}.jpg").write_bytes(draw("hat", seed))
    (folder / "labels.csv").write_text("file,label\npictures/0.jpg,hat\npictures/1.jpg,cap\n")
    result = run(tmp_path, "import", "mine", "--url", url)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Accepted 2: 1 hat, 1 cap. Skipped 1." in result.stdout
    assert "pictures/2.jpg: ignored. 'labels.csv' does not list it." in result.stdout.replace("\n", " ")
    project = zip_of({"hat-!-0.jpg": draw("hat", 9), "manifest.json": b'{"type": "image", "appdata": {}}'})
    (tmp_path / "project.tm").write_bytes(project)
    assert "Accepted 1: 1 hat." in run(tmp_path, "import", "project.tm", "--url", url).stdout
    again = run(tmp_path, "import", "project.tm", "--url", url)
    assert (again.returncode, "1 duplicate" in again.stderr) == (1, True)
