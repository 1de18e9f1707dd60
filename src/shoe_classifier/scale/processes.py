"""Shards on this machine's cores: one process each, without Ray."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

from shoe_classifier.errors import ClusterUnavailable
from shoe_classifier.scale.output import MODEL
from shoe_classifier.scale.worker import Tally, Task, Worker

_worker: Worker | None = None  # of this process, when it is one of the pool


@dataclass(frozen=True)
class Processes:
    """So many processes of this machine. `where` says so, for people."""

    count: int
    where: str

    def run(self, task: Task, model: bytes, shards: list[int]) -> Iterator[Tally]:
        """See `job.Engine`. A process that is killed is replaced, and what it was doing is done again.

        When one is killed, so are the others. Of the shards that they were doing, each is then done while no other is,
        so that the next death is not taken for one of another shard's pictures.
        """
        begun = task.output.begun()
        if min(self.count, len(shards)) == 1 and not begun:
            yield from map(Worker(task, model), shards)  # in this process: another would take a second to start
            return
        left, suspects = set(shards), set[int]()
        while left:
            before = begun, len(left)
            now, count = (left & suspects, 1) if left & suspects else (left, min(self.count, len(left)))
            try:
                for tally in _run_once(task, sorted(now), count):
                    left.discard(tally.shard)
                    yield tally
            except BrokenProcessPool as error:
                begun = task.output.begun()
                suspects = set(begun)
                if (begun, len(left)) == before:
                    raise ClusterUnavailable(
                        "Expected processes that finish a shard; all ended before, as the system ends them when memory "
                        f"is short. Take fewer than {self.count}."
                    ) from error


def _run_once(task: Task, shards: list[int], count: int) -> Iterator[Tally]:
    context = multiprocessing.get_context("spawn")  # a fork would copy the locks of this process's threads
    with ProcessPoolExecutor(count, context, _start, (task,)) as pool:
        try:
            for done in as_completed([pool.submit(_do, shard) for shard in shards]):
                yield done.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _start(task: Task) -> None:
    """Each process reads the model itself: one that is sent is waited for, and so each start for the one before.

    Besides, a pool forgets to end a process that it is just starting when another one dies, and never ends itself.
    """
    global _worker  # noqa: PLW0603 - a pool has no other place for what its processes keep
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # all processes of a terminal get a Ctrl-C: the parent decides
    _worker = Worker(task, task.output.read(MODEL))


def _end_with_parent() -> None:
    """A killed parent does not end its pool: the processes would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _do(shard: int) -> Tally:
    assert _worker is not None, "the pool has called `_start`"
    return _worker(shard)
