"""The rows of `Label_Changes`, in both stores."""

from pathlib import Path

import pytest

from helpers.rows import added, learned_rows, published, training
from shoe_classifier.errors import NotFound
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import KeptPicture, LabelChange, LabelCounts, new_id, utc_now


def test_labels_change_with_their_pictures(store: Store, tmp_path: Path) -> None:
    rows = added(store, tmp_path, 3)
    published(store, "v1", rows)
    store.keep_pictures([KeptPicture(rows[0].id, "label", "Boot", utc_now())])
    changes = [LabelChange(new_id(), "Boot", "Shoe", utc_now()), LabelChange(new_id(), "Shoe", None, utc_now())]
    for _ in range(2):  # as after a lost answer
        store.change_label(changes[0])
    assert store.label_counts() == {"Shoe": LabelCounts(3, 0, 3)}
    assert [row.shoe_class for row in store.kept_pictures()] == ["Shoe"]
    assert store.change_label(changes[1]) == 3
    assert store.label_changes() == changes
    assert (store.label_counts(), store.kept_pictures()) == ({}, [])
    assert store.deleted_pictures() == {row.sha256 for row in rows}


def test_a_merge_is_undone(store: Store, tmp_path: Path) -> None:
    boots, (shoe, file) = added(store, tmp_path, 2), training(tmp_path, b"a shoe", "Shoe")
    store.add_training([shoe], [file])
    published(store, "v1", boots)
    store.keep_pictures([KeptPicture(boots[0].id, "label", "Boot", utc_now())])
    change = LabelChange(new_id(), "Boot", "Shoe", utc_now())
    store.change_label(change)
    store.relabel(boots[1].id, "Hat")  # a person has decided since
    assert store.undo_change(change.id) == 2
    labels = {row.id: row.shoe_class for row in store.training_data(10, None)}
    assert labels == {boots[0].id: "Boot", boots[1].id: "Hat", shoe.id: "Shoe"}
    assert [row.id for row in learned_rows(store)] == [boots[0].id]
    assert [row.shoe_class for row in store.kept_pictures()] == ["Boot"]
    assert (store.label_changes(), store.undo_change(change.id)) == ([], None)


def test_a_removal_is_undone_with_its_pictures(store: Store, tmp_path: Path) -> None:
    rows = added(store, tmp_path, 3)
    published(store, "v1", rows[:2])
    change = LabelChange(new_id(), "Boot", None, utc_now())
    assert store.change_label(change) == 3
    again, file = training(tmp_path, b"picture 2", "Hat")
    store.add_training([again], [file])
    assert store.undo_change(change.id) == 3
    assert store.label_counts() == {"Boot": LabelCounts(2, 0, 2), "Hat": LabelCounts(1, 0, 0)}
    assert store.deleted_pictures() == frozenset()
    assert [len(data) > 0 for data in store.pictures([row.image_path for row in rows])] == [True] * 3


def test_only_the_newest_change_is_undone_and_none_that_is_settled(store: Store, tmp_path: Path) -> None:
    rows = added(store, tmp_path, 2)
    changes = [LabelChange(new_id(), "x", "y", utc_now()), LabelChange(new_id(), "Boot", None, utc_now())]
    for change in changes:
        store.change_label(change)
    assert [store.undo_change(undone) for undone in (changes[0].id, new_id(), "none")] == [None] * 3
    store.settle_changes(changes[0].id)
    assert next(store.pictures([rows[0].image_path]))
    for _ in range(2):  # as after a lost answer
        store.settle_changes(changes[1].id)
    with pytest.raises(NotFound):
        store.find_picture(rows[0].sha256)
    assert store.undo_change(changes[1].id) == 0
