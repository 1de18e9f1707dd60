import hashlib
import os
from pathlib import Path

import pytest

from shoe_classifier import files
from shoe_classifier.files import fsync, replacing, sha256_of


def test_a_file_takes_its_place_at_the_end_of_the_block(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    path.write_text("old")
    with replacing(path) as part:
        part.write_text("new")
        assert (part.parent, part.suffix, path.read_text()) == (tmp_path, ".h5", "old")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("durable", [True, False])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "model.h5"
    path.write_text("old")
    with pytest.raises(OSError, match="disk full"), replacing(path, durable=durable) as part:
        part.write_text("half of the new one")
        raise OSError("disk full")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_durable_file_is_flushed_before_it_is_renamed_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, flushed = tmp_path / "a", list[tuple[str, bool]]()
    monkeypatch.setattr(
        os, "fsync", lambda handle: flushed.append((str(Path(f"/dev/fd/{handle}").readlink()), path.exists()))
    )
    with replacing(path) as part:
        part.write_text("new")
    assert flushed == [(str(part), False), (str(tmp_path), True)]
    flushed.clear()
    with replacing(path, durable=False) as part:
        part.write_text("newer")
    assert flushed == []


def test_missing_files_cannot_be_flushed(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        fsync(tmp_path / "none")


def test_the_hash_of_a_file(tmp_path: Path) -> None:
    data = bytes(range(256)) * 10_000
    (tmp_path / "a").write_bytes(data)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(data).hexdigest()


def test_a_process_of_another_user_counts_as_running(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(process: int, signal: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "kill", denied)
    assert files._runs("1", itself=False)
