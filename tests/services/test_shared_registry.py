import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.retraining import Machine, Story, derive_version
from helpers.service import make_settings
from shoe_classifier.errors import InvalidModel, NotFound, RetrainRunning, StoreUnavailable
from shoe_classifier.files import sha256_of
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.services.model_registry import KeepPolicy, version_row
from shoe_classifier.settings import Settings
from shoe_classifier.types import RetrainJob

AWAY = StoreUnavailable("Expected an answer; received none.", again=True)


@pytest.fixture
def one(settings: Settings) -> Iterator[Machine]:
    machine = Machine(settings, shared=True).start()
    yield machine
    machine.close()


@pytest.fixture
def two(settings: Settings, one: Machine, tmp_path: Path) -> Iterator[Machine]:
    """Another machine: an empty disk for models, the same store."""
    machine = Machine(settings.model_copy(update={"models_dir": tmp_path / "two"}), shared=True)
    yield machine
    machine.close()


def publish(machine: Machine, version: str) -> str:
    target = derive_version(machine.settings.live_model, machine.files.candidate(version), version)
    row = version_row(bundles.read(target), sha256_of(target), "candidate")
    try:
        machine.registry.publish(target, row, RetrainJob(state="published", model_version=version), {})
    finally:
        target.unlink(missing_ok=True)
    return version


def serving(machine: Machine) -> str:
    return machine.holder.live.bundle.version


def test_a_new_disk_gets_the_live_version_from_the_store(one: Machine, two: Machine) -> None:
    publish(one, "v2")
    two.registry.restore()
    assert two.story() == Story("v2", "v2", "v2", 0)


def test_a_folder_in_place_of_the_live_file_keeps_no_machine_from_serving(one: Machine, two: Machine) -> None:
    publish(one, "v2")
    two.settings.live_model.mkdir(parents=True)
    two.registry.restore()
    assert serving(two) == "v2"


def test_all_machines_follow(one: Machine, two: Machine) -> None:
    two.registry.restore()
    first = serving(two)
    publish(one, "v2")
    assert serving(two) == first
    two.registry.follow()
    assert two.story() == Story("v2", "v2", "v2", 0)
    two.registry.activate(first)
    one.registry.follow()
    assert one.story() == Story(first, first, first, 0)
    assert one.registry.file_of("v2").exists()


def test_what_another_machine_deletes_leaves_this_disk_too(one: Machine, two: Machine) -> None:
    one.registry._keep = KeepPolicy(versions=1)  # type: ignore[attr-defined]
    two.registry.restore()
    for version in ("v2", "v3", "v4"):
        publish(one, version)
        two.registry.follow()
    for machine in (one, two):
        assert [file.stem for file in machine.files.archive.iterdir() if file.stem != "v4"] == ["v3"]


def test_the_first_machine_brings_its_model_and_a_later_one_only_offers_it(
    settings: Settings, tmp_path: Path, model_file: Path, one: Machine
) -> None:
    first = serving(one)
    folder = tmp_path / "other"
    folder.mkdir()
    derive_version(model_file, folder / "shoe_classifier.h5", "v2")
    other = Machine(settings.model_copy(update={"models_dir": folder}), shared=True).start()
    assert other.story() == Story(first, first, first, 0)
    assert {row.version: row.state for row in other.real_store.versions()} == {first: "live", "v2": "archived"}
    assert one.registry.activate("v2").state == "live"  # its file is in the store
    other.close()


def test_a_machine_whose_own_file_is_broken_follows_all_the_same(one: Machine, two: Machine) -> None:
    two.settings.models_dir.mkdir()
    two.settings.live_model.write_text("text")
    two.registry.restore()
    assert serving(two) == serving(one)


def test_without_any_model(tmp_path: Path) -> None:
    machine = Machine(make_settings(tmp_path), shared=True)
    with pytest.raises(InvalidModel, match="there is none"):
        machine.registry.restore()
    machine.close()


def test_while_the_store_is_away_the_last_live_version_serves(one: Machine) -> None:
    again = Machine(one.settings, shared=True)
    again.store.fail("live_version", AWAY)
    again.registry.restore()
    assert serving(again) == serving(one)
    shutil.copy(derive_version(one.settings.live_model, one.files.candidate("x"), "x"), one.settings.live_model)
    another = Machine(one.settings, shared=True)
    another.store.fail("live_version", AWAY)
    with pytest.raises(StoreUnavailable):  # a file that the store never called live
        another.registry.restore()
    for machine in (again, another):
        machine.close()


def test_a_job_that_was_taken_for_lost_publishes_nothing(one: Machine) -> None:
    first = serving(one)
    one.store.fail("finish_job", RetrainRunning("Expected this machine's job; another took it for lost."))
    with pytest.raises(RetrainRunning):
        publish(one, "v2")
    assert one.story() == Story(first, first, first, 0)
    assert one.real_store.version("v2").state == "deleted"  # type: ignore[union-attr]


def test_a_candidate_stays_while_it_is_unknown_whether_the_store_accepted_it(one: Machine) -> None:
    one.store.fail("finish_job", AWAY)
    with pytest.raises(StoreUnavailable):
        publish(one, "v2")
    assert one.real_store.version("v2").state == "candidate"  # type: ignore[union-attr]


def test_an_activation_that_the_store_does_not_accept_changes_nothing(one: Machine) -> None:
    first = serving(one)
    publish(one, "v2")
    one.store.fail("set_live", AWAY)
    with pytest.raises(StoreUnavailable):
        one.registry.activate(first)
    assert one.story() == Story("v2", "v2", "v2", 0)
    assert not list(one.settings.models_dir.glob(".*"))


def test_a_changed_archive_is_fetched_again(one: Machine) -> None:
    first = serving(one)
    publish(one, "v2")
    one.files.file_of(first).write_text("changed")
    one.registry.activate(first)
    assert one.story() == Story(first, first, first, 0)


def test_a_version_that_was_deleted_is_not_served_from_this_disk(one: Machine) -> None:
    first = serving(one)
    publish(one, "v2")
    one.real_store.drop_model(one.registry.known(first))
    assert one.files.file_of(first).exists()
    with pytest.raises(NotFound, match="deleted"):
        one.registry.activate(first)


def test_a_file_replaced_on_this_machine_gives_way_to_the_live_version(one: Machine) -> None:
    first = serving(one)
    new = derive_version(one.settings.live_model, one.settings.models_dir / "new.h5", "v2")
    publish(one, "v3")
    new.replace(one.settings.live_model)
    one.registry.refresh()
    assert serving(one) == "v3" != first
