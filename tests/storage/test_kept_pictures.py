"""The rows of `Kept_Pictures`, in both stores."""

from pathlib import Path

from helpers.rows import added
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import KeptPicture, utc_now


def test_a_picture_is_kept_once_for_each_kind(store: Store, tmp_path: Path) -> None:
    row = added(store, tmp_path, 1)[0]
    kept = [KeptPicture(row.id, "label", "Boot", utc_now()), KeptPicture(row.id, "outlier", "Boot", utc_now())]
    for _ in range(2):
        store.keep_pictures(kept)
    assert sorted(store.kept_pictures(), key=lambda one: one.kind) == kept
    store.undo_keep([(row.id, "label"), (row.id, "near_duplicate")])
    assert store.kept_pictures() == kept[1:]
