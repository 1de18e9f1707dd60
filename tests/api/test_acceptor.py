"""The order in which connections begin, on a real socket and without a service behind it."""

import asyncio
import socket
from collections.abc import Callable

import pytest

from shoe_classifier.api.acceptor import Acceptor

HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
READY = b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n"
PREDICT = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"


class Recorder(asyncio.Protocol):
    """Notes the requests that begin, in their order."""

    def __init__(self, begun: list[bytes]):
        self._begun = begun

    def data_received(self, data: bytes) -> None:
        self._begun.append(data)


def accepted(requests: list[bytes], most: int) -> tuple[list[bytes], list[bytes], list[str]]:
    """Let requests wait for an acceptor that may hold `most` connections; returns what began, answers and refusals."""

    async def run() -> tuple[list[bytes], list[bytes], list[str]]:
        begun: list[bytes] = []
        refused: list[str] = []
        with socket.create_server(("127.0.0.1", 0)) as listening:
            lines = [socket.create_connection(listening.getsockname(), timeout=10) for _ in requests]
            for line, request in zip(lines, requests, strict=True):
                line.sendall(request)
            acceptor = Acceptor(listening, lambda: Recorder(begun), (), most, refused.append)
            answers = [
                await asyncio.to_thread(line.recv, 65536)
                for line, request in zip(lines, requests, strict=True)
                if request == HEALTH or len(requests) > most
            ]
            await until(lambda: len(begun) + len(answers) == len(requests))
            acceptor.close()
            for line in lines:
                line.close()
        return begun, answers, refused

    return asyncio.run(run())


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("the condition did not come true in time")


def test_health_does_not_wait_behind_a_crowd_and_what_is_urgent_overtakes_it() -> None:
    begun, answers, refused = accepted([PREDICT] * 100 + [HEALTH, READY], 500)
    assert begun == [READY] + [PREDICT] * 100
    assert answers[0].startswith(b"HTTP/1.1 200 OK\r\n")
    assert answers[0].endswith(b'{"status":"alive"}')
    assert refused == []


def test_what_is_above_the_limit_is_refused() -> None:
    _, answers, refused = accepted([PREDICT] * 5, 0)
    assert {answer[:12] for answer in answers} == {b"HTTP/1.1 503"}
    assert {answer.endswith(b'"code":"overloaded"}') for answer in answers} == {True}
    assert refused == ["connections"] * 5
