"""The rows of `Label_Changes`, and of `Changed_Pictures`, with which changes can be undone."""

import json
import sqlite3
from collections.abc import Sequence

from shoe_classifier.storage.sqlite.learned_pictures import recompute_processed
from shoe_classifier.storage.sqlite.records import IN_LIST, Records, insert
from shoe_classifier.storage.sqlite.training_data import delete_rows
from shoe_classifier.storage.tables import CHANGED_PICTURES, KEPT_PICTURES, LABEL_CHANGES, TRAINING_DATA
from shoe_classifier.types import ChangedPicture, LabelChange, TrainingPicture


class LabelChanges(Records):
    """See `protocols.LabelStore`."""

    def change_label(self, change: LabelChange) -> int:
        rows = self._select(TRAINING_DATA, "where shoe_class = ?", change.label)
        with self._db.transaction(durable=True) as db:
            insert(db, LABEL_CHANGES, change, then="on conflict (id) do nothing")
            for row in rows:
                insert(db, CHANGED_PICTURES, _changed(db, change, row))
            if change.name is None:
                delete_rows(db, rows)
            else:
                for table in (TRAINING_DATA, KEPT_PICTURES):
                    db.execute(
                        f"update {table.name} set shoe_class = ? where shoe_class = ?", [change.name, change.label]
                    )
        return len(rows)

    def undo_change(self, change_id: str) -> int | None:
        change = self._one(LABEL_CHANGES, "id", change_id)
        rows = self._select(CHANGED_PICTURES, "where change_id = ?", change_id)
        with self._db.transaction(durable=True) as db:
            newest = "delete from Label_Changes where id = ? and id = (select max(id) from Label_Changes)"
            if change is None or not db.execute(newest, [change_id]).rowcount:
                return None
            db.execute("delete from Changed_Pictures where change_id = ?", [change_id])
            _rename_back(db, change, [row.training_id for row in rows if row.picture is None])
            for row in rows:
                if row.picture is not None:
                    _bring_back(db, row)
            recompute_processed(db)
        return len(rows)

    def settle_changes(self, last: str) -> None:
        query = "select distinct json_extract(picture, '$.image_path') path from Changed_Pictures where change_id <= ?"
        with self._db.transaction() as db:
            paths = [row["path"] for row in db.execute(query, [last]) if row["path"]]
            db.execute("delete from Changed_Pictures where change_id <= ?", [last])
            self._delete_unused(db, paths)

    def label_changes(self) -> list[LabelChange]:
        return self._select(LABEL_CHANGES, "order by id")


def _changed(db: sqlite3.Connection, change: LabelChange, row: TrainingPicture) -> ChangedPicture:
    """What there is to keep about a picture whose label changes."""
    if change.name is not None:
        return ChangedPicture(change.id, row.id, row.sha256, None, [])
    learned = db.execute("select version from Learned_Pictures where training_id = ?", [row.id])
    return ChangedPicture(change.id, row.id, row.sha256, vars(row), [found["version"] for found in learned])


def _rename_back(db: sqlite3.Connection, change: LabelChange, training_ids: Sequence[str]) -> None:
    for table, column in (("Training_Data", "id"), ("Kept_Pictures", "training_id")):
        rename = f"update {table} set shoe_class = ? where shoe_class = ? and {column} {IN_LIST}"
        db.execute(rename, [change.label, change.name, json.dumps(training_ids)])


def _bring_back(db: sqlite3.Connection, row: ChangedPicture) -> None:
    """Insert a deleted training row again, unless its picture was uploaded meanwhile."""
    if insert(db, TRAINING_DATA, TrainingPicture(**row.picture or {}), then="on conflict (sha256) do nothing"):
        learned = "insert into Learned_Pictures (version, training_id) values (?, ?)"
        db.executemany(learned, [[version, row.training_id] for version in row.versions])
    db.execute("delete from Deleted_Pictures where sha256 = ?", [row.sha256])
