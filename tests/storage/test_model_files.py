import shutil
from pathlib import Path

import h5py
import pytest

from shoe_classifier.errors import InvalidModel
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.storage.model_files import ModelFiles, open_checked, sha256_of


@pytest.fixture
def registry(tmp_path: Path, model_file: Path) -> ModelFiles:
    shutil.copy(model_file, tmp_path / "shoe_classifier.h5")
    return ModelFiles(tmp_path / "shoe_classifier.h5")


def new_candidate(registry: ModelFiles, name: str) -> Path:
    path = registry.candidate(name)
    shutil.copy(registry.live, path)
    with h5py.File(path, "r+") as file:
        file.attrs["mark"] = name
    return path


def test_publish_archives_and_replaces(registry: ModelFiles) -> None:
    before = sha256_of(registry.live)
    candidate = new_candidate(registry, "v2")
    after = sha256_of(candidate)
    registry.publish(candidate, "v1")
    assert sha256_of(registry.live) == after
    assert sha256_of(registry.file_of("v1")) == before
    assert not candidate.exists()


def test_broken_candidate_changes_nothing(registry: ModelFiles) -> None:
    before = sha256_of(registry.live)
    candidate = registry.candidate("v2")
    candidate.write_bytes(b"broken")
    with pytest.raises(InvalidModel):
        registry.publish(candidate, "v1")
    assert sha256_of(registry.live) == before
    assert not candidate.exists()
    assert not registry.file_of("v1").exists()


def test_activate_keeps_both(registry: ModelFiles) -> None:
    first = sha256_of(registry.live)
    registry.publish(new_candidate(registry, "v2"), "v1")
    second = sha256_of(registry.live)
    registry.activate("v1", "v2")
    assert sha256_of(registry.live) == first
    assert sha256_of(registry.file_of("v2")) == second
    assert registry.file_of("v1").exists()


def test_leftovers_are_removed(registry: ModelFiles) -> None:
    new_candidate(registry, "v2")
    registry.remove_candidates()
    assert not list(registry.live.parent.glob(".candidate-*"))


def test_unknown_files_are_tried_in_a_child(registry: ModelFiles, tmp_path: Path) -> None:
    assert open_checked(registry.live, known=False).labels == bundles.read(registry.live).labels
    (tmp_path / "text.h5").write_text("text")
    with pytest.raises(InvalidModel, match=r"text\.h5"):
        open_checked(tmp_path / "text.h5", known=False)
