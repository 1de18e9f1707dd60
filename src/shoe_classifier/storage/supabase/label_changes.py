"""The rows of `Label_Changes`, and of `Changed_Pictures`, with which changes can be undone."""

from dataclasses import asdict

from shoe_classifier.storage.supabase.records import Records
from shoe_classifier.storage.supabase.row_reader import decode, is_uuid
from shoe_classifier.storage.tables import LABEL_CHANGES
from shoe_classifier.types import LabelChange


class LabelChanges(Records):
    """See `protocols.LabelStore`."""

    def change_label(self, change: LabelChange) -> int:
        return int(self._client.rpc("change_label", change=asdict(change)))

    def undo_change(self, change_id: str) -> int | None:
        pictures: int | None = self._client.rpc("undo_change", undone=change_id) if is_uuid(change_id) else None
        return pictures

    def settle_changes(self, last: str) -> None:
        self._pictures.delete(self._client.rpc("removed_pictures", last=last))
        # The rows go last, so that a caller who repeats a failed call still finds them.
        self._client.rpc("settle_changes", last=last)

    def label_changes(self) -> list[LabelChange]:
        return [decode(LABEL_CHANGES, row) for row in self._client.rpc("label_changes")]
