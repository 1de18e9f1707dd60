"""Connections of slow and broken clients, over raw sockets."""

import socket
import time
from collections.abc import Callable

import pytest

from helpers.service import Process

WHOLE = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def service(start: Callable[..., Process]) -> Process:
    return start(SILENCE_SECONDS="1")


def connect(service: Process) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), timeout=10)


def read_to_the_end(line: socket.socket) -> bytes:
    received = b""
    while chunk := line.recv(65536):
        received += chunk
    return received


@pytest.mark.parametrize("sent", [b"", b"GET /hea", b"POST /predict HTTP/1.1\r\nHost: x\r\n", WHOLE + b"GET /"])
def test_unfinished_headers_end_the_connection(service: Process, sent: bytes) -> None:
    with connect(service) as line:
        line.sendall(sent)
        answers = read_to_the_end(line)
    assert answers.count(b'{"status":"alive"}') == sent.count(WHOLE)


def test_headers_that_trickle_get_no_more_time(service: Process) -> None:
    with connect(service) as line:
        line.sendall(b"GET /health HTTP/1.1\r\n")
        with pytest.raises(OSError):
            for _ in range(100):  # a byte every tenth of a second, which is never silent
                line.sendall(b"a")
                time.sleep(0.1)


def test_endless_headers_are_refused(service: Process) -> None:
    with connect(service) as line:
        line.sendall(b"GET /health HTTP/1.1\r\nX: " + b"a" * 100_000)
        assert read_to_the_end(line).startswith(b"HTTP/1.1 400")


def test_a_connection_lasts_over_many_requests(service: Process) -> None:
    with connect(service) as line:
        for _ in range(5):
            line.sendall(WHOLE)
            answer = b""
            while not answer.endswith(b'{"status":"alive"}'):
                answer += line.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200")
            time.sleep(0.4)
