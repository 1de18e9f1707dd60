"""The rows of `Training_Data`, and the hashes of those that were deleted (`Deleted_Pictures`)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from shoe_classifier.storage.filters import Condition, conditions_of
from shoe_classifier.storage.supabase.records import Records
from shoe_classifier.storage.supabase.row_reader import decode, is_uuid
from shoe_classifier.storage.tables import TRAINING_DATA
from shoe_classifier.types import EVERY_PICTURE, LabelCounts, TrainingFilter, TrainingPicture

_CHUNK = 5000  # rows added in one call; a hosted project ends a statement after 8 seconds


class TrainingData(Records):
    """See `protocols.TrainingStore`."""

    def add_training(self, rows: Sequence[TrainingPicture], files: Sequence[Path]) -> set[str]:
        pictures = [(row.image_path, file) for row, file in zip(rows, files, strict=True)]
        self._pictures.send_all(pictures)  # before the rows, which must not be there without them
        added: set[str] = set()
        for start in range(0, len(rows), _CHUNK):
            chunk = [asdict(row) for row in rows[start : start + _CHUNK]]
            added.update(self._client.rpc("add_training_data", rows=chunk))
        for image_path, file in pictures:
            self._pictures.keep(image_path, file)
        return added

    def training_data(
        self, limit: int, before: str | None, which: TrainingFilter = EVERY_PICTURE
    ) -> list[TrainingPicture]:
        return self._rows.newest(TRAINING_DATA, limit, before, conditions_of(which))

    def count_training(self, which: TrainingFilter) -> int:
        if which.since or which.until:
            return self._rows.count(TRAINING_DATA, conditions_of(which))
        filters = {"label": which.label, "wanted_split": which.split, "learnt": which.learnt}
        return int(self._client.rpc("count_pictures", **filters))

    def training_rows(self) -> Iterator[TrainingPicture]:
        return self._rows.each(TRAINING_DATA)

    def training_picture(self, row_id: str) -> TrainingPicture | None:
        return self._rows.one(TRAINING_DATA, "id", row_id)

    def training_pictures(self, row_ids: Sequence[str]) -> list[TrainingPicture]:
        rows = self._client.rpc("training_pictures", row_ids=[row_id for row_id in row_ids if is_uuid(row_id)])
        return [decode(TRAINING_DATA, row) for row in rows]

    def training_with(self, sha256: str) -> TrainingPicture | None:
        return self._rows.one(TRAINING_DATA, "sha256", sha256)

    def relabel(self, row_id: str, label: str) -> None:
        self.relabel_all([row_id], label)

    def relabel_all(self, row_ids: Sequence[str], label: str) -> None:
        self._client.rpc("relabel_pictures", row_ids=list(row_ids), label=label)

    def delete_training(self, row: TrainingPicture, *, keep_picture: bool = False) -> None:
        self._delete([row], keep_pictures=keep_picture)

    def delete_all(self, rows: Sequence[TrainingPicture]) -> None:
        self._delete(rows)

    def _delete(self, rows: Sequence[TrainingPicture], *, keep_pictures: bool = False) -> None:
        if not keep_pictures:
            self._pictures.delete([row.image_path for row in rows])
        # The rows go last, so that a caller who repeats a failed call still finds them.
        self._client.rpc("delete_pictures", row_ids=[row.id for row in rows])

    def deleted_pictures(self) -> frozenset[str]:
        return frozenset(self._client.rpc("deleted_pictures"))

    def labels_of(self, hashes: Iterable[str]) -> dict[str, str]:
        labels: dict[str, str] = self._client.rpc("labels_of_hashes", hashes=list(hashes))
        return labels

    def training_labels(self) -> dict[str, int]:
        labels: dict[str, int] = self._client.rpc("training_labels")
        return labels

    def label_counts(self) -> dict[str, LabelCounts]:
        return {label: LabelCounts(**counts) for label, counts in self._client.rpc("label_counts").items()}

    def unprocessed(self) -> list[TrainingPicture]:
        return self._rows.all(TRAINING_DATA, "is_processed", False)

    def count_unprocessed(self, after: str | None = None) -> int:
        if after is None:
            return self.count_training(TrainingFilter(learnt=False))
        newer = [Condition("is_processed", "=", False), Condition("id", ">", after)]
        return self._rows.count(TRAINING_DATA, newer)
