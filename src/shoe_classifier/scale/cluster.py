"""Shards on a Ray cluster, by Ray Data. Nothing of Ray is imported unless a cluster is used."""

import importlib.util
import ipaddress
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shoe_classifier.errors import AppError, ClusterUnavailable, InvalidRequest, NotOffered, StoreUnavailable
from shoe_classifier.scale.worker import Tally, Task, Worker

INSTALL = "pip install '.[scale]'"
THIS_MACHINE = "auto"  # the address of a cluster that runs on this machine, as Ray calls it
_PROBE_SECONDS = 5.0
_START_DEATHS = 5  # of actors, one after the other and none that started between them, after which a job ends
_TOKEN_VARIABLES = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


def ray_installed() -> bool:
    """Whether this environment can use a cluster."""
    return importlib.util.find_spec("ray") is not None


def require_ray() -> None:
    """Raise `NotOffered` where it cannot."""
    if not ray_installed():
        raise NotOffered(
            "Expected Ray, which a cluster needs; it is not installed here. In a checkout, `make .venv-scale` installs "
            f"it into an environment of its own, and {INSTALL} into this one. Without --address, this machine's cores "
            "do the work."
        )


def check_address(address: str) -> None:
    """Check that there is something at an address, and that it is not open to the world.

    Raises:
        InvalidRequest: it is not the address of a cluster, or a public one without a token.
        ClusterUnavailable: nothing answers there.
    """
    if address == THIS_MACHINE:
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in address:
        raise InvalidRequest(
            f"Expected the head node of a Ray cluster as host:port, or {THIS_MACHINE!r}; received {address!r}."
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _PROBE_SECONDS) as connection:
            peer = connection.getpeername()[0]
    except (OSError, OverflowError) as error:
        raise _nothing_at(address, error) from error
    if ipaddress.ip_address(peer).is_global and not _has_token():
        raise InvalidRequest(
            f"Expected a token for the cluster at {address}, which is a public address: whoever reaches a cluster "
            "without one can run programs on it. Start it with RAY_AUTH_MODE=token on a private network, and give this "
            "machine the same token (RAY_AUTH_TOKEN)."
        )


def _has_token() -> bool:
    """Whether Ray will use a token: without a mode, it does so when it finds one."""
    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return False
    return any(map(os.environ.get, _TOKEN_VARIABLES)) or (Path.home() / ".ray" / "auth_token").exists()


@contextmanager
def connected(address: str, actors: int | None) -> Iterator["Cluster"]:
    """Use a cluster during the block.

    Args:
        actors: how many processes; None for one on each of its processors.

    Raises:
        NotOffered, InvalidRequest, ClusterUnavailable: see `require_ray` and `check_address`; also when the cluster
            runs another version of Ray or Python, or has fewer processors.
    """
    require_ray()
    check_address(address)
    import ray

    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=True)
    except (RuntimeError, ConnectionError, ray.exceptions.RayError) as error:
        ray.shutdown()  # of versions that differ, it finds out when it has joined already
        raise _not_usable(address, error) from error
    try:
        processors = int(ray.cluster_resources().get("CPU", 0))
        nodes = sum(node["Alive"] for node in ray.nodes())
        count = actors or processors
        if not 1 <= count <= processors:
            raise InvalidRequest(
                f"Expected at most {processors} actors, one for each processor of the cluster; received {count}."
            )
        yield Cluster(count, f"{count} actors on {nodes} nodes of the cluster at {address}")
    finally:
        ray.shutdown()


def _nothing_at(address: str, error: BaseException) -> ClusterUnavailable:
    return ClusterUnavailable(
        f"Expected a Ray cluster at {address}; nothing answers there ({error}). `ray start --head` starts one."
    )


def _not_usable(address: str, error: Exception) -> AppError:
    text = " ".join(str(error).split())
    if "ersion mismatch" in text:
        return ClusterUnavailable(
            f"Expected the same versions of Ray and Python on the cluster at {address} as here; {text[:600]}"
        )
    return ClusterUnavailable(f"Expected to join the Ray cluster at {address}; received: {text[:600]}")


@dataclass(frozen=True)
class Cluster:
    """So many actors of the cluster that this process has joined. `where` says so, for people."""

    count: int
    where: str

    def run(self, task: Task, model: bytes, shards: list[int]) -> Iterator[Tally]:
        """See `job.Engine`. Ray starts killed actors again, on other machines, too, and repeats what they did."""
        import ray

        _configure()
        # A block for each shard, which is tiny: what remains to be moved between machines is numbers.
        numbers = ray.data.from_items([{"shard": shard} for shard in shards], override_num_blocks=len(shards))
        done = numbers.map_batches(
            _Actor,
            batch_size=None,
            fn_constructor_args=(task, ray.put(model)),
            compute=ray.data.ActorPoolStrategy(size=min(self.count, len(shards))),
            num_cpus=1,
        )
        try:
            for row in done.iter_rows():
                if row["problem"]:
                    raise StoreUnavailable(row["problem"])
                yield Tally(row["shard"], row["pictures"], row["failed"])
        except ray.exceptions.RayError as error:
            text = " ".join(str(error).split())
            raise ClusterUnavailable(f"Expected the cluster to finish; received: {text[:600]}") from error


class _Actor:
    """A worker in Ray's words: blocks in, blocks out.

    What ends the job comes back as a `problem`: Ray would lose the class of an error, and start an actor that could not
    begin again and again.
    """

    def __init__(self, task: Task, model: Any):
        import ray

        self._worker: Worker | None = None
        self._problem = ""
        try:
            self._worker = Worker(task, ray.get(model))
        except AppError as error:
            self._problem = error.detail

    def __call__(self, block: dict[str, Any]) -> dict[str, Any]:
        rows = [self._do(int(shard)) for shard in block["shard"]]
        return {name: [row[name] for row in rows] for name in ("shard", "pictures", "failed", "problem")}

    def _do(self, shard: int) -> dict[str, Any]:
        tally = Tally(shard, 0, 0)
        try:
            tally = self._worker(shard) if self._worker else tally
        except AppError as error:
            self._problem = error.detail
        return {**vars(tally), "problem": self._problem}


def _configure() -> None:
    """Let Ray Data replace actors that are killed while they start, and not draw its own progress over ours."""
    import ray

    context = ray.data.DataContext.get_current()
    context.max_consecutive_actor_init_deaths = _START_DEATHS
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
