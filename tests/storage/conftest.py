"""Both stores: a folder, and a project on a real PostgreSQL behind a real PostgREST."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.service import make_settings
from shoe_classifier.services.factories import open_store
from shoe_classifier.storage.protocols import Store


@pytest.fixture(params=["sqlite", pytest.param("supabase", marks=pytest.mark.supabase)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    overrides = request.getfixturevalue("project") if request.param == "supabase" else {}
    settings = make_settings(tmp_path, **overrides)
    settings.dataset_dir.mkdir()
    store = open_store(settings)
    store.start()
    assert store.problems() == []
    yield store
    store.close()
