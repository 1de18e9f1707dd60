"""The rows of `Training_Data`, and the hashes of those that were deleted (`Deleted_Pictures`)."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from shoe_classifier.storage.filters import conditions_of
from shoe_classifier.storage.sqlite.records import IN_LIST, Records, decode, insert
from shoe_classifier.storage.tables import DELETED_PICTURES, TRAINING_DATA
from shoe_classifier.types import EVERY_PICTURE, DeletedPicture, LabelCounts, TrainingFilter, TrainingPicture, utc_now

_COUNT_LABELS = """
select shoe_class, sum(rows) pictures, sum(rows * (split = 'holdout')) held_out, sum(rows * is_processed) learnt
    from Training_Counts group by shoe_class having sum(rows) > 0
    order by (select min(id) from Training_Data where Training_Data.shoe_class = Training_Counts.shoe_class)
"""


class TrainingData(Records):
    """See `protocols.TrainingStore`."""

    def add_training(self, rows: Sequence[TrainingPicture], files: Sequence[Path]) -> set[str]:
        for row, file in zip(rows, files, strict=True):
            self._pictures.heal(row.image_path, file)
        self._pictures.flush([row.image_path for row in rows])  # before the rows, which must not outlive them
        with self._db.transaction(durable=True) as db:
            db.executemany("delete from Deleted_Pictures where sha256 = ?", [[row.sha256] for row in rows])
            added = {row.id for row in rows if insert(db, TRAINING_DATA, row, then="on conflict (sha256) do nothing")}
        for row, file in zip(rows, files, strict=True):
            self._pictures.add(row.image_path, file)  # again: its last prediction may just have been deleted
        return added

    def training_data(
        self, limit: int, before: str | None, which: TrainingFilter = EVERY_PICTURE
    ) -> list[TrainingPicture]:
        return self._page(TRAINING_DATA, limit, before, conditions_of(which))

    def count_training(self, which: TrainingFilter) -> int:
        if which.since or which.until:
            return self._count(TRAINING_DATA, conditions_of(which))
        return self._sum("Training_Counts", conditions_of(which))

    def training_rows(self) -> Iterator[TrainingPicture]:
        return self._stream_training("")

    def _stream_training(self, where: str) -> Iterator[TrainingPicture]:
        query = f"select {', '.join(TRAINING_DATA.columns)} from Training_Data {where} order by id"
        return (decode(TRAINING_DATA, row) for row in self._db.stream(query))

    def training_picture(self, row_id: str) -> TrainingPicture | None:
        return self._one(TRAINING_DATA, "id", row_id)

    def training_pictures(self, row_ids: Sequence[str]) -> list[TrainingPicture]:
        return self._select(TRAINING_DATA, f"where id {IN_LIST}", json.dumps(list(row_ids)))

    def training_with(self, sha256: str) -> TrainingPicture | None:
        return self._one(TRAINING_DATA, "sha256", sha256)

    def relabel(self, row_id: str, label: str) -> None:
        self.relabel_all([row_id], label)

    def relabel_all(self, row_ids: Sequence[str], label: str) -> None:
        others = f"from Training_Data where shoe_class <> ? and id {IN_LIST}"
        with self._db.transaction(durable=True) as db:
            ids = json.dumps([row["id"] for row in db.execute(f"select id {others}", [label, json.dumps([*row_ids])])])
            db.execute(f"update Training_Data set shoe_class = ?, is_processed = 0 where id {IN_LIST}", [label, ids])
            db.execute(f"delete from Learned_Pictures where training_id {IN_LIST}", [ids])

    def delete_training(self, row: TrainingPicture, *, keep_picture: bool = False) -> None:
        if not keep_picture:
            self.delete_all([row])
            return
        with self._db.transaction(durable=True) as db:
            delete_rows(db, [row])

    def delete_all(self, rows: Sequence[TrainingPicture]) -> None:
        with self._db.transaction(durable=True) as db:
            delete_rows(db, rows)
        for row in rows:
            self._pictures.delete(row.image_path)

    def deleted_pictures(self) -> frozenset[str]:
        return frozenset(row["sha256"] for row in self._db.select("select sha256 from Deleted_Pictures"))

    def labels_of(self, hashes: Iterable[str]) -> dict[str, str]:
        query = f"select sha256, shoe_class from Training_Data where sha256 {IN_LIST}"
        return {row["sha256"]: row["shoe_class"] for row in self._db.select(query, json.dumps(list(hashes)))}

    def training_labels(self) -> dict[str, int]:
        return {label: counts.pictures for label, counts in self.label_counts().items()}

    def label_counts(self) -> dict[str, LabelCounts]:
        rows = self._db.select(_COUNT_LABELS)
        return {row["shoe_class"]: LabelCounts(row["pictures"], row["held_out"], row["learnt"]) for row in rows}

    def unprocessed(self) -> list[TrainingPicture]:
        return [*self._stream_training("where is_processed = 0")]

    def count_unprocessed(self, after: str | None = None) -> int:
        if after is None:
            return self.count_training(TrainingFilter(learnt=False))
        query = "select count(*) n from Training_Data where is_processed = 0 and id > ?"
        return int(self._db.select(query, after)[0]["n"])


def delete_rows(db: sqlite3.Connection, rows: Sequence[TrainingPicture]) -> None:
    """Delete rows and what is known about them, and keep the hashes of their pictures."""
    ids = json.dumps([row.id for row in rows])
    for table, column in (
        ("Training_Data", "id"),
        ("Learned_Pictures", "training_id"),
        ("Kept_Pictures", "training_id"),
    ):
        db.execute(f"delete from {table} where {column} {IN_LIST}", [ids])
    for row in rows:
        insert(db, DELETED_PICTURES, DeletedPicture(row.sha256, utc_now()), "insert or replace")
