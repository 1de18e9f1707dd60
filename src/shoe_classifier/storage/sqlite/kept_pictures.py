"""The rows of `Kept_Pictures`."""

from collections.abc import Sequence

from shoe_classifier.storage.sqlite.records import Records, insert
from shoe_classifier.storage.tables import KEPT_PICTURES
from shoe_classifier.types import IssueKind, KeptPicture


class KeptPictures(Records):
    """See `protocols.KeptPictureStore`."""

    def keep_pictures(self, rows: Sequence[KeptPicture]) -> None:
        with self._db.transaction() as db:
            for row in rows:
                insert(db, KEPT_PICTURES, row, "insert or replace")

    def undo_keep(self, items: Sequence[tuple[str, IssueKind]]) -> None:
        with self._db.transaction() as db:
            db.executemany("delete from Kept_Pictures where training_id = ? and kind = ?", items)

    def kept_pictures(self) -> list[KeptPicture]:
        return self._select(KEPT_PICTURES, "")
