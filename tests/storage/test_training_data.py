"""The rows of `Training_Data`, in both stores."""

from dataclasses import replace
from pathlib import Path

import pytest

from helpers.rows import added, learned_rows, published, training
from shoe_classifier.errors import NotFound
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import LabelCounts, TrainingFilter, new_id


def test_all_training_rows_as_they_are_now(store: Store, tmp_path: Path) -> None:
    assert list(store.training_rows()) == []
    rows = added(store, tmp_path, 12)
    reading = store.training_rows()
    assert next(reading) == rows[0]
    store.relabel(rows[-1].id, "Shoe")
    assert store.count_unprocessed(rows[8].id) == 3
    rest = list(reading)
    assert [row.id for row in rest] == [row.id for row in rows[1:]]
    if not store.shared:
        assert rest == rows[1:]


def test_training_rows_and_their_pictures(store: Store, tmp_path: Path) -> None:
    rows = added(store, tmp_path, 12)
    assert store.training_data(5, None) == rows[:-6:-1]
    assert store.training_data(100, rows[5].id) == rows[4::-1]
    assert list(store.pictures([row.image_path for row in rows])) == [f"picture {i}".encode() for i in range(12)]
    assert (store.unprocessed(), learned_rows(store), store.count_unprocessed()) == (rows, [], 12)


def test_the_same_picture_is_added_once(store: Store, tmp_path: Path) -> None:
    (row, file), (again, copy) = training(tmp_path, b"1"), training(tmp_path, b"1", "Shoe")
    assert store.add_training([row], [file]) == {row.id}
    copy.write_bytes(b"1")
    assert store.add_training([again], [copy]) == set()
    assert store.labels_of([row.sha256, "none"]) == {row.sha256: "Boot"}
    assert store.labels_of([]) == {}
    assert store.training_labels() == {"Boot": 1}


def test_training_pictures_are_relabelled_and_deleted(store: Store, tmp_path: Path) -> None:
    first, second = added(store, tmp_path, 2)
    published(store, "v1", [first, second])
    store.relabel(first.id, "Shoe")
    assert store.unprocessed() == [replace(first, shoe_class="Shoe")]
    store.delete_training(second)
    assert [row.id for row in store.training_data(10, None)] == [first.id]
    with pytest.raises(NotFound):
        list(store.pictures([second.image_path]))


def test_deleted_pictures_are_named_until_they_come_again(store: Store, tmp_path: Path) -> None:
    rows = added(store, tmp_path, 3)
    assert store.deleted_pictures() == frozenset()
    for row in [*rows, rows[0]]:  # a call may be repeated
        store.delete_training(row)
    assert store.deleted_pictures() == {row.sha256 for row in rows}
    again, file = training(tmp_path, b"picture 1")
    store.add_training([again], [file])
    assert store.deleted_pictures() == {rows[0].sha256, rows[2].sha256}
    store.delete_training(again)
    assert again.sha256 in store.deleted_pictures()


def test_filters_choose_training_pictures(store: Store, tmp_path: Path) -> None:
    rows = added(store, tmp_path, 4)
    published(store, "v1", rows[:2])
    store.relabel(rows[3].id, "Hat")
    ids = {
        TrainingFilter(label="Hat"): [3],
        TrainingFilter(learnt=True): [1, 0],
        TrainingFilter(learnt=False, label="Boot"): [2],
        TrainingFilter(split="holdout"): [],
        TrainingFilter(since=rows[0].uploaded_at, split="train"): [3, 2, 1, 0],
        TrainingFilter(until=rows[0].uploaded_at): [],
    }
    for which, expected in ids.items():
        assert [row.id for row in store.training_data(10, None, which)] == [rows[i].id for i in expected], which
        assert store.count_training(which) == len(expected), which
    assert store.training_data(10, rows[1].id, TrainingFilter(learnt=True)) == [replace(rows[0], is_processed=True)]


def test_many_pictures_change_in_one_call(store: Store, tmp_path: Path) -> None:
    rows = added(store, tmp_path, 6)
    published(store, "v1", rows)
    store.relabel_all([row.id for row in rows[:4]], "Hat")
    store.relabel_all([row.id for row in rows[2:6]], "Boot")
    assert store.label_counts() == {"Hat": LabelCounts(2, 0, 0), "Boot": LabelCounts(4, 0, 2)}
    found = store.training_pictures([rows[0].id, rows[5].id, new_id(), "none"])
    assert sorted(row.shoe_class for row in found) == ["Boot", "Hat"]
    store.delete_all(found)
    assert store.training_pictures([row.id for row in found]) == []
    assert store.deleted_pictures() == {rows[0].sha256, rows[5].sha256}
    assert store.count_training(TrainingFilter()) == 4
    with pytest.raises(NotFound):
        store.find_picture(rows[0].sha256)


def test_a_training_row_is_deleted_without_its_picture(store: Store, tmp_path: Path) -> None:
    row = added(store, tmp_path, 1)[0]
    store.delete_training(row, keep_picture=True)
    assert store.training_data(10, None) == [] and store.deleted_pictures() == {row.sha256}
    assert store.find_picture(row.sha256)[0] == row.image_path
