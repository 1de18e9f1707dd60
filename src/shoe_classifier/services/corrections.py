"""Corrections by people: the label of a predicted picture, or of a training picture."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePath

from shoe_classifier.errors import NotFound
from shoe_classifier.services.ingestion import IngestionService
from shoe_classifier.services.picture_features import FeatureExtractor
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import TrainingPicture

_NAMED = 10  # unknown ids that a message names


class CorrectionService:
    """Changes training pictures. The live model changes with the next retrain only."""

    def __init__(self, store: Store, ingestion: IngestionService, features: FeatureExtractor):
        self._store = store
        self._ingestion = ingestion
        self._features = features

    def learn(self, prediction_id: str, label: str, folder: Path, known_labels: Iterable[str]) -> TrainingPicture:
        """Add the picture of a prediction to the training data; if it is there already, change its label.

        Args:
            folder: a folder of this call alone, for the picture while it is checked.
            known_labels: labels of the live model. A label that differs only in case is spelled as there.

        Raises:
            NotFound: there is no such prediction, or its picture was not kept.
            InvalidLabel, TooSmall: see `IngestionService.ingest`.
        """
        known_labels = list(known_labels)
        prediction = self._store.prediction(prediction_id)
        if prediction is None:
            raise NotFound(f"Expected the id of a prediction; received {prediction_id[:80]!r}.")
        if prediction.image_path is None:
            raise NotFound("Expected a prediction whose picture was kept; this one's was not.")
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
        row = self._known(self._store.training_picture(row_id), row_id)
        self._store.delete_training(row)
        self._features.forget([row.sha256])

    def relabel_all(self, row_ids: Sequence[str], label: str, known_labels: Iterable[str]) -> int:
        """Give training pictures another label, all or none.

        Raises:
            NotFound: some are not there; it names them.
            InvalidLabel: it cannot be a label.
        """
        label = self._ingestion.spell(label, known_labels)
        changed = [row for row in self._all_known(row_ids) if row.shoe_class != label]
        self._store.relabel_all([row.id for row in changed], label)
        return len(changed)

    def delete_all(self, row_ids: Sequence[str]) -> int:
        """Delete training pictures, all or none. Raises `NotFound`, which names the unknown ones."""
        rows = self._all_known(row_ids)
        self._store.delete_all(rows)
        self._features.forget([row.sha256 for row in rows])
        return len(rows)

    def withdraw(self, row: TrainingPicture) -> None:
        """Take a picture out of the training data, but leave its file: a prediction still shows it."""
        self._store.delete_training(row, keep_picture=True)
        self._features.forget([row.sha256])

    def delete_prediction(self, prediction_id: str) -> None:
        """Delete a prediction, and its picture unless another row uses it. Raises `NotFound`."""
        row = self._store.prediction(prediction_id)
        if row is None:
            raise NotFound(f"Expected the id of a prediction; received {prediction_id[:80]!r}.")
        self._store.delete_predictions([row])

    def _all_known(self, row_ids: Sequence[str]) -> list[TrainingPicture]:
        rows = self._store.training_pictures(row_ids)
        unknown = sorted(set(row_ids) - {row.id for row in rows})
        if unknown:
            named = ", ".join(row_id[:80] for row_id in unknown[:_NAMED])
            more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
            raise NotFound(
                f"Expected ids of training pictures; received {named}{more}, which there are not. Nothing was changed.",
                extra={"unknown": unknown},
            )
        return rows

    @staticmethod
    def _known(row: TrainingPicture | None, queried: str) -> TrainingPicture:
        if row is None:
            raise NotFound(f"Expected the id of a training picture; received {queried[:80]!r}.")
        return row
