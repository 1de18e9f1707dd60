from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from helpers.rows import prediction
from helpers.service import make_settings
from shoe_classifier.storage.supabase.store import SupabaseStore

pytestmark = pytest.mark.supabase


@pytest.fixture
def store(tmp_path: Path, project: dict[str, object]) -> Iterator[SupabaseStore]:
    """A store whose outbox is not sent."""
    settings = make_settings(tmp_path, **project)
    settings.dataset_dir.mkdir()
    store = SupabaseStore(settings)
    yield store
    store.close()


def test_what_is_queued_and_what_is_stored_are_one_list(store: SupabaseStore) -> None:
    rows = [prediction() for _ in range(5)]
    store.send_rows("Predict", [asdict(row) for row in rows[:3]])
    for row in rows[2:]:  # the third is in both, as while it is being sent
        store.add_prediction(row, None)
    assert store.predictions(10, None) == rows[::-1]
    assert store.predictions(2, rows[3].id) == rows[2:0:-1]
