import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from helpers.bulk import DEADLY, folder_of, predict, predictions_unless_deadly, rows_of
from shoe_classifier.errors import ClusterUnavailable
from shoe_classifier.scale.job import Progress
from shoe_classifier.settings import Settings

pytestmark = pytest.mark.usefixtures("small_shards")


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


def test_a_picture_that_kills_its_decoder_becomes_a_row(tmp_path: Path, settings: Settings) -> None:
    pictures = folder_of(tmp_path / "pictures", 6)
    (pictures / "Boot" / "00001.jpg").write_bytes(DEADLY)
    end = predict(settings, pictures, tmp_path / "out", actors=2, look=predictions_unless_deadly)
    assert (end.done, end.failed) == (7, 1)
    errors = {row["path"]: row["error"] for row in rows_of(tmp_path / "out")}
    assert "2 processes that tried it were killed" in errors.pop("Boot/00001.jpg")
    assert set(errors.values()) == {None}
    assert not list((tmp_path / "out").glob("_begun*"))
