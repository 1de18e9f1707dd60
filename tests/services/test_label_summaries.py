import pytest

from helpers.retraining import PICTURES, Machine
from shoe_classifier.ml.learning_curve import LearningCurve
from shoe_classifier.services.ingestion import IngestionService
from shoe_classifier.services.label_summaries import LabelSummaries
from shoe_classifier.services.labels import LabelService


@pytest.fixture
def summaries(machine: Machine) -> LabelSummaries:
    return LabelSummaries(machine.store, machine.holder, machine.settings.live_model)


def test_what_is_only_taught_comes_last(summaries: LabelSummaries) -> None:
    *learned, taught = summaries.all({"hat": LearningCurve(((2, 0.5),), expected_gain=0.0)})
    assert [summary.label for summary in learned] == ["Boot", "Sandal", "Shoe"]
    assert all(summary.recall is not None and summary.built_in and not summary.pictures for summary in learned)
    assert (taught.label, taught.live_label, taught.pictures, taught.built_in) == ("hat", None, PICTURES, 0)
    assert (taught.recall, taught.enough, taught.learning_curve) == (None, True, ((2, 0.5),))


def test_a_merged_label_has_the_built_in_pictures_of_both(machine: Machine, summaries: LabelSummaries) -> None:
    before = {summary.label: summary.built_in for summary in summaries.all({})}
    ingestion = IngestionService(machine.settings, machine.store, machine.features)
    LabelService(machine.store, machine.holder, ingestion).rename("Boot", "Shoe")
    after = {summary.label: summary.built_in for summary in summaries.all({})}
    assert after == {"Sandal": before["Sandal"], "Shoe": before["Shoe"] + before["Boot"], "hat": 0}
