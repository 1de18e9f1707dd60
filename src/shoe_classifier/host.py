"""What the host lends to this process."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_LIMITS = ("memory.max", "memory.limit_in_bytes")  # of control groups, version 2 and version 1


def memory_bytes(group: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> int:
    """Memory that this process may take: the host's, or less where a control group limits it, as in a container."""
    return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *_limits(group, root)])


def _limits(group: Path, root: Path) -> Iterator[int]:
    lines = group.read_text().splitlines() if group.exists() else []  # Linux only
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            own = root / controllers / path.strip("/")
            yield from (limit for folder in (own, *own.parents) for limit in _limit_of(folder))


def _limit_of(folder: Path) -> Iterator[int]:
    for name in _LIMITS:
        with contextlib.suppress(OSError, ValueError):  # not there, or "max"
            yield int((folder / name).read_text())
