"""Accepts connections, and looks at what they ask for: `/health` must not wait behind a crowd."""

import asyncio
import contextlib
import logging
import re
import socket
from collections import deque
from collections.abc import Callable, Sized

from starlette.responses import JSONResponse

from shoe_classifier.api.error_handlers import answer_to, raw
from shoe_classifier.errors import Overloaded

logger = logging.getLogger(__name__)

ALIVE = {"status": "alive"}  # the answer to GET /health
ALWAYS_ANSWERED = ("/health", "/ready", "/metrics")  # also on connections above the limit

_HEALTH = re.compile(rb"GET /health[/? ]")
_URGENT = re.compile(rf"(?:GET|HEAD) (?:{'|'.join(ALWAYS_ANSWERED)})[/? ]".encode())
_LONGEST_START = 16  # bytes of such a request
_AT_ONCE = 512  # connections that are accepted before the loop gets on with other things
_BEGUN_AT_ONCE = 64  # requests that begin then: what is urgent waits for them
_MOST_SILENT = 128  # connections that wait although nothing has arrived yet
_HALF_CLOSED, _HALF_CLOSED_SECONDS = 64, 1.0  # answered connections, whose clients may read the answer
_PAUSE_SECONDS = 1.0  # when the system has no more of what a connection needs


def too_many_connections() -> Overloaded:
    """What connections above the limit are told."""
    return Overloaded("Expected fewer connections at the same time; received one too many.", "connections")


class Acceptor:
    """Takes all connections from the system's queue, and begins them in an order of its own.

    In a crowd, the queue of the system holds many hundreds. What is urgent overtakes them here, `/health` is answered
    at once, and what is above the limit is refused, without the layers above, which take many times as long.
    """

    def __init__(
        self,
        listening: socket.socket,
        protocol: Callable[[], asyncio.Protocol],
        connections: Sized,
        most: int,
        count_refusal: Callable[[str], None],
    ):
        """`connections` are the open ones, of which there may be `most`."""
        self._loop = asyncio.get_running_loop()
        self._listening, self._protocol = listening, protocol
        self._connections, self._most, self._count_refusal = connections, most, count_refusal
        self._waiting: deque[socket.socket] = deque()
        self._answered: deque[socket.socket] = deque()
        self._tasks: set[asyncio.Task[object]] = set()
        self._beginning = False
        self._alive, self._refusal = raw(JSONResponse(ALIVE)), raw(answer_to(too_many_connections()))
        listening.setblocking(False)
        self._loop.add_reader(listening, self._accept_all)

    def close(self) -> None:
        """Accept no more connections."""
        self._loop.remove_reader(self._listening)
        for connection in (*self._waiting, *self._answered):
            connection.close()
        self._waiting.clear()
        self._answered.clear()

    def _accept_all(self) -> None:
        try:
            for _ in range(_AT_ONCE):
                connection, _ = self._listening.accept()
                self._sort(connection)
        except (BlockingIOError, ConnectionAbortedError):
            pass
        except OSError as error:  # such as too many open files
            logger.warning("No connection can be accepted: %s", error)
            self._loop.remove_reader(self._listening)
            self._loop.call_later(_PAUSE_SECONDS, self._go_on)
        if not self._beginning:
            self._begin_some()

    def _go_on(self) -> None:
        if self._listening.fileno() >= 0:
            self._loop.add_reader(self._listening, self._accept_all)

    def _sort(self, connection: socket.socket) -> None:
        start, full = _start_of(connection), len(self._connections) + len(self._waiting) >= self._most
        if (full or self._waiting) and _HEALTH.match(start):
            self._answer(connection, self._alive)
        elif _URGENT.match(start):
            self._begin(connection)
        elif full and (len(start) == _LONGEST_START or len(self._waiting) >= _MOST_SILENT):
            self._count_refusal("connections")
            self._answer(connection, self._refusal)
        else:
            self._waiting.append(connection)

    def _begin_some(self) -> None:
        for _ in range(min(_BEGUN_AT_ONCE, len(self._waiting))):
            self._begin(self._waiting.popleft())
        self._beginning = bool(self._waiting)
        if self._beginning:
            self._loop.call_soon(self._begin_some)

    def _begin(self, connection: socket.socket) -> None:
        task = self._loop.create_task(self._loop.connect_accepted_socket(self._protocol, connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _answer(self, connection: socket.socket, answer: bytes) -> None:
        with contextlib.suppress(OSError):  # the client may be gone already
            connection.recv(1 << 16, socket.MSG_DONTWAIT)  # or closing it would reset it
            connection.send(answer, socket.MSG_DONTWAIT)
            connection.shutdown(socket.SHUT_WR)
        self._answered.append(connection)
        self._loop.call_later(_HALF_CLOSED_SECONDS, self._close_oldest)
        if len(self._answered) > _HALF_CLOSED:
            self._close_oldest()

    def _close_oldest(self) -> None:
        if self._answered:
            self._answered.popleft().close()


def _start_of(connection: socket.socket) -> bytes:
    """The first bytes of what has arrived, which stay to be read; none if there are none yet."""
    try:
        return connection.recv(_LONGEST_START, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except OSError:
        return b""
