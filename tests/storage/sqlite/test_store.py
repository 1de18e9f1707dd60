"""What only this store does; `test_protocols.py` has what both do."""

import hashlib
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from shoe_classifier.storage.sqlite.store import SqliteStore
from shoe_classifier.types import MinuteMetrics, TrainingPicture, new_id, picture_path, utc_now


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path)
    yield store
    store.close()


def picture(folder: Path, content: bytes) -> tuple[TrainingPicture, Path]:
    sha256 = hashlib.sha256(content).hexdigest()
    file = folder / sha256
    file.write_bytes(content)
    path = picture_path(sha256, ".jpg")
    return TrainingPicture(new_id(), path, sha256, "Boot", False, "train", "zip", new_id(), utc_now()), file


def test_a_million_rows_page_as_a_search_not_a_scan(store: SqliteStore) -> None:
    plan = store._db.select("explain query plan select * from Predict where id < ? order by id desc limit ?", "f", 5)
    assert "SEARCH" in plan[0]["detail"]
    assert not any("TEMP B-TREE" in row["detail"] for row in plan)


def test_failed_transaction_leaves_nothing(store: SqliteStore, tmp_path: Path) -> None:
    row, file = picture(tmp_path, b"1")
    broken, other = picture(tmp_path, b"2")
    with pytest.raises(sqlite3.IntegrityError):
        store.add_training([row, replace(broken, shoe_class=None)], [file, other])  # type: ignore[arg-type]
    assert store.training_data(10, None) == []


def test_rows_outlive_the_connection(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    row, file = picture(tmp_path, b"1")
    store.add_training([row], [file])
    store.add_minute(MinuteMetrics(utc_now(), 5, 1.5, "ready"))
    store.close()
    again = SqliteStore(tmp_path)
    assert again.training_data(1, None) == [row]
    again.close()
