"""The wheel, installed where there is no checkout: it brings the model along, and says what a folder lacks."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import shoe_classifier
from helpers.pictures import draw
from helpers.service import Process, wait_for

ROOT = Path(__file__).parent.parent
UV = str(Path(sys.executable).parent / "uv")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The interpreter of a fresh environment, in which the wheel is installed as `pip install dist/*.whl` does it."""
    folder = tmp_path_factory.mktemp("wheel")
    environment = folder / "environment"
    subprocess.run([UV, "build", "--quiet", "--wheel", "--out-dir", folder, ROOT], check=True)
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, environment], check=True)
    python = environment / "bin" / "python"
    install = [UV, "pip", "install", "--quiet", "--no-build", "--python", python, "--constraint"]
    subprocess.run([*install, ROOT / "requirements.txt", *folder.glob("*.whl")], check=True)
    return str(python)


@contextmanager
def serving(folder: Path, python: str, *, as_user: bool = False) -> Iterator[Process]:
    folder.mkdir(mode=0o555 if as_user else 0o755)
    process = Process(folder, python=python, log="../log", as_user=as_user)
    try:
        yield process
    finally:
        process.close()


def test_an_empty_folder_is_served_with_the_shipped_model(python: str, tmp_path: Path) -> None:
    with serving(tmp_path / "empty", python) as process:
        client = process.wait_until_ready().client
        assert client.get("/status").json()["version"] == shoe_classifier.__version__
        answer = client.post("/predict", files={"file": ("boot.jpg", draw("Boot", 1))}).json()
        assert set(answer["probabilities"]) == {"Boot", "Sandal", "Shoe"}
    assert {path.name for path in (tmp_path / "empty").iterdir()} >= {"dataset", "models"}


def test_a_folder_without_write_rights_is_named_in_one_line(python: str, tmp_path: Path) -> None:
    with serving(tmp_path / "read-only", python, as_user=True) as process:
        wait_for(lambda: "ERROR" in process.log.read_text())
        errors = [line for line in process.log.read_text().splitlines() if "ERROR" in line]
        assert len(errors) == 1
        assert "Permission denied: 'dataset'" in errors[0]
        assert "start the service in another folder" in errors[0]
        assert errors[0].partition("Expected")[2] in process.client.get("/ready").json()["detail"]
    assert list((tmp_path / "read-only").iterdir()) == []
