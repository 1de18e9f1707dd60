"""Webhooks: events queued on this machine's disk, signed, and delivered with retries by a thread of their own."""

import asyncio
import logging
import random
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import orjson

from shoe_classifier.storage.file_lock import FileLock
from shoe_classifier.storage.webhook_queue import Attempt, Delivery, WebhookQueue
from shoe_classifier.types import WebhookEvent, new_id, utc_now

logger = logging.getLogger(__name__)

_MAX_WAITING = 10_000  # deliveries
_RETRY_SECONDS = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)  # those of the specification
_PAUSE_SECONDS = 2.0  # after a failure, before another delivery: the receiver may be overloaded
_IDLE_SECONDS = 1.0  # before the queue is read again: another worker may have added to it
_STOP_SECONDS = 2.0


class DeliveryFailed(Exception):
    """The receiver did not take a delivery. `gone`: it wants no further ones, either."""

    def __init__(self, reason: str, *, gone: bool = False):
        super().__init__(reason)
        self.gone = gone


class Endpoint(Protocol):
    """Where deliveries go."""

    async def send(self, delivery_id: str, body: str) -> None:
        """Send a delivery once.

        Raises:
            DeliveryFailed: no answer, or one other than 2xx.
        """


class Webhooks:
    """Delivers events to an endpoint.

    Args:
        folder: of the queue.
        retry_seconds: the pauses before the second attempt, the third, and so on; after the last, it is given up.
    """

    def __init__(self, folder: Path, endpoint: Endpoint, retry_seconds: Sequence[float] = _RETRY_SECONDS):
        self._endpoint = endpoint
        self._queue = WebhookQueue(folder / "webhooks.sqlite3", _MAX_WAITING)
        self._lock = FileLock(folder / "webhooks.lock")  # one worker of this machine delivers
        self._retry_seconds = retry_seconds
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="webhooks", daemon=True)
        self._running = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._counts = {"delivered": 0, "given_up": 0, "refused": 0}
        self._last_error: str | None = None
        self._gone = False

    def publish(self, event: WebhookEvent, data: Mapping[str, Any]) -> None:
        """Queue an event durably, and return at once. Never raises: an event is never worth a failed call.

        Args:
            data: what JSON can hold.
        """
        if self._gone:
            return
        try:
            body = orjson.dumps({"type": event, "timestamp": utc_now(), "data": data}).decode()
            if self._queue.add(f"msg_{new_id()}", body, time.time()):
                self._wake_up()
            else:
                self._counts["refused"] += 1
                logger.error("A webhook %s was left out: %d wait already.", event, _MAX_WAITING)
        except Exception:  # of any kind, such as a full disk
            logger.exception("A webhook %s could not be queued.", event)

    def start(self) -> None:
        """Begin to deliver what waits."""
        self._thread.start()
        self._running.wait()

    def stop(self) -> None:
        """End the delivery; what waits is delivered after the next start."""
        if self._loop and self._task:
            with suppress(RuntimeError):  # it has ended by itself
                self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join(timeout=_STOP_SECONDS)
        self._queue.close()

    def state(self) -> dict[str, Any]:
        """Describe the delivery for `/status`."""
        recent = [asdict(attempt) for attempt in self._queue.attempts()]
        state = {"waiting": self._queue.waiting(), **self._counts, "gone": self._gone, "last_error": self._last_error}
        return {**state, "recent": recent}

    def _wake_up(self) -> None:
        if self._loop:
            with suppress(RuntimeError):  # it has just been closed
                self._loop.call_soon_threadsafe(self._added.set)

    # ------------------------------------------------------------ on the thread

    async def _main(self) -> None:
        self._added, self._task = asyncio.Event(), asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        self._running.set()
        with suppress(asyncio.CancelledError):
            await self._deliver_all()
        self._lock.release()

    async def _deliver_all(self) -> None:
        """Deliver, one after the other, for as long as there is a receiver; while another worker does, wait."""
        locked = False
        while not self._gone:
            self._added.clear()
            try:
                locked = locked or self._lock.acquire()
                delivery = self._queue.due(time.time()) if locked else None
                if delivery is None:
                    await self._wait_for_more()
                elif not await self._deliver(delivery):
                    await asyncio.sleep(_PAUSE_SECONDS)
            except Exception:  # whatever it was, such as a full disk, the thread must live on
                logger.exception("Webhooks could not be delivered; trying again.")
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _wait_for_more(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._added.wait(), _IDLE_SECONDS)

    async def _deliver(self, delivery: Delivery) -> bool:
        """Try a delivery once; return whether the receiver took it."""
        try:
            await self._endpoint.send(delivery.id, delivery.body)
        except DeliveryFailed as failure:
            self._note_failure(delivery, failure)
            return False
        self._note(delivery, None)
        self._queue.remove(delivery.id)
        self._counts["delivered"] += 1
        self._last_error = None
        return True

    def _note(self, delivery: Delivery, error: str | None) -> None:
        self._queue.note(Attempt(orjson.loads(delivery.body)["type"], utc_now(), error))

    def _note_failure(self, delivery: Delivery, failure: DeliveryFailed) -> None:
        first, self._last_error = self._last_error is None, str(failure)
        self._note(delivery, str(failure))
        if failure.gone:
            logger.error("The receiver of webhooks is gone (410); nothing more is sent until the next start.")
            self._gone = True
        elif delivery.attempts >= len(self._retry_seconds):
            logger.error("Webhook %s was given up: %s", delivery.id, failure)
            self._queue.remove(delivery.id)
            self._counts["given_up"] += 1
        else:
            level = logging.WARNING if first else logging.DEBUG  # one line for each outage
            logger.log(level, "Webhook %s was not delivered and is tried again: %s", delivery.id, failure)
            pause = self._retry_seconds[delivery.attempts]
            self._queue.postpone(delivery.id, time.time() + pause * random.uniform(1.0, 1.2))
