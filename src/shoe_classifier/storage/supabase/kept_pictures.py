"""The rows of `Kept_Pictures`."""

from collections.abc import Sequence
from dataclasses import asdict

from shoe_classifier.storage.supabase.records import Records
from shoe_classifier.storage.supabase.row_reader import LISTED, decode
from shoe_classifier.storage.tables import KEPT_PICTURES
from shoe_classifier.types import IssueKind, KeptPicture


class KeptPictures(Records):
    """See `protocols.KeptPictureStore`."""

    def keep_pictures(self, rows: Sequence[KeptPicture]) -> None:
        query = self._client.table("Kept_Pictures").upsert([asdict(row) for row in rows], returning="minimal")
        self._client.call(query.execute)

    def undo_keep(self, items: Sequence[tuple[str, IssueKind]]) -> None:
        for kind in {kind for _, kind in items}:
            ids = [row_id for row_id, of_kind in items if of_kind == kind]
            for start in range(0, len(ids), LISTED):
                query = self._client.table("Kept_Pictures").delete(returning="minimal").eq("kind", kind)
                self._client.call(query.in_("training_id", ids[start : start + LISTED]).execute)

    def kept_pictures(self) -> list[KeptPicture]:
        return [decode(KEPT_PICTURES, row) for row in self._client.rpc("kept_pictures")]
