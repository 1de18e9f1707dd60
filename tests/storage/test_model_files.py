import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shoe_classifier.storage.model_files import ModelFiles


@pytest.fixture
def files(tmp_path: Path) -> ModelFiles:
    (tmp_path / "shoe_classifier.h5").write_text("one")
    return ModelFiles(tmp_path / "shoe_classifier.h5")


def candidate(files: ModelFiles, content: str) -> Path:
    path = files.candidate(content)
    path.write_text(content)
    return path


def test_the_live_file_is_archived_and_replaced(files: ModelFiles) -> None:
    new = candidate(files, "two")
    files.replace_live(new, "v1")
    assert (files.live.read_text(), files.file_of("v1").read_text()) == ("two", "one")
    assert not new.exists()


def test_writing_into_the_live_file_does_not_reach_the_archive(files: ModelFiles) -> None:
    files.replace_live(candidate(files, "two"), "v1")
    files.put_back("v1")
    files.replace_live(candidate(files, "two"), "v1")
    files.live.write_text("damaged")
    assert files.file_of("v1").read_text() == "one"


def test_put_back(files: ModelFiles) -> None:
    files.replace_live(candidate(files, "two"), "v1")
    files.put_back("v1")
    assert files.live.read_text() == "one"


def test_without_a_version_nothing_is_archived(files: ModelFiles) -> None:
    files.replace_live(candidate(files, "two"), None)
    assert files.live.read_text() == "two"
    assert not files.archive.exists()


def test_an_archived_file_is_not_overwritten(files: ModelFiles) -> None:
    files.replace_live(candidate(files, "two"), "v1")
    files.replace_live(candidate(files, "three"), "v1")
    assert files.file_of("v1").read_text() == "one"


def test_a_failure_before_the_rename_changes_nothing(files: ModelFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    new = candidate(files, "two")
    with pytest.raises(OSError, match="No space"):
        files.replace_live(new, "v1")
    assert files.live.read_text() == "one"
    assert new.exists()
    assert not list(files.archive.iterdir())


def test_copy_of_an_archived_file(files: ModelFiles) -> None:
    files.replace_live(candidate(files, "two"), "v1")
    copy = files.copy_archived("v1")
    assert copy.read_text() == files.file_of("v1").read_text() == "one"
    with pytest.raises(FileNotFoundError):
        files.copy_archived("v9")
    assert [path.name for path in files.live.parent.glob(".*")] == [copy.name]


def test_leftovers_of_processes_that_have_ended_are_removed(files: ModelFiles) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    files.archive.mkdir()
    folder, archive = files.live.parent, files.archive
    mine = [
        candidate(files, "two"),
        folder / f".candidate-old.{os.getppid()}.h5",
        folder / f".candidate-x.{ended.pid}.h5",
        folder / ".candidate-x.h5",
        folder / f".shoe_classifier.{ended.pid}.140001.part.h5",
        archive / f".20260101-000000-abcd.{ended.pid}.140001.part.h5",
        archive / ".20260101-000000-abcd.part",
    ]
    others = [
        folder / f".candidate-x.{os.getppid()}.h5",
        archive / f".20260101-000000-abcd.{os.getppid()}.140001.part.h5",
        folder / ".gitkeep",
        archive / "20260101-000000-abcd.h5",
        files.live,
    ]
    for path in mine + others:
        path.write_text("x")
    os.utime(mine[1], times=(0, 0))  # no process has written into it for a day
    files.remove_candidates()
    assert [path.name for path in mine if path.exists()] == []
    assert [path.name for path in others if not path.exists()] == []


def test_the_live_file_begins_as_a_copy_of_the_shipped_one(tmp_path: Path) -> None:
    files = ModelFiles(tmp_path / "shoe_classifier.h5")
    files.install_shipped()  # nothing is shipped, as with a model of one's own
    assert not files.live.exists()
    files.shipped.parent.mkdir()
    files.shipped.write_bytes(b"shipped")
    files.shipped.chmod(0o444)
    files.install_shipped()
    assert files.live.read_bytes() == b"shipped"
    files.live.write_bytes(b"taught")  # the copy can be written
    files.install_shipped()
    assert files.live.read_bytes() == b"taught"
    assert files.shipped.read_bytes() == b"shipped"


def test_an_installed_package_has_the_shipped_file_in_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged = tmp_path / "package" / "shoe_classifier.h5"
    packaged.parent.mkdir()
    packaged.write_bytes(b"packaged")
    monkeypatch.setattr("shoe_classifier.storage.model_files._PACKAGED", packaged.parent)
    files = ModelFiles(tmp_path / "models" / "shoe_classifier.h5")
    assert files.shipped == packaged
    assert ModelFiles(tmp_path / "models" / "flowers.h5").shipped != packaged
    beside = tmp_path / "models" / "shipped" / "shoe_classifier.h5"
    beside.parent.mkdir(parents=True)
    beside.write_bytes(b"beside")
    assert files.shipped == beside


def test_git_pull_works_after_teaching(tmp_path: Path) -> None:
    def git(folder: Path, *command: str) -> str:
        who = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
        return subprocess.run(["git", *who, *command], cwd=folder, check=True, capture_output=True, text=True).stdout

    origin, clone = tmp_path / "origin", tmp_path / "clone"
    shipped = origin / "models" / "shipped" / "shoe_classifier.h5"
    shipped.parent.mkdir(parents=True)
    shutil.copy(Path(__file__).parents[2] / ".gitignore", origin)
    for content in (b"first", b"second"):
        shipped.write_bytes(content)
        if content == b"first":
            git(origin, "init", "-q")
        git(origin, "add", ".")
        git(origin, "commit", "-qm", "x")
        if content == b"first":
            git(tmp_path, "clone", "-q", str(origin), str(clone))
            files = ModelFiles(clone / "models" / "shoe_classifier.h5")
            files.install_shipped()
            files.candidate("x").write_bytes(b"taught")
            files.replace_live(files.candidate("x"), "v1")
    assert git(clone, "status", "--porcelain") == ""
    git(clone, "pull", "-q")
    assert (files.live.read_bytes(), files.shipped.read_bytes()) == (b"taught", b"second")
