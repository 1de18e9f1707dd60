"""A machine with new pictures, and retrains that take no time."""

from collections.abc import Iterator

import pytest

from helpers.retraining import Machine, train_by_copying
from shoe_classifier.ml import finetune
from shoe_classifier.services import candidate_trainer
from shoe_classifier.settings import Settings


@pytest.fixture
def machine(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Machine]:
    """A machine with a store of its own; see `helpers.retraining.in_both_stores`."""
    machine = Machine(settings, shared=getattr(request, "param", False)).start()
    machine.upload()
    yield machine
    machine.close()


@pytest.fixture
def quick_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quick retrains copy the live model."""
    monkeypatch.setattr(finetune, "retrain_head", train_by_copying)


@pytest.fixture
def rejecting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate rejects every candidate."""
    monkeypatch.setattr(candidate_trainer, "judge", lambda evidence: ["it is worse"])
