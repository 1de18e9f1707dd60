"""The two images, as far as they can be tested without a builder: what they copy, install and run."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import yaml

from helpers.pictures import draw, lesson_zip
from helpers.service import Process

ROOT = Path(__file__).parent.parent
UV = str(Path(sys.executable).parent / "uv")
KEY = {"X-API-Key": "the-key-of-the-owner"}


def stages() -> dict[str, list[tuple[str, str]]]:
    """The instructions of each stage, after those of the stage that it begins with."""
    found: dict[str, list[tuple[str, str]]] = {}
    name = ""
    for line in (ROOT / "Dockerfile").read_text().splitlines():
        if line and not line.startswith("#"):
            word, _, rest = line.partition(" ")
            if word == "FROM":
                image, _, name = rest.split()
                found[name] = [*found.get(image, [("FROM", image)])]
            else:
                found[name].append((word, rest))
    return found


STAGES = stages()


def copied(stage: str) -> list[tuple[str | None, list[str]]]:
    """Of each COPY: the stage from which it copies, if any, and the paths."""
    lines = [shlex.split(rest) for word, rest in STAGES[stage] if word == "COPY"]
    return [
        (line[0].removeprefix("--from="), line[1:-1]) if line[0].startswith("--from=") else (None, line[:-1])
        for line in lines
    ]


def admitted(path: str) -> bool:
    """Whether .dockerignore lets a path pass: it closes all, and opens some again."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    opened = [rule.removeprefix("!") for rule in rules if rule.startswith("!")]
    return any(path == rule or path.startswith(f"{rule}/") for rule in opened)


@pytest.mark.parametrize("stage", STAGES)
def test_what_is_copied_is_there(stage: str) -> None:
    for source, paths in copied(stage):
        if source:
            assert source in STAGES
        else:
            assert [path for path in paths if not (ROOT / path).exists() or not admitted(path)] == []


def test_nothing_else_reaches_the_builder() -> None:
    needed = {path for stage in STAGES for source, paths in copied(stage) if source is None for path in paths}
    opened = {path.name for path in ROOT.iterdir() if admitted(path.name)}
    assert opened == {path for path in needed if "/" not in path}
    assert not any(map(admitted, (".env", ".git/config", "dataset/records.sqlite3", "models/shoe_classifier.h5")))


def test_the_package_finds_what_it_is_built_from() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project, hatch = pyproject["project"], pyproject["tool"]["hatch"]
    wheel = hatch["build"]["targets"]["wheel"]
    needed = [project["readme"], *project["license-files"], hatch["version"]["path"]]
    there = [path for source, paths in copied("package") if source is None for path in paths]
    for path in (*needed, *wheel["packages"], *wheel["force-include"]):
        assert any(path == one or path.startswith(f"{one}/") for one in there), path


@pytest.mark.parametrize("image", ["serve", "full"])
def test_an_image_runs_the_service_as_an_unprivileged_user(image: str) -> None:
    final = dict(STAGES[image])
    assert final["USER"] == "10001:10001"  # a number: Kubernetes cannot tell by a name that it is not root
    assert json.loads(final["CMD"]) == ["shoe-classifier", "serve"]
    assert "HOST=0.0.0.0" in final["ENV"]


def test_the_full_image_is_the_default_and_that_of_compose() -> None:
    assert [*STAGES][-1] == "full"
    build = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["service"]["build"]
    assert build == {"context": ".", "target": "full"}


def test_the_health_check_tells_a_service_that_answers(client: httpx.Client) -> None:
    command = json.loads(dict(STAGES["full"])["HEALTHCHECK"].partition(" CMD ")[2])

    def status(port: int | None) -> int:
        environment = {**os.environ, "PORT": str(port)}
        check = [sys.executable, *command[1:]]
        return subprocess.run(check, env=environment, capture_output=True, check=False).returncode

    assert status(client.base_url.port) == 0
    assert status(1) != 0


def install(stage: str, environment: Path) -> None:
    """Run the install commands of a stage, into an environment instead of a folder of the image."""
    for word, rest in STAGES[stage]:
        if word == "RUN" and rest.startswith("uv pip install"):
            command = re.sub(r"--no-cache|--prefix \S+", "", rest)
            subprocess.run([UV, *shlex.split(command)[1:], "--python", environment], cwd=ROOT, check=True)


@pytest.mark.slow
def test_the_small_image_predicts_and_learns_without_tensorflow(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    environment, folder = tmp_path / "environment", tmp_path / "app"
    folder.mkdir()
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, environment], check=True)
    install("package", environment)
    assert (environment / "bin/shoe-classifier").exists()
    assert not [*environment.glob("lib/*/site-packages/tensorflow")]
    size = sum(path.lstat().st_size for path in environment.rglob("*")) / 1e6
    assert size < 450
    record_property("What the small image installs", f"{size:.0f} MB")
    service = Process(folder, python=str(environment / "bin/python"), API_KEY=KEY["X-API-Key"]).wait_until_ready()
    try:
        client = service.client
        assert client.post("/predict", files={"file": draw("Boot", 1)}).status_code == 200
        client.post("/upload", headers=KEY, files={"file": lesson_zip("hat", 4)})
        job = client.post("/retrain", headers=KEY, params={"mode": "quick", "wait": True, "force": True}).json()
        assert job["state"] == "published", job
    finally:
        service.close()
