"""Two services behind the example of deploy/haproxy: killed, replaced one after the other, and what reaches them."""

import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from helpers.attacks import form
from helpers.pictures import draw, lesson_zip
from helpers.service import Process, wait_for
from helpers.supabase_stack import ROOT, free_port

pytestmark = pytest.mark.faults

CONFIGURATION = ROOT / "deploy/haproxy/haproxy.cfg"
KEY = {"X-API-Key": "the-key-of-the-owner"}
LARGE = draw("Boot", 1, (800, 800), quality=100)  # more than the proxy keeps to send it again
SETTINGS = {"SILENCE_SECONDS": "1", "MAX_IMAGE_BYTES": "1000000", "SHUTDOWN_SECONDS": "10"}


class Proxy:
    """HAProxy with the example's configuration, on ports of the test.

    Attributes:
        services: `a` and `b`, as far as they were started.
    """

    def __init__(self, folder: Path, model: Path):
        self._folder, self._model = folder, model
        self._runtime = Path(tempfile.mkdtemp())  # the path of a socket must be short
        self.services: dict[str, Process] = {}
        self.port = free_port()
        self.log = folder / "proxy.log"
        self._haproxy: subprocess.Popen[bytes] | None = None

    def start(self, names: str, **environment: str) -> None:
        for name in names:
            (self._folder / name / "models").mkdir(parents=True)
            shutil.copy(self._model, self._folder / name / "models")
            self.services[name] = Process(self._folder / name, **SETTINGS, **environment)
        for name in self.services:
            self.services[name].wait_until_ready()
        (self._folder / "haproxy.cfg").write_text(self._configuration())
        with self.log.open("wb") as log:
            command = ["haproxy", "-f", str(self._folder / "haproxy.cfg")]
            self._haproxy = subprocess.Popen(command, stdout=log, stderr=log)
        for name in names:
            self.wait_until(name, "UP")

    def _configuration(self) -> str:
        """The example with other addresses, without another user, which only root could become, and with a log here."""
        text = CONFIGURATION.read_text()
        for old, new in (
            ("    user haproxy\n    group haproxy\n", ""),
            ("log /dev/log local0", "log stdout format raw local0"),
            ("/run/haproxy/admin.sock", str(self._runtime / "admin")),
            ("bind :80", f"bind 127.0.0.1:{self.port}"),
            ("127.0.0.1:8001", f"127.0.0.1:{self.services['a'].port}"),
            ("127.0.0.1:8002", f"127.0.0.1:{self.services['b'].port if 'b' in self.services else free_port()}"),
        ):
            assert text.count(old) == 1
            text = text.replace(old, new)
        return text

    def tell(self, command: str) -> str:
        """Give a command to the running proxy, as `socat` does."""
        with socket.socket(socket.AF_UNIX) as admin:
            try:
                admin.connect(str(self._runtime / "admin"))
            except OSError:
                return ""
            admin.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: admin.recv(65536), b"")).decode()

    def _state(self, name: str) -> str:
        rows = [line.split(",") for line in self.tell("show stat").splitlines()]
        return next((row[17] for row in rows if row[:2] == ["shoes", name]), "")

    def wait_until(self, name: str, state: str) -> None:
        wait_for(lambda: self._state(name).startswith(state))

    def restart(self, name: str, **environment: str) -> None:
        old = self.services[name]
        self.services[name] = Process(self._folder / name, old.port, **SETTINGS, **environment).wait_until_ready()
        old.close()

    def client(self) -> httpx.Client:
        """One of another machine."""
        transport = httpx.HTTPTransport(local_address="127.0.0.2")
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60, transport=transport)

    def close(self) -> None:
        if self._haproxy:
            self._haproxy.kill()
            self._haproxy.wait()
        for service in self.services.values():
            service.close()
        shutil.rmtree(self._runtime)


@pytest.fixture
def proxy(tmp_path: Path, model_file: Path) -> Iterator[Proxy]:
    proxy = Proxy(tmp_path, model_file)
    yield proxy
    proxy.close()


@dataclass
class Load:
    """Predictions of a few clients.

    Attributes:
        answered: how many were right.
        failed: when each other one began and ended, and why it failed.
    """

    answered: int = 0
    failed: list[tuple[float, float, str]] = field(default_factory=list)


@contextmanager
def load(proxy: Proxy, clients: int = 4) -> Iterator[Load]:
    """Predict, a few times a second for each client, while the block runs."""
    seen, stop, lock = Load(), threading.Event(), threading.Lock()

    def predict() -> None:
        with proxy.client() as client:
            while not stop.wait(0.05):
                began = time.monotonic()
                try:
                    answer = client.post("/predict", files={"file": LARGE})
                    problem = "" if answer.status_code == 200 else answer.text
                except httpx.TransportError as error:
                    problem = repr(error)
                with lock:
                    seen.answered += not problem
                    seen.failed += [(began, time.monotonic(), problem)] if problem else []

    threads = [threading.Thread(target=predict) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_killed_service_and_a_new_release_fail_nothing_but_what_was_in_flight(proxy: Proxy) -> None:
    assert len(LARGE) > 2 * 16384
    proxy.start("ab")
    with load(proxy) as seen:
        wait_for(lambda: seen.answered > 20)
        kill = time.monotonic()
        proxy.services["a"].process.kill()
        proxy.services["a"].process.wait()
        gone = time.monotonic()
        proxy.wait_until("a", "DOWN")
        proxy.restart("a")
        proxy.wait_until("a", "UP")
    assert all(began < gone and ended > kill for began, ended, _ in seen.failed), seen.failed
    with load(proxy) as seen:
        for name in ("a", "b"):
            proxy.tell(f"set server shoes/{name} state drain")
            proxy.services[name].process.terminate()
            proxy.services[name].process.wait(60)
            proxy.restart(name)
            proxy.tell(f"set server shoes/{name} state ready")
            proxy.wait_until(name, "UP")
            before = seen.answered
            wait_for(lambda: seen.answered > before + 20)  # noqa: B023 - it ends within the round
    assert seen.failed == []
    assert all(service.client.get("/predictions").json() for service in proxy.services.values())


def test_what_comes_through_the_proxy_comes_from_elsewhere(proxy: Proxy) -> None:
    proxy.start("a")
    with proxy.client() as client:
        for forged in ({}, {"X-Forwarded-For": "127.0.0.1"}, {"Host": "localhost"}):
            upload = client.post("/upload", files={"file": lesson_zip("hat", 3)}, headers=forged)
            rows = client.get("/predictions", headers=forged)
            assert [(answer.status_code, answer.json()["code"]) for answer in (upload, rows)] == [
                (403, "forbidden")
            ] * 2
        assert client.post("/predict", files={"file": LARGE}).status_code == 200


def test_the_services_own_limits_and_answers_reach_the_client(proxy: Proxy) -> None:
    proxy.start("a", API_KEY=KEY["X-API-Key"], TRUSTED_PROXIES="127.0.0.1")
    with proxy.client() as client:
        assert client.post("/upload", headers=KEY, files={"file": lesson_zip("hat", 20)}).status_code == 201
        assert client.post("/predict", files={"file": bytes(2_000_000)}).json()["code"] == "too_large"
        assert slow_body(proxy) == 408
        events_come_at_once(client)
        client.delete("/training-data/x", headers={**KEY, "X-Forwarded-For": "8.8.8.8"})
        assert {row["client_address"] for row in client.get("/audit-log", headers=KEY).json()} == {"127.0.0.2"}
    assert "127.0.0.2" in proxy.log.read_text()


def slow_body(proxy: Proxy) -> int:
    """The status for a client that stops in the middle of a picture, as the service's SILENCE_SECONDS have it."""
    body = form(LARGE)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as client:
        head = "POST /predict HTTP/1.1\r\nHost: shoes\r\nContent-Type: multipart/form-data; boundary=edge\r\n"
        client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:20_000])
        return int(client.recv(65536).split()[1])


def events_come_at_once(client: httpx.Client) -> None:
    """What a retrain reports first is not kept back until it ends."""
    job = client.post("/retrain", headers=KEY, params={"mode": "quick"}).json()
    with client.stream("GET", f"/retrain/{job['job_id']}/events", headers=KEY) as answer:
        events = [*answer.iter_raw()]
    assert events[0].startswith(b"event: progress")
    assert b"event: end" not in events[0] and b"event: end" in events[-1]
