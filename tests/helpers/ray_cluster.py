"""A Ray cluster of several nodes on this machine, each with one logical processor."""

import contextlib
import os
import secrets
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

START = {
    "RAY_raylet_start_wait_time_s": "40",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
}
_NODE = {"num_cpus": 1, "object_store_memory": 100 << 20, "include_log_monitor": False}
_HEAD = {**_NODE, "include_dashboard": False, "no_monitor": True}
_ATTEMPTS = 6


@contextmanager
def ray_cluster(nodes: int) -> Iterator[Any]:
    """Start a cluster; yields Ray's own `Cluster`, whose `address` is that of the head."""
    os.environ.update(START)
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex())  # or Ray would write one into the home folder
    from ray.cluster_utils import Cluster

    cluster = _patiently(lambda: Cluster(initialize_head=True, head_node_args=_HEAD))
    try:
        for _ in range(nodes - 1):
            add_node(cluster)
        yield cluster
    finally:
        cluster.shutdown()


def add_node(cluster: Any) -> None:
    """Add a node with one logical processor."""
    _patiently(lambda: cluster.add_node(**_NODE))


def _patiently(start: Callable[[], Any]) -> Any:
    """Start a node. Its helpers have 15 s to start, which no setting changes: too little on a busy machine."""
    for _ in range(_ATTEMPTS - 1):
        with contextlib.suppress(Exception):  # Ray raises no other
            return start()
    return start()


def actors_of(cluster: Any, kind: str = "MapWorker") -> list[int]:
    """The ids of the processes in which actors run; without another kind, those of Ray Data."""
    raylets = {info.process.pid for node in cluster.list_all_nodes() for info in node.all_processes["raylet"]}
    return [pid for pid, parent in _processes() if parent in raylets and kind in _title(pid)]


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def _processes() -> Iterator[tuple[int, int]]:
    """The ids of all processes, with their parents'."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            yield int(path.parent.name), int(path.read_text().rpartition(")")[2].split()[1])


def _title(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""
