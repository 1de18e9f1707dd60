import subprocess
import sys
from pathlib import Path

from helpers.bulk import folder_of
from shoe_classifier.settings import Settings


def test_the_command(tmp_path: Path, settings: Settings) -> None:
    folder_of(tmp_path / "pictures", 3)
    (tmp_path / "pictures" / "bad.jpg").touch()
    command = [sys.executable, "-m", "shoe_classifier", "scale", "predict"]
    result = subprocess.run([*command, "pictures", "out"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert f"4 pictures of {tmp_path}/pictures are in out" in result.stdout
    assert "1 of these have no result" in result.stdout
    wrong = subprocess.run([*command, "none", "out"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (wrong.returncode, "Expected a folder, a ZIP" in wrong.stderr) == (1, True)
