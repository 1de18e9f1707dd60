"""Webhooks: events queued on this machine's disk, signed, and delivered with retries by a thread of their own."""

import asyncio
import logging
import random
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import orjson

from shoe_classifier.services.webhook_endpoint import DeliveryFailed, WebhookEndpoint
from shoe_classifier.settings import Settings
from shoe_classifier.storage.file_lock import FileLock
from shoe_classifier.storage.webhook_queue import Delivery, WebhookQueue
from shoe_classifier.types import WebhookEvent, new_id, utc_now

logger = logging.getLogger(__name__)

_MAX_WAITING = 10_000  # deliveries
_RETRY_SECONDS = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)  # those of the specification
_PAUSE_SECONDS = 2.0  # after a failure, before another delivery: the receiver may be overloaded
_IDLE_SECONDS = 1.0  # before the queue is read again: another worker may have added to it
_STOP_SECONDS = 2.0


class Webhooks:
    """Delivers events to the receiver that the settings name.

    Args:
        retry_seconds: the pauses before the second attempt, the third, and so on; after the last, it is given up.
    """

    def __init__(self, settings: Settings, retry_seconds: Sequence[float] = _RETRY_SECONDS):
        self._endpoint = WebhookEndpoint(settings)
        self._queue = WebhookQueue(settings.dataset_dir / "webhooks.sqlite3", _MAX_WAITING)
        self._lock = FileLock(settings.dataset_dir / "webhooks.lock")  # one worker of this machine delivers
        self._retry_seconds = retry_seconds
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="webhooks", daemon=True)
        self._running = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
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
        if self._loop:
            self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join(timeout=_STOP_SECONDS)
        self._queue.close()

    def state(self) -> dict[str, Any]:
        """Describe the delivery for `/status`."""
        return {"waiting": self._queue.waiting(), **self._counts, "gone": self._gone, "last_error": self._last_error}

    def _wake_up(self) -> None:
        if self._loop:
            with suppress(RuntimeError):  # it has just been closed
                self._loop.call_soon_threadsafe(self._added.set)

    # ------------------------------------------------------------ on the thread

    async def _main(self) -> None:
        self._added = asyncio.Event()
        task = asyncio.current_task()
        assert task is not None
        self._task, self._loop = task, asyncio.get_running_loop()
        self._running.set()
        locked = False
        try:
            while not self._gone:
                self._added.clear()
                locked = locked or self._lock.acquire()
                pause = await self._deliver_one() if locked else _IDLE_SECONDS
                if pause:
                    await self._rest(pause)
        except asyncio.CancelledError:
            pass
        finally:
            if locked:
                self._lock.release()

    async def _rest(self, seconds: float) -> None:
        """Wait; when idle, only until something is added."""
        if seconds == _IDLE_SECONDS:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._added.wait(), seconds)
        else:
            await asyncio.sleep(seconds)

    async def _deliver_one(self) -> float:
        """Deliver what has been due for longest; return how many seconds to wait before the next."""
        try:
            delivery = self._queue.due(time.time())
            if delivery is None:
                return _IDLE_SECONDS
            try:
                await self._endpoint.send(delivery.id, delivery.body)
            except DeliveryFailed as failure:
                self._note_failure(delivery, failure)
                return _PAUSE_SECONDS
            self._queue.remove(delivery.id)
            self._counts["delivered"] += 1
            self._last_error = None
            return 0.0
        except Exception:  # whatever it was, such as a full disk, the thread must live on
            logger.exception("Webhooks could not be delivered; trying again.")
            return _PAUSE_SECONDS

    def _note_failure(self, delivery: Delivery, failure: DeliveryFailed) -> None:
        self._last_error = str(failure)
        if failure.gone:
            logger.error("The receiver of webhooks is gone (410); nothing more is sent until the next start.")
            self._gone = True
        elif delivery.attempts >= len(self._retry_seconds):
            logger.error("Webhook %s was given up: %s", delivery.id, failure)
            self._queue.remove(delivery.id)
            self._counts["given_up"] += 1
        else:
            level = logging.INFO if delivery.attempts else logging.WARNING
            logger.log(level, "Webhook %s was not delivered and is tried again: %s", delivery.id, failure)
            pause = self._retry_seconds[delivery.attempts]
            self._queue.postpone(delivery.id, time.time() + pause * random.uniform(1.0, 1.2))
