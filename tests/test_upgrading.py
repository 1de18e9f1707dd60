"""docs/upgrading.md, walked with the files that 0.1.0 left; `tests/storage/supabase` upgrades a Supabase project."""

import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from helpers.pictures import draw
from helpers.service import Process

TESTS = Path(__file__).parent
ROOT = TESTS.parent
GUIDE = (ROOT / "docs" / "upgrading.md").read_text()
STEPS = [line.strip() for line in re.findall(r"(?m)^    (.+)$", GUIDE)]
MODEL_0_1_0 = TESTS / "fixtures" / "shapes_format2.h5"
MODEL = TESTS / "fixtures" / "shapes.h5"


def git(folder: Path, *command: str) -> str:
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *who, *command], cwd=folder, check=True, capture_output=True, text=True).stdout


def commit(repository: Path) -> None:
    git(repository, "add", "--all")
    git(repository, "commit", "-qm", "x")


def test_a_taught_model_outlives_the_pull(tmp_path: Path) -> None:
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    (origin / "models" / "shipped").mkdir(parents=True)
    git(origin, "init", "-q")
    (origin / "models" / "shoe_classifier.h5").write_bytes(b"shipped with 0.1.0")
    commit(origin)
    git(tmp_path, "clone", "-q", str(origin), str(clone))
    live = clone / "models" / "shoe_classifier.h5"
    live.write_bytes(b"taught")
    (origin / "models" / "shoe_classifier.h5").unlink()
    (origin / "models" / "shipped" / "shoe_classifier.h5").write_bytes(b"shipped with 1.0.0")
    shutil.copy(ROOT / ".gitignore", origin)
    commit(origin)

    assert "make install" in STEPS
    for step in STEPS:
        if step != "make install":
            subprocess.run(step, shell=True, cwd=clone, check=True, capture_output=True)
    assert live.read_bytes() == b"taught"
    assert (clone / "models" / "shipped" / "shoe_classifier.h5").read_bytes() == b"shipped with 1.0.0"
    assert git(clone, "status", "--porcelain") == ""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What 0.1.0 left, with the model that comes with this release."""
    (tmp_path / "dataset").mkdir()
    with closing(sqlite3.connect(tmp_path / "dataset" / "records.sqlite3")) as connection:
        connection.executescript((TESTS / "storage" / "sqlite" / "records_0_1_0.sql").read_text())
    (tmp_path / "models" / "shipped").mkdir(parents=True)
    shutil.copy(MODEL, tmp_path / "models" / "shipped" / "shoe_classifier.h5")
    return tmp_path


@pytest.fixture
def begin(folder: Path) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def begin(**environment: str) -> Process:
        started.append(Process(folder, **environment))
        return started[-1].wait_until_ready()

    yield begin
    for process in started:
        process.close()


def test_a_taught_model_and_the_records_serve_as_before(folder: Path, begin: Callable[..., Process]) -> None:
    shutil.copy(MODEL_0_1_0, folder / "models" / "shoe_classifier.h5")
    client = begin().client
    assert client.post("/predict", files={"file": draw("Boot", 1)}).json()["predicted_class"] == "Boot"
    assert [row["predicted_class"] for row in client.get("/predictions").json()][-2:] == ["Shoe", "Boot"]
    assert len(client.get("/training-data").json()) == 3
    assert [job["state"] for job in client.get("/retrain").json()] == ["published"]
    assert {row["version"] for row in client.get("/models").json()} > {"v1", "v2"}


def test_without_it_all_pictures_wait_for_the_new_network_and_reading_needs_the_key(
    begin: Callable[..., Process],
) -> None:
    client = begin(API_KEY="secret").client
    taught = client.get("/status").json()["training_data"]
    assert taught == {"labels": {"Boot": 1, "Hat": 1, "Shoe": 1}, "unprocessed": 3}
    assert client.get("/predictions").status_code == 401
    assert client.get("/predictions", headers={"X-API-Key": "secret"}).status_code == 200


def test_the_migrations_to_run_are_all_but_the_first() -> None:
    named = re.findall(r"\d{14}_\w+\.sql", GUIDE)
    files = sorted(path.name for path in (ROOT / "supabase" / "migrations").iterdir())
    assert named == files[1:2]
