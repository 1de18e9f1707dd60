import errno
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.bulk import folder_of, predict, rows_of
from helpers.service import wait_for
from shoe_classifier.errors import (
    AppError,
    ClusterUnavailable,
    InvalidRequest,
    NotOffered,
    StorageFull,
    StoreUnavailable,
)
from shoe_classifier.ml.live_model import LiveModelHolder, open_model_file
from shoe_classifier.scale import output
from shoe_classifier.scale.job import Progress
from shoe_classifier.scale.output import JOB, Output, open_output
from shoe_classifier.settings import Settings


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "SHARD_PICTURES", 5)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "pictures", 23)


def test_rows_equal_single_predictions(pictures: Path, tmp_path: Path, settings: Settings) -> None:
    (pictures / "bad.jpg").write_bytes(b"text")
    (pictures / "empty.jpg").touch()
    end = predict(settings, pictures, tmp_path / "out")
    assert (end.done, end.failed, end.earlier, end.job.shards) == (25, 2, 0, 5)
    assert "1 process of this machine, because RAY_ADDRESS names no cluster" in end.where
    holder = LiveModelHolder(settings.max_image_pixels)
    holder.swap(open_model_file(settings.live_model, trusted=True))
    rows = rows_of(tmp_path / "out")
    assert [row["path"] for row in rows] == sorted(p.relative_to(pictures).as_posix() for p in pictures.rglob("*.jpg"))
    for row in rows:
        try:
            expected = holder.predict((pictures / row["path"]).read_bytes(), row["path"])
        except AppError as error:
            assert (row["error"], row["label"], row["probabilities"]) == (error.detail, None, None)
            continue
        assert (row["label"], row["confidence"]) == (expected.predicted_class, expected.confidence)
        assert (row["decision"], row["probabilities"]) == (expected.decision, expected.probabilities)
        assert (row["model_version"], row["error"]) == (expected.model_version, None)


def test_a_killed_process_loses_nothing(pictures: Path, tmp_path: Path, settings: Settings) -> None:
    killed = []

    def kill(progress: Progress) -> None:
        if progress.done and not killed:
            killed.append(multiprocessing.active_children()[0])
            os.kill(killed[0].pid or 0, signal.SIGKILL)

    assert predict(settings, pictures, tmp_path / "out", kill, actors=2).done == 23
    assert killed[0].exitcode == -signal.SIGKILL
    assert len({row["path"] for row in rows_of(tmp_path / "out")}) == len(rows_of(tmp_path / "out")) == 23


def test_processes_that_always_end_are_not_started_for_ever(
    pictures: Path, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shoe_classifier.scale.processes._start", os._exit)
    with pytest.raises(ClusterUnavailable, match="when memory is short"):
        predict(settings, pictures, tmp_path / "out", actors=2)


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


def test_an_output_of_something_else_is_refused(pictures: Path, tmp_path: Path, settings: Settings) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("x")
    with pytest.raises(InvalidRequest, match=r"holds 'mine.txt'"):
        predict(settings, pictures, out)
    assert [path.name for path in out.iterdir()] == ["mine.txt"]
    predict(settings, pictures, tmp_path / "other")
    with pytest.raises(InvalidRequest, match="this is 'predict' of"):
        predict(settings, tmp_path, tmp_path / "other")
    with pytest.raises(InvalidRequest, match="Expected a folder for the output"):
        predict(settings, pictures, out / "mine.txt")


def test_a_job_that_was_killed_while_listing_begins_anew(pictures: Path, tmp_path: Path, settings: Settings) -> None:
    predict(settings, pictures, tmp_path / "out")
    for path in (tmp_path / "out").iterdir():
        if path.name == JOB or path.name.startswith("part"):
            path.unlink()
    assert predict(settings, pictures, tmp_path / "out").done == 23


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


def test_a_full_disk_is_named(
    pictures: Path, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Output, "write_part", full)
        with pytest.raises(StorageFull):
            predict(settings, pictures, tmp_path / "out")
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
