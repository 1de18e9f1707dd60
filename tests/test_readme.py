"""The shell lines of the README and its guides work: calls reach the real service; commands and targets exist."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from helpers.pictures import draw, lesson_zip
from shoe_classifier.cli import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
GUIDES = [README, *((ROOT / "docs" / f"{name}.md").read_text() for name in ("formats", "teaching"))]
BLOCKS = [re.sub(r"(?m)^    ", "", block) for guide in GUIDES for block in re.findall(r"(?m)(?:^    .+\n)+", guide)]
LINES = [line for block in BLOCKS if not block.startswith("{") for line in block.splitlines()]
CALLS = [line for line in LINES if line.startswith("curl ")]
COMMANDS = [line.split("#")[0].split() for line in LINES if line.startswith(".venv/bin/shoe-classifier")]
TARGETS = [target for line in LINES for target in re.findall(r"\bmake ([a-z-]+)", line)]
FIRST, TAUGHT = "20261122-035823-8f01", "20261122-040103-07bc"  # the versions that it names


def call(line: str, client: httpx.Client, folder: Path) -> object:
    """Run a curl line against the service under test; returns the JSON that it prints, if any."""
    url = str(client.base_url).removeprefix("http://").rstrip("/")
    command = shlex.split(line.replace("localhost:8000", url))
    command[1:1] = ["--fail-with-body", "--silent", "--show-error", "--noproxy", "*"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{line}: {result.stderr} {result.stdout}"
    return json.loads(result.stdout) if result.stdout else None


def shown_after(line: str) -> dict[str, object] | None:
    """The JSON that the README shows below a call, if any."""
    following = BLOCKS[next(i for i, block in enumerate(BLOCKS) if line in block) + 1 :]
    return json.loads(following[0]) if following and following[0].startswith("{") else None


def test_every_shell_line_is_checked() -> None:
    others = [line for line in LINES if not line.startswith(("curl ", "make ", ".venv/bin/shoe-classifier "))]
    assert others == ["MODEL_PATH=flowers.h5 CLASS_NAMES=daisy,rose,tulip make run"]


def test_the_tour(client: httpx.Client, tmp_path: Path) -> None:
    folder = tmp_path / "tour"
    (folder / "samples").mkdir(parents=True)
    (folder / "samples" / "boots.jpg").write_bytes(draw("Boot", 1))
    (folder / "samples" / "lesson.zip").write_bytes(lesson_zip("hat", 60))
    version = client.get("/status").json()["model"]["version"]
    taught = ""
    assert len(CALLS) == 8
    for line in CALLS:
        received = call(line.replace(FIRST, version).replace(TAUGHT, taught), client, folder)
        if shown := shown_after(line):
            assert isinstance(received, dict)
            assert set(shown) == set(received), line
        if "/retrain" in line:
            assert isinstance(received, dict)
            assert received["state"] == "published", received["message"]
            taught = received["model_version"]
    assert client.get("/status").json()["model"]["version"] == version


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_exists_with_its_options(command: list[str]) -> None:
    words = [word for word in command[1:] if re.fullmatch("[a-z]+", word)]
    name = words[:2] if words[0] == "supabase" else words[:1]
    result = CliRunner().invoke(app, [*name, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert result.exit_code == 0, result.output
    assert all(option in result.output for option in command if option.startswith("--"))


def test_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    mentioned = {*TARGETS, *re.findall(r"`make ([a-z-]+)", README)}
    assert {"run", "demo"} <= mentioned
    assert {target for target in mentioned if not re.search(rf"(?m)^{target}:", makefile)} == set()
