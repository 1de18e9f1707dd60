import pytest

from shoe_classifier.errors import Cancelled
from shoe_classifier.services.job_progress import JobProgress
from shoe_classifier.types import RetrainJob, TrainingEvent


def test_an_event_reaches_the_job_in_one_new_row() -> None:
    progress = JobProgress(RetrainJob())
    before = progress.row
    progress.report(TrainingEvent("train", 0.5, "Epoch 3 of 6.", epoch=3, epochs=6, loss=0.4))
    row = progress.row
    assert (before.phase, before.epoch) == ("queued", None)
    assert (row.phase, row.progress, row.message) == ("train", 0.6, "Epoch 3 of 6.")
    assert (row.epoch, row.epochs, row.loss) == (3, 6, 0.4)
    assert row.seconds_left is not None and row.seconds_left >= 0


def test_the_last_epoch_stays_while_what_follows_has_none() -> None:
    progress = JobProgress(RetrainJob())
    progress.report(TrainingEvent("train", 1.0, "Epoch 6 of 6.", epoch=6, epochs=6, loss=0.1))
    progress.report(TrainingEvent("compile", 0.0, "Compiling."))
    assert (progress.row.phase, progress.row.epoch, progress.row.loss) == ("compile", 6, 0.1)


def test_phases_follow_each_other_without_a_gap() -> None:
    progress, ends = JobProgress(RetrainJob()), []
    for phase in ("collect", "features", "train", "compile", "judge", "publish"):
        for share in (0.0, 1.0):
            progress.report(TrainingEvent(phase, share, ""))  # type: ignore[arg-type]
            ends.append(progress.row.progress)
    assert ends[0] == 0.0 and ends[-1] == 1.0
    assert ends[1:-1:2] == ends[2::2]


def test_cancelled() -> None:
    progress = JobProgress(RetrainJob())
    progress.cancel()
    with pytest.raises(Cancelled):
        progress.report(TrainingEvent("train", 0.5, ""))
    assert progress.row.phase == "queued"


@pytest.mark.parametrize(
    ("state", "error", "progress", "version"),
    [
        ("published", None, 1.0, "v2"),
        ("rejected", "x", 1.0, "v2"),
        ("failed", "x", 0.3, None),
        ("cancelled", None, 0.3, None),
    ],
)
def test_ends(state: str, error: str | None, progress: float, version: str | None) -> None:
    job = JobProgress(RetrainJob(state="running", progress=0.3, model_version="v2"))
    ended = job.ended(state, "x")  # type: ignore[arg-type]
    assert (ended.state, ended.phase, ended.message) == (state, state, "x")
    assert (ended.error, ended.progress, ended.model_version) == (error, progress, version)
    assert ended.finished_at and ended.seconds_left == 0.0
    assert not job.row.finished
