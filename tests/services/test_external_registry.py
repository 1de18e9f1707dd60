import shutil
from pathlib import Path

import pytest

from helpers.retraining import Machine
from shoe_classifier.errors import InvalidModel, StoreUnavailable
from shoe_classifier.files import sha256_of
from shoe_classifier.ml.external_model import ExternalBundle
from shoe_classifier.ml.live_model import LiveModelHolder, Readiness
from shoe_classifier.services.external_registry import ExternalModelRegistry
from shoe_classifier.settings import Settings
from shoe_classifier.storage.model_files import ModelFiles
from shoe_classifier.storage.sqlite.store import SqliteStore


class Plain:
    """Stands in for an external model."""

    not_offered = ("retraining",)
    since = 0.0

    def __init__(self, sha256: str):
        self.bundle = ExternalBundle(f"keras-{sha256[:12]}", ("a", "b"), "2026-01-01T00:00:00.000Z", b"")


@pytest.mark.parametrize("marks_live", [True, False])
def test_external_model(settings: Settings, marks_live: bool, tmp_path: Path) -> None:
    store, holder = SqliteStore(tmp_path / "dataset"), LiveModelHolder(1000)
    files = ModelFiles(settings.live_model)
    registry = ExternalModelRegistry(
        files,
        store,
        holder,
        lambda path, sha256: Plain(sha256),
        marks_live=marks_live,  # type: ignore[arg-type, return-value]
    )
    registry.restore()
    assert holder.live.bundle.version == f"keras-{sha256_of(settings.live_model)[:12]}"
    assert [row.state for row in store.versions()] == ["live" if marks_live else "candidate"]
    store.close()


def test_an_external_model_that_does_not_load_has_no_substitute(settings: Settings, tmp_path: Path) -> None:
    Machine(settings, shared=False).start().close()
    shutil.copy(settings.live_model, tmp_path / "other.h5")

    def broken(path: Path, sha256: str) -> Plain:
        raise InvalidModel("Expected a model; received none.")

    store, holder = SqliteStore(tmp_path / "dataset"), LiveModelHolder(1000)
    files = ModelFiles(tmp_path / "other.h5")
    ExternalModelRegistry(files, store, holder, broken, marks_live=True).restore()  # type: ignore[arg-type]
    assert (holder.readiness, holder.reason) == (Readiness.FAILING, "Expected a model; received none.")
    store.close()


def test_an_external_model_serves_without_its_row(settings: Settings, tmp_path: Path) -> None:
    machine = Machine(settings, shared=True)
    machine.store.fail("save_version", StoreUnavailable("Expected an answer; received none."))
    holder = LiveModelHolder(1000)
    ExternalModelRegistry(
        machine.files,
        machine.store,
        holder,
        lambda path, sha256: Plain(sha256),
        marks_live=False,  # type: ignore[arg-type, return-value]
    ).restore()
    assert holder.readiness is Readiness.READY
    machine.close()
