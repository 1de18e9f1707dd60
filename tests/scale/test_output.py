import errno
import os
from pathlib import Path

import pytest

from helpers.bulk import predict
from shoe_classifier.errors import InvalidRequest, StorageFull
from shoe_classifier.scale.output import JOB, Output, open_output
from shoe_classifier.settings import Settings

pytestmark = pytest.mark.usefixtures("small_shards")


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


def test_attempts_are_kept_until_a_shard_is_done(tmp_path: Path) -> None:
    out = open_output(str(tmp_path))
    assert (out.begun(), out.attempts(12)) == ({}, [])
    out.note_attempts(12, [None, 3])
    out.note_attempts(7, [None])
    assert out.begun() == {12: [None, 3], 7: [None]}
    for _ in range(2):
        out.note_attempts(12, [])
    assert out.begun() == {7: [None]}
