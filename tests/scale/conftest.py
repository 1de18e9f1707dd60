from pathlib import Path

import pytest

from helpers.bulk import folder_of
from shoe_classifier.scale import output


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of five pictures."""
    monkeypatch.setattr(output, "SHARD_PICTURES", 5)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of 23 pictures."""
    return folder_of(tmp_path / "pictures", 23)
