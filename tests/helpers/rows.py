"""Rows of a store."""

from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import TrainingFilter, TrainingPicture


def learned_rows(store: Store) -> list[TrainingPicture]:
    """The pictures that the live version or one of its ancestors learned, oldest first."""
    return store.training_data(1000, None, TrainingFilter(learnt=True))[::-1]
