"""Memory does not grow with what the service has answered and learned."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from helpers.pictures import draw, lesson_zip
from helpers.service import Process

REQUESTS, RETRAINS = 600, 3
MB = 1 << 20
GROWTH = 25 * MB


def anonymous_memory(process: Process) -> int:
    """Bytes that are in no file."""
    status = Path(f"/proc/{process.process.pid}/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) << 10


def make_requests(client: httpx.Client, number: int) -> None:
    """A mixture: pictures of two sizes, a broken one, and a list."""
    pictures = [draw("Boot", number), draw("Shoe", number, (900, 700)), draw("Boot", number)[:200]]

    def request(index: int) -> None:
        if index % 4 == 3:
            assert client.get("/predictions").status_code == 200
        else:
            client.post("/predict", files={"file": pictures[index % 4]})

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(request, range(number)))


def retrain(client: httpx.Client, number: int) -> None:
    assert client.post("/upload", files={"file": lesson_zip("hat", 20, start=1000 * number)}).status_code == 201
    query = {"mode": "quick", "wait": "true", "force": "true"}
    assert client.post("/retrain", params=query).json()["state"] == "published"


@pytest.mark.faults
def test_memory_does_not_grow(start: Callable[..., Process], record_property: Callable[[str, object], None]) -> None:
    process = start()
    make_requests(process.client, REQUESTS // 4)
    retrain(process.client, 1)
    before = anonymous_memory(process)
    for number in range(RETRAINS):
        make_requests(process.client, REQUESTS // RETRAINS)
        retrain(process.client, number + 2)
    growth = anonymous_memory(process) - before
    record_property("Memory", f"{growth / MB:+.0f} MB after {REQUESTS} requests and {RETRAINS} retrains")
    assert growth < GROWTH
