"""States of the disk in which the service cannot start fully: it serves, says what to do, and goes on by itself."""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from helpers.service import Process, wait_for
from shoe_classifier.settings import Settings


@pytest.fixture
def begin(settings: Settings) -> Iterator[Callable[..., Process]]:
    """Starts the real process without waiting for it to be ready."""
    started: list[Process] = []

    def start() -> Process:
        started.append(Process(settings.models_dir.parent))
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
    settings: Settings, begin: Callable[[], Process], breaks: Callable[[Path], None], advice: str
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


def test_a_locked_database_is_waited_for(settings: Settings, begin: Callable[[], Process]) -> None:
    settings.dataset_dir.mkdir()
    with contextlib.closing(sqlite3.connect(settings.dataset_dir / "records.sqlite3")) as other:
        other.execute("create table Other (x)")
        other.execute("begin exclusive")
        process = begin()
        assert "another program has locked it" in reason(process)
    process.wait_until_ready()


def test_a_file_where_the_dataset_folder_belongs(settings: Settings, begin: Callable[[], Process]) -> None:
    settings.dataset_dir.write_bytes(b"")
    process = begin()
    assert "Check the folder" in reason(process)
    settings.dataset_dir.unlink()
    process.wait_until_ready()
