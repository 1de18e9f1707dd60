import os
from pathlib import Path

import pytest

from shoe_classifier.host import memory_bytes

PHYSICAL = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize(
    ("groups", "file"),
    [
        ("0::/service/one\n", "service/one/memory.max"),
        ("0::/service/one\n", "service/memory.max"),
        ("0::/\n", "memory.max"),
        ("5:cpu:/a\n4:memory:/service/one\n0::/\n", "memory/service/one/memory.limit_in_bytes"),
        ("4:memory:/not/mounted/here\n", "memory/memory.limit_in_bytes"),
    ],
)
def test_a_control_group_limits_the_memory(tmp_path: Path, groups: str, file: str) -> None:
    (tmp_path / "groups").write_text(groups)
    limit = tmp_path / "root" / file
    limit.parent.mkdir(parents=True)
    limit.write_text("512000000\n")
    assert memory_bytes(tmp_path / "groups", tmp_path / "root") == 512_000_000
    limit.write_text("max\n")
    assert memory_bytes(tmp_path / "groups", tmp_path / "root") == PHYSICAL


def test_elsewhere_it_is_that_of_the_host(tmp_path: Path) -> None:
    assert memory_bytes(tmp_path / "none", tmp_path / "none") == PHYSICAL
    assert 0 < memory_bytes() <= PHYSICAL
