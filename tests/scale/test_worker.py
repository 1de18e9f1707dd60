from pathlib import Path

import pytest

from helpers.bulk import folder_of, predict, rows_of
from shoe_classifier.errors import ClusterUnavailable, InvalidModel, StoreUnavailable
from shoe_classifier.scale import worker
from shoe_classifier.scale.bulk import predictions_of
from shoe_classifier.scale.manifest import open_source
from shoe_classifier.scale.output import Job, Output, open_output
from shoe_classifier.scale.worker import PictureLimits, Task, Worker
from shoe_classifier.settings import Settings


@pytest.fixture
def job(tmp_path: Path, settings: Settings) -> Job:
    """A job over six pictures, whose only shard is still to be done."""
    folder_of(tmp_path / "pictures", 6)
    end = predict(settings, tmp_path / "pictures", tmp_path / "out")
    (tmp_path / "out" / "part-000000.parquet").unlink()
    return end.job


def task_of(job: Job, out: Output, settings: Settings) -> Task:
    return Task(open_source(job.source, settings), out, predictions_of, PictureLimits.of(settings), job.model_sha256)


def test_a_picture_at_which_two_processes_ended_is_left_out(job: Job, tmp_path: Path, settings: Settings) -> None:
    out = open_output(str(tmp_path / "out"))
    work = Worker(task_of(job, out, settings), settings.live_model.read_bytes())
    out.note_attempts(0, [None, 3, 1, 3])
    assert work(0).failed == 1
    assert [row["path"] for row in rows_of(tmp_path / "out") if row["error"]] == ["Sandal/00004.jpg"]
    assert out.begun() == {}


def test_what_ends_every_process_is_not_blamed_on_the_pictures(
    job: Job, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_MOST_DEADLY", 2)
    out = open_output(str(tmp_path / "out"))
    work = Worker(task_of(job, out, settings), settings.live_model.read_bytes())
    attempts = [None, 0, 0, 1, 1, 2, 2]
    out.note_attempts(0, attempts)
    with pytest.raises(ClusterUnavailable, match="when memory is short"):
        work(0)
    assert out.begun() == {0: attempts}


def test_a_worker_needs_the_model_of_the_job_and_its_output(job: Job, tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(InvalidModel, match="received another"):
        Worker(task_of(job, open_output(str(tmp_path / "out")), settings), b"another")
    with pytest.raises(StoreUnavailable, match="all of them share"):
        Worker(task_of(job, open_output(str(tmp_path / "none")), settings), settings.live_model.read_bytes())
