"""States of the disk in which the service cannot start fully: it serves, says what to do, and goes on by itself."""

import contextlib
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from helpers.pictures import draw
from helpers.service import Process, running, wait_for
from shoe_classifier.settings import Settings


@pytest.fixture
def begin(settings: Settings) -> Iterator[Callable[..., Process]]:
    """Starts the real process without waiting for it to be ready."""
    started: list[Process] = []

    def start(**options: bool) -> Process:
        started.append(Process(settings.models_dir.parent, **options))
        return started[-1]

    yield start
    for process in started:
        process.close()


def reason(process: Process) -> str:
    """The detail of `/ready` once the service says that it fails."""
    found: list[str] = []

    def failing() -> bool:
        assert process.process.poll() is None, process.log.read_text()
        with contextlib.suppress(httpx.TransportError):  # it does not listen yet
            response = process.client.get("/ready")
            if response.status_code == 503 and "being loaded" not in response.json()["detail"]:
                found.append(response.json()["detail"])
        return bool(found)

    wait_for(failing, 20)
    return found[0]


def damage(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)


def put_a_folder_there(path: Path) -> None:
    path.mkdir()


def mend(path: Path) -> None:
    path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.parametrize(
    ("breaks", "advice"), [(damage, "it is damaged"), (put_a_folder_there, "Check the folder, its owner and its mode")]
)
def test_records_that_do_not_open_are_told_and_tried_again(
    settings: Settings, begin: Callable[..., Process], breaks: Callable[[Path], None], advice: str
) -> None:
    settings.dataset_dir.mkdir()
    records = settings.dataset_dir / "records.sqlite3"
    breaks(records)
    process = begin()
    detail = reason(process)
    assert "records.sqlite3" in detail and advice in detail
    assert process.client.get("/health").status_code == 200
    assert process.client.get("/status").json()["store"]["error"]
    answer = process.client.get("/predictions")
    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
    assert "Traceback" not in process.log.read_text()
    mend(records)
    process.wait_until_ready()


def test_a_locked_database_is_waited_for(settings: Settings, begin: Callable[..., Process]) -> None:
    settings.dataset_dir.mkdir()
    with contextlib.closing(sqlite3.connect(settings.dataset_dir / "records.sqlite3")) as other:
        other.execute("create table Other (x)")
        other.execute("begin exclusive")
        process = begin()
        assert "another program has locked it" in reason(process)
    process.wait_until_ready()


def test_a_file_where_the_dataset_folder_belongs(settings: Settings, begin: Callable[..., Process]) -> None:
    settings.dataset_dir.write_bytes(b"")
    process = begin()
    assert "Check the folder" in reason(process)
    settings.dataset_dir.unlink()
    process.wait_until_ready()


@pytest.mark.parametrize("breaks", [damage, put_a_folder_there])
def test_without_another_version_a_mended_live_file_is_served(
    settings: Settings, begin: Callable[..., Process], model_file: Path, breaks: Callable[[Path], None]
) -> None:
    settings.live_model.unlink()
    breaks(settings.live_model)
    process = begin()
    assert settings.live_model.name in reason(process)
    mend(settings.live_model)
    shutil.copy(model_file, settings.live_model)
    process.wait_until_ready()


def test_a_folder_in_place_of_the_live_file_falls_back(settings: Settings, begin: Callable[..., Process]) -> None:
    with running(settings) as client:
        version = client.get("/status").json()["model"]["version"]
    archive = settings.models_dir / "versions"
    archive.mkdir()
    settings.live_model.rename(archive / f"{version}.h5")
    settings.live_model.mkdir()
    process = begin().wait_until_ready()
    answer = process.client.post("/predict", files={"file": draw("hat", 1)})
    assert answer.json()["model_version"] == version
    assert not list(settings.models_dir.glob(".candidate-*"))


def test_a_shipped_model_that_cannot_be_read_is_tried_again(settings: Settings, begin: Callable[..., Process]) -> None:
    shipped = settings.models_dir / "shipped" / settings.live_model.name
    shipped.parent.mkdir()
    settings.live_model.rename(shipped)
    shipped.chmod(0o000)
    process = begin(as_user=True)
    detail = reason(process)
    assert "Permission denied" in detail and "Check the folder of the models" in detail
    assert str(settings.models_dir) not in detail
    shipped.chmod(0o444)
    process.wait_until_ready()


def test_a_read_only_folder_of_models_serves(settings: Settings, begin: Callable[..., Process]) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    (settings.models_dir / f".candidate-x.{ended.pid}.h5").write_bytes(b"left by a killed process")
    settings.models_dir.chmod(0o555)
    begin(as_user=True).wait_until_ready()
