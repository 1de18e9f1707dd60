"""The stack of `docker compose up`; the tests have no Docker to start it with."""

from pathlib import Path
from typing import Any

import pytest
import yaml

PARTS: dict[str, Any] = yaml.safe_load((Path(__file__).parent.parent / "compose.yaml").read_text())["services"]
LASTING = [name for name in PARTS if name != "migrate"]


@pytest.mark.parametrize("name", LASTING)
def test_a_part_is_checked_and_starts_again(name: str) -> None:
    assert PARTS[name]["restart"] == "unless-stopped"
    assert "build" in PARTS[name] or PARTS[name]["healthcheck"]["test"][0] == "CMD"  # the Dockerfile has its own check


@pytest.mark.parametrize("name", PARTS)
def test_a_part_waits_until_others_work(name: str) -> None:
    for other, wait in PARTS[name].get("depends_on", {}).items():
        ended = "service_completed_successfully" if other not in LASTING else "service_healthy"
        assert wait == {"condition": ended}


def test_the_migrations_run_in_the_database_that_they_are_for() -> None:
    assert PARTS["migrate"]["image"] == PARTS["db"]["image"]
