"""What people say is right: the label of a predicted picture, or of one that was taught."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PurePath

from shoe_classifier.errors import NotFound
from shoe_classifier.services.ingestion import IngestionService
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import TrainingPicture


class CorrectionService:
    """Changes training pictures one by one. What a model has learnt from them stays until the next retrain."""

    def __init__(self, store: Store, ingestion: IngestionService):
        self._store = store
        self._ingestion = ingestion

    def learn(self, prediction_id: str, label: str, folder: Path, known_labels: Iterable[str]) -> TrainingPicture:
        """Take the picture of a prediction into the training data; one that is there gets the label.

        Args:
            folder: private; the picture waits here until it was checked.
            known_labels: labels of the live model, whose spelling wins.

        Raises:
            NotFound: no such prediction, or its picture was not kept.
            InvalidLabel, TooSmall: as for an upload.
        """
        known_labels = list(known_labels)
        prediction = self._store.prediction(prediction_id)
        if prediction is None:
            raise NotFound(f"Expected the id of a prediction; received {prediction_id[:80]!r}.")
        if prediction.image_path is None:
            raise NotFound("Expected a prediction whose picture was kept; that of this one was not.")
        sha256 = PurePath(prediction.image_path).stem
        row = self._store.training_with(sha256)
        if row:
            return self.relabel(row.id, label, known_labels)
        file = folder / PurePath(prediction.image_path).name
        file.write_bytes(next(self._store.pictures([prediction.image_path])))
        self._ingestion.ingest(file, file.name, label, folder, known_labels, source="feedback")
        return self._known(self._store.training_with(sha256), sha256)

    def relabel(self, row_id: str, label: str, known_labels: Iterable[str]) -> TrainingPicture:
        """Give a training picture another label. Raises `NotFound` and `InvalidLabel`."""
        row = self._known(self._store.training_picture(row_id), row_id)
        label = self._ingestion.spell(label, known_labels)
        if label == row.shoe_class:
            return row
        self._store.relabel(row.id, label)
        return replace(row, shoe_class=label, is_processed=False)

    def delete(self, row_id: str) -> None:
        """Delete a training picture. Raises `NotFound`."""
        self._store.delete_training(self._known(self._store.training_picture(row_id), row_id))

    @staticmethod
    def _known(row: TrainingPicture | None, asked: str) -> TrainingPicture:
        if row is None:
            raise NotFound(f"Expected the id of a training picture; received {asked[:80]!r}.")
        return row
