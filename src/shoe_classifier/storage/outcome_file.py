"""The outcome of work in the background, which all workers of a machine tell alike."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

import orjson
from pydantic import TypeAdapter, ValidationError

from shoe_classifier.files import replacing
from shoe_classifier.storage.file_lock import FileLock

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.2
Outcome = TypeVar("Outcome")


class OutcomeFile(Generic[Outcome]):
    """The newest outcome, in a file: whichever worker has found it, all read the same.

    It may be deleted at any time; the work is then done again.

    Args:
        path: of the file, which need not be there.
        nothing: what is read before the first outcome: a dataclass whose fields JSON can hold.
    """

    def __init__(self, path: Path, nothing: Outcome):
        self._path = path
        self._lock = FileLock(path.with_suffix(".lock"))
        self._adapter: TypeAdapter[Outcome] = TypeAdapter(type(nothing))
        self._latest = nothing
        self._identity: tuple[int, int] | None = None  # of the file that `_latest` is from

    @contextmanager
    def turn(self, go_on: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Wait until no other worker is at work. `go_on` is called meanwhile, and raises to give up."""
        while not self._lock.acquire():
            go_on()
            time.sleep(_POLL_SECONDS)
        try:
            yield
        finally:
            self._lock.release()

    def read(self) -> Outcome:
        """Return the newest outcome."""
        try:
            status = self._path.stat()
            identity = status.st_ino, status.st_mtime_ns
            if identity != self._identity:
                self._latest = self._adapter.validate_json(self._path.read_bytes())
                self._identity = identity
        except FileNotFoundError:
            pass
        except (OSError, ValidationError) as error:  # such as a file of another release
            logger.warning("%s cannot be read: %s", self._path.name, error)
        return self._latest

    def write(self, outcome: Outcome) -> None:
        """Replace the outcome, for this worker even where the disk is full."""
        self._latest = outcome
        try:
            with replacing(self._path, durable=False) as part:
                part.write_bytes(orjson.dumps(outcome, option=orjson.OPT_SERIALIZE_NUMPY))
                status = part.stat()
                self._identity = status.st_ino, status.st_mtime_ns
        except OSError as error:
            logger.warning("%s could not be written: %s", self._path.name, error)
