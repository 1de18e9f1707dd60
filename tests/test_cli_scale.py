import os
import signal
import subprocess
import sys
from pathlib import Path

from helpers.bulk import folder_of
from helpers.service import wait_for
from shoe_classifier.settings import Settings

PREDICT = [sys.executable, "-m", "shoe_classifier", "scale", "predict", "pictures", "out"]


def test_an_interrupted_command_says_what_there_is(tmp_path: Path, settings: Settings) -> None:
    folder_of(tmp_path / "pictures", 2000)
    command = subprocess.Popen(
        [*PREDICT, "--actors", "2"], cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    wait_for(lambda: list((tmp_path / "out").glob("part-*")))
    os.killpg(command.pid, signal.SIGINT)  # as a terminal does
    said = command.communicate()[1]
    assert command.returncode == 1
    assert "Interrupted. What is done stays in out; the same command does the rest." in said
    assert "Traceback" not in said
    assert not list((tmp_path / "out").glob(".*"))  # each file is whole


def test_the_command(tmp_path: Path, settings: Settings) -> None:
    folder_of(tmp_path / "pictures", 3)
    (tmp_path / "pictures" / "bad.jpg").touch()
    result = subprocess.run(PREDICT, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert f"4 pictures of {tmp_path}/pictures are in out" in result.stdout
    assert "1 of these have no result" in result.stdout
    wrong = subprocess.run([*PREDICT[:-2], "none", "out"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (wrong.returncode, "Expected a folder, a ZIP" in wrong.stderr) == (1, True)
