import os
from collections.abc import Iterator

import pytest

from helpers.retraining import PICTURES, Machine
from helpers.service import wait_for
from shoe_classifier.services.data_quality import DataQualityService
from shoe_classifier.services.training_process import LOWEST_PRIORITY
from shoe_classifier.types import EVERY_PICTURE


@pytest.fixture
def quality(machine: Machine) -> Iterator[DataQualityService]:
    service = DataQualityService(machine.settings, machine.store, machine.holder, machine.features)
    yield service
    service.stop()


def checked(quality: DataQualityService) -> bool:
    return bool(quality.issues(None, EVERY_PICTURE, 10)["up_to_date"])


def test_asking_starts_a_check_at_the_lowest_priority(quality: DataQualityService) -> None:
    assert not checked(quality)
    wait_for(lambda: checked(quality))
    assert quality._thread and quality._thread.native_id
    assert os.getpriority(os.PRIO_PROCESS, quality._thread.native_id) == LOWEST_PRIORITY
    assert quality.issues(None, EVERY_PICTURE, 10)["pictures"] == PICTURES


def test_more_pictures_are_another_state(quality: DataQualityService, machine: Machine) -> None:
    wait_for(lambda: checked(quality))
    machine.upload("hat", 1, start=50)
    assert not checked(quality)
    wait_for(lambda: checked(quality))
    assert quality.issues(None, EVERY_PICTURE, 10)["pictures"] == PICTURES + 1


def test_all_workers_tell_the_same_and_a_restart_checks_nothing_again(
    quality: DataQualityService, machine: Machine
) -> None:
    other = DataQualityService(machine.settings, machine.store, machine.holder, machine.features)
    wait_for(lambda: checked(quality))
    machine.upload("Boot", 1, start=50)
    other.check_soon()
    quality.check_soon()
    wait_for(lambda: checked(quality))
    found = quality.issues(None, EVERY_PICTURE, 10)
    assert found == other.issues(None, EVERY_PICTURE, 10) and found["pictures"] == PICTURES + 1
    assert other.curves() == quality.curves()
    other.stop()
    again = DataQualityService(machine.settings, machine.store, machine.holder, machine.features)
    assert again.issues(None, EVERY_PICTURE, 10) == found
    again.stop()


def test_a_check_that_fails_is_followed_by_one_that_does_not(quality: DataQualityService, machine: Machine) -> None:
    machine.store.fail("label_changes", OSError("the disk is away"), call=1)
    wait_for(lambda: checked(quality))
    assert machine.store.calls["label_changes"] >= 2


def test_pictures_without_a_file_are_left_out(quality: DataQualityService, machine: Machine) -> None:
    row = machine.store.unprocessed()[0]
    (machine.settings.dataset_dir / row.image_path).unlink()
    machine.features.forget([row.sha256])
    wait_for(lambda: checked(quality))
    assert quality.issues(None, EVERY_PICTURE, 10)["pictures"] == PICTURES - 1


def test_a_service_that_stops_gives_up_its_check(quality: DataQualityService) -> None:
    quality.check_soon()
    quality.stop()
    assert quality._thread and not quality._thread.is_alive()
    quality.check_soon()
    assert not quality._thread.is_alive()
