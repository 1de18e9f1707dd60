"""A limit of memory for a process and its children: a control group, where one can be made."""

import contextlib
import os
import uuid
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


class MemoryLimit:
    """Call `add` with a process that has just started; `close` when it has ended.

    Attributes:
        enforced: whether the kernel ends what exceeds the limit; otherwise only `peak` can be compared with it.
    """

    def __init__(self, max_bytes: int):
        self._pid = 0
        self._group = _make_group(max_bytes)
        self.enforced = self._group is not None

    def add(self, pid: int) -> None:
        self._pid = pid
        if self._group:
            (self._group / "cgroup.procs").write_text(str(pid))

    def memory(self, name: str = "VmRSS") -> int:
        """Resident bytes of the process now, or at most so far (`VmHWM`)."""
        lines = Path(f"/proc/{self._pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

    def close(self) -> None:
        if self._group:
            with contextlib.suppress(OSError):
                self._group.rmdir()


def _make_group(max_bytes: int) -> Path | None:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        group = _ROOT / controllers / path.strip("/") / f"test-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        with contextlib.suppress(OSError):
            group.mkdir()
            limit = next(group / name for name in ("memory.max", "memory.limit_in_bytes") if (group / name).exists())
            limit.write_text(str(max_bytes))
            return group
    return None
