"""What the bodies of all requests together may hold, and how slowly they may arrive."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from shoe_classifier.errors import Overloaded
from shoe_classifier.settings import Settings


class Budget:
    """Bytes of one kind, of which requests take shares. Used on the event loop only."""

    def __init__(self, place: Literal["memory", "disk"], max_bytes: int):
        self._place = place
        self._free = max_bytes

    @contextmanager
    def share(self) -> Iterator["Share"]:
        """A request's share, empty at first; it is given back at the end."""
        share = Share(self)
        try:
            yield share
        finally:
            self._free += share.taken

    def check(self, count: int) -> None:
        """Raise `Overloaded` if so many bytes are not free."""
        if count > self._free:
            raise Overloaded(
                f"Expected a body that fits into what is free of the {self._place} for bodies, {self._free:,} bytes; "
                f"received one of {count:,}. Try again later.",
                self._place,
            )

    def take(self, count: int) -> None:
        """Take bytes, for a share. Raises `Overloaded`."""
        self.check(count)
        self._free -= count


@dataclass
class Share:
    """What one request holds of a budget."""

    budget: Budget
    taken: int = 0

    def take(self, count: int) -> None:
        """Take more bytes. Raises `Overloaded`."""
        self.budget.take(count)
        self.taken += count


class BodyLimits:
    """The limits of the settings, and the budgets that requests share."""

    def __init__(self, settings: Settings):
        self.silence_seconds = settings.silence_seconds
        self.min_bytes_per_second = settings.min_bytes_per_second
        self.request_seconds = settings.request_seconds
        self.memory = Budget("memory", settings.max_body_memory_bytes)
        self.disk = Budget("disk", settings.max_body_disk_bytes)
