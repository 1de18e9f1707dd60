import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.bulk import folder_of, predict, rows_of
from helpers.service import wait_for
from shoe_classifier.errors import (
    AppError,
    InvalidRequest,
    NotOffered,
    StoreUnavailable,
)
from shoe_classifier.scale.job import Progress
from shoe_classifier.scale.output import open_output
from shoe_classifier.settings import Settings

pytestmark = pytest.mark.usefixtures("small_shards")


@pytest.mark.faults
def test_a_killed_command_goes_on(tmp_path: Path, settings: Settings) -> None:
    folder_of(tmp_path / "pictures", 4000)
    command = [sys.executable, "-m", "shoe_classifier", "scale", "predict", "pictures", "out", "--actors", "2"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: list((tmp_path / "out").glob("part-*")))
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.wait()
    wait_for(lambda: not any(Path(f"/proc/{child}").exists() for child in children))
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("part-*")}
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert f"{500 * len(before):,} of them were there already" in result.stdout
    assert len({row["path"] for row in rows_of(tmp_path / "out")}) == len(rows_of(tmp_path / "out")) == 4000
    assert all((tmp_path / "out" / name).stat().st_mtime_ns == changed for name, changed in before.items())


def test_a_rerun_does_only_what_is_missing_and_with_the_same_model(
    pictures: Path, tmp_path: Path, settings: Settings
) -> None:
    out = tmp_path / "out"
    whole = predict(settings, pictures, out)
    (out / "part-000002.parquet").unlink()
    (pictures / "late.jpg").touch()  # it was not there when the job began
    settings.live_model.write_bytes(b"another model")
    again = predict(settings, pictures, out)
    assert (again.earlier, again.done, again.job) == (18, 23, whole.job)
    assert {row["model_version"] for row in rows_of(out)} == {whole.job.model_version}
    done = predict(settings, pictures, out)
    assert (done.earlier, done.done, done.per_second) == (23, 23, 0)


def test_two_runs_do_not_share_an_output(pictures: Path, tmp_path: Path, settings: Settings) -> None:
    def again(progress: Progress) -> None:
        with pytest.raises(InvalidRequest, match="no other run"):
            predict(settings, pictures, tmp_path / "out")

    predict(settings, pictures, tmp_path / "out", again)


def test_a_source_that_vanishes_stops_the_job(pictures: Path, tmp_path: Path, settings: Settings) -> None:
    def vanish(progress: Progress) -> None:
        if progress.done and pictures.exists():
            pictures.rename(tmp_path / "elsewhere")

    with pytest.raises(StoreUnavailable, match="not any more"):
        predict(settings, pictures, tmp_path / "out", vanish)
    rows = rows_of(tmp_path / "out")
    assert 5 <= len(rows) < 23
    assert {row["error"] for row in rows} == {None}
    shutil.move(tmp_path / "elsewhere", pictures)
    assert predict(settings, pictures, tmp_path / "out").done == 23


def test_a_changed_model_file_is_noticed(pictures: Path, tmp_path: Path, settings: Settings) -> None:
    predict(settings, pictures, tmp_path / "out")
    (tmp_path / "out" / "part-000000.parquet").unlink()
    (tmp_path / "out" / "_model.h5").write_bytes(b"other")
    with pytest.raises(AppError, match="it was changed"):
        predict(settings, pictures, tmp_path / "out")


def test_no_pictures(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "text.txt").touch()
    with pytest.raises(InvalidRequest, match="holds none"):
        predict(settings, tmp_path / "pictures", tmp_path / "out")
    assert open_output(str(tmp_path / "out")).job() is None


def test_an_address_needs_ray(pictures: Path, tmp_path: Path, settings: Settings) -> None:
    """Unless it comes from the settings: then this machine does the work, and says so."""
    if shutil.which("ray", path=Path(sys.executable).parent):
        pytest.skip("Ray is installed here")
    with pytest.raises(NotOffered, match=r"make \.venv-scale"):
        predict(settings, pictures, tmp_path / "out", address="127.0.0.1:9")
    assert not (tmp_path / "out").exists()
    named = settings.model_copy(update={"ray_address": "127.0.0.1:9"})
    assert "a cluster pays from 20,000 pictures on" in predict(named, pictures, tmp_path / "out").where
