import pytest

from helpers.retraining import Machine
from shoe_classifier.errors import NotFound, TooFewLabels
from shoe_classifier.services.ingestion import IngestionService
from shoe_classifier.services.label_summaries import LabelSummaries
from shoe_classifier.services.labels import LabelService, pending_changes


@pytest.fixture
def labels(machine: Machine) -> LabelService:
    ingestion = IngestionService(machine.settings, machine.store, machine.features)
    return LabelService(machine.store, machine.holder, ingestion)


def test_changes_wait_until_a_model_takes_them_over(labels: LabelService, machine: Machine) -> None:
    live = machine.holder.teachable.bundle
    assert not pending_changes(machine.store, live).waiting
    labels.rename("Boot", "boots")
    pending = pending_changes(machine.store, live)
    assert (pending.waiting, pending.labels) == (True, ["boots", "Sandal", "Shoe"])
    labels.rename("boots", "Boot")
    assert not pending_changes(machine.store, live).waiting


def test_a_renamed_label_is_known_by_its_new_name_only(labels: LabelService, machine: Machine) -> None:
    labels.rename("Boot", "boots")
    summaries = LabelSummaries(machine.store, machine.holder, machine.settings.live_model)
    assert [summary.label for summary in summaries.all({})] == ["boots", "Sandal", "Shoe", "hat"]
    with pytest.raises(NotFound):
        labels.rename("Boot", "x")


def test_two_labels_remain(labels: LabelService) -> None:
    for label in ("hat", "Boot"):
        labels.remove(label)
    for change in (lambda: labels.remove("Shoe"), lambda: labels.rename("Shoe", "Sandal")):
        with pytest.raises(TooFewLabels):
            change()
