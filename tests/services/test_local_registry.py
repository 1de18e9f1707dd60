import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.retraining import Machine, Story, derive_version
from helpers.service import make_settings
from shoe_classifier.errors import InvalidModel, NotFound
from shoe_classifier.files import sha256_of
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml.live_model import Readiness
from shoe_classifier.services.model_registry import KeepPolicy, version_row
from shoe_classifier.settings import Settings
from shoe_classifier.types import RetrainJob


@pytest.fixture
def machine(settings: Settings) -> Iterator[Machine]:
    machine = Machine(settings, shared=False).start()
    yield machine
    machine.close()


def publish(machine: Machine, version: str) -> str:
    """Publish a copy of the live model under another name."""
    target = derive_version(machine.settings.live_model, machine.files.candidate(version), version)
    row = version_row(bundles.read(target), sha256_of(target), "candidate")
    job = RetrainJob(state="published", phase="published", model_version=version)
    machine.registry.publish(target, row, job, {})
    return version


def serving(machine: Machine) -> str:
    return machine.holder.live.bundle.version


def states(machine: Machine) -> dict[str, str]:
    return {row.version: row.state for row in machine.real_store.versions()}


def test_a_file_that_is_new_to_the_store_is_tried_in_a_sandbox_and_recorded(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []
    monkeypatch.setattr("shoe_classifier.ml.live_model.run_sandboxed", lambda task, path, seconds: tried.append(path))
    machine = Machine(settings, shared=False)
    machine.registry.restore()
    assert tried == [settings.live_model]
    assert states(machine) == {serving(machine): "live"}
    machine.registry.restore()
    assert len(tried) == 1
    machine.close()


def test_without_a_file_the_holder_says_so(tmp_path: Path) -> None:
    machine = Machine(make_settings(tmp_path), shared=False).start()
    assert machine.holder.readiness is Readiness.FAILING
    assert "there is none" in machine.holder.reason
    machine.close()


@pytest.mark.parametrize("content", [b"text", b""])
def test_a_broken_live_file_falls_back_to_the_newest_version_that_loads(machine: Machine, content: bytes) -> None:
    first = serving(machine)
    publish(machine, "v2")
    machine.settings.live_model.write_bytes(content)
    again = Machine(machine.settings, shared=False).start()
    assert again.story() == Story(first, first, first, 0)
    again.close()


def test_a_live_file_that_was_changed_is_not_its_version_any_more(machine: Machine) -> None:
    publish(machine, "v2")
    first = next(version for version, state in states(machine).items() if state == "archived")
    derive_version(machine.files.file_of(first), machine.settings.live_model, "v2")  # has the name, not the hash
    with machine.settings.live_model.open("ab") as file:
        file.write(b"x")
    again = Machine(machine.settings, shared=False).start()
    assert serving(again) == first
    again.close()


def test_publish_and_activate(machine: Machine) -> None:
    first = serving(machine)
    publish(machine, "v2")
    assert machine.story() == Story("v2", "v2", "v2", 0)
    assert machine.registry.activate(first).state == "live"
    assert machine.story() == Story(first, first, first, 0)
    assert machine.registry.activate("v2").state == "live"
    assert machine.registry.activate("v2").state == "live"
    assert machine.story() == Story("v2", "v2", "v2", 0)


@pytest.mark.parametrize("method", ["set_live", "replace_live", "copy_archived"])
def test_an_activation_that_fails_changes_nothing(machine: Machine, method: str) -> None:
    first = serving(machine)
    publish(machine, "v2")
    part = machine.store if method == "set_live" else machine.files
    part.fail(method, OSError(28, "No space left on device"), after=method != "copy_archived")
    with pytest.raises(OSError, match="No space"):
        machine.registry.activate(first)
    machine.store.heal()
    again = Machine(
        machine.settings, shared=False
    ).start()  # the file decides, if the store accepted it before it failed
    assert serving(machine) == "v2"
    assert again.story() == Story("v2", "v2", "v2", 0)
    again.close()


def test_a_candidate_that_does_not_predict_changes_nothing(machine: Machine) -> None:
    first = serving(machine)
    target = derive_version(machine.settings.live_model, machine.files.candidate("v2"), "v2")
    row = version_row(bundles.read(target), sha256_of(target), "candidate")
    target.write_bytes(b"damaged on its way")
    with pytest.raises(InvalidModel):
        machine.registry.publish(target, row, RetrainJob(state="published", model_version="v2"), {})
    assert machine.story() == Story(first, first, first, 0)
    assert states(machine)["v2"] == "deleted"


def test_a_file_that_another_process_replaced_is_served(machine: Machine) -> None:
    derive_version(machine.settings.live_model, machine.settings.models_dir / "new.h5", "v2")
    machine.registry.refresh()
    assert serving(machine) != "v2"
    (machine.settings.models_dir / "new.h5").replace(machine.settings.live_model)
    machine.registry.refresh()
    assert machine.story() == Story("v2", "v2", "v2", 0)


def test_a_broken_file_that_another_process_put_there_is_not(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    first = serving(machine)
    machine.settings.live_model.unlink()
    machine.registry.refresh()
    machine.settings.live_model.write_text("text")
    with caplog.at_level(logging.ERROR):
        machine.registry.refresh()
        machine.registry.refresh()
    assert (serving(machine), len(caplog.records)) == (first, 1)  # it is tried once


def test_old_files_are_pruned_but_not_the_previous_one(machine: Machine) -> None:
    machine.registry._keep = KeepPolicy(versions=1)  # type: ignore[attr-defined]
    first = serving(machine)
    for version in ("v2", "v3"):
        publish(machine, version)
    assert states(machine) == {first: "deleted", "v2": "archived", "v3": "live"}
    assert not machine.files.file_of(first).exists()
    assert machine.files.file_of("v2").exists()
    for call in (machine.registry.activate, machine.registry.file_of):
        with pytest.raises(NotFound, match="deleted"):
            call(first)
    machine.registry.activate("v2")
    publish(machine, "v4")  # v2 is the oldest, but was live until now
    assert states(machine)["v2"] == "archived"


def test_files_of_versions(machine: Machine) -> None:
    first = serving(machine)
    publish(machine, "v2")
    assert machine.registry.file_of("v2") == machine.settings.live_model
    assert machine.registry.file_of(first) == machine.files.file_of(first)
    machine.files.file_of(first).write_text("changed")
    with pytest.raises(NotFound, match="is kept"):
        machine.registry.file_of(first)
    with pytest.raises(NotFound, match="GET /models"):
        machine.registry.known("v9")


def test_a_locked_database_is_waited_for(settings: Settings) -> None:
    machine = Machine(settings, shared=False, patience_seconds=20).start()
    other = sqlite3.connect(settings.dataset_dir / "records.sqlite3", isolation_level=None, check_same_thread=False)
    machine.real_store._db._connection.execute("pragma busy_timeout = 50")

    def unlock(step: str) -> None:
        if step == "before finish_job" and machine.store.calls["finish_job"] == 3:
            other.execute("rollback")

    def lock(step: str) -> None:
        if step == "after replace_live":
            other.execute("begin immediate")

    machine.store.observer, machine.files.observer = unlock, lock
    publish(machine, "v2")
    assert machine.store.calls["finish_job"] == 3
    assert machine.story() == Story("v2", "v2", "v2", 0)
    other.close()
    machine.close()


def test_was_published(machine: Machine) -> None:
    publish(machine, "v2")
    assert machine.registry.was_published(RetrainJob(model_version="v2"))
    assert not machine.registry.was_published(RetrainJob(model_version="v9"))
    assert not machine.registry.was_published(RetrainJob())
    machine.settings.live_model.unlink()
    assert not machine.registry.was_published(RetrainJob(model_version="v2"))
