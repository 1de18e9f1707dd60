"""The real service, in a thread of the tests or in a process of its own."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from helpers.supabase_stack import free_port
from shoe_classifier.main import create_app
from shoe_classifier.settings import Settings

_WITHOUT_RIGHTS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


def make_settings(folder: Path, **overrides: Any) -> Settings:
    """Settings of a service in a folder, in which chance draws no prediction for review."""
    return Settings(
        _env_file=None,  # type: ignore[call-arg]
        models_dir=folder / "models",
        dataset_dir=folder / "dataset",
        temp_uploads_dir=folder / "temp_uploads",
        **{"review_random_share": 0.0, **overrides},
    )


@contextmanager
def running(settings: Settings) -> Iterator[httpx.Client]:
    """The real service on a free port, in a thread of this process; ends by its own shutdown."""
    app = create_app(settings)
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, log_level="warning", proxy_headers=False, timeout_graceful_shutdown=5)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_for(lambda: server.started or not thread.is_alive())
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=200, trust_env=False) as client:
            client.app = app  # type: ignore[attr-defined]
            service = app.state.service
            wait_for(lambda: service.live_model.readiness != "loading")
            yield client
    finally:
        server.should_exit = True
        thread.join()


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    """Poll until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        time.sleep(0.01)


def finished_job(client: httpx.Client, job_id: str) -> dict[str, object]:
    job: dict[str, object] = {}

    def ended() -> bool:
        job.update(client.get(f"/retrain/{job_id}").json())
        return job["state"] not in ("queued", "running")

    wait_for(ended, 120)
    return job


class Process:
    """`python -m shoe_classifier serve` in a folder of its own."""

    def __init__(
        self,
        folder: Path,
        port: int | None = None,
        *,
        as_user: bool = False,
        python: str = sys.executable,
        log: str = "log",
        **environment: str,
    ):
        """`as_user`: without root's right to ignore the modes of files. `log`: its path from there."""
        self.port = port or free_port()
        prefix = _WITHOUT_RIGHTS if as_user and os.geteuid() == 0 else []
        clean = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
        self.log = folder / log
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [*prefix, python, "-m", "shoe_classifier", "serve", "--port", str(self.port)],
                cwd=folder,
                env={**clean, **environment},
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=120, trust_env=False)

    @staticmethod
    def run(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Another command of the package, to its end."""
        clean = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
        program = [sys.executable, "-m", "shoe_classifier", *command]
        return subprocess.run(
            program, cwd=folder, env={**clean, **environment}, capture_output=True, text=True, check=False
        )

    def wait_until_ready(self) -> "Process":
        def ready() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            try:
                return self.client.get("/ready").status_code == 200
            except httpx.TransportError:
                return False

        wait_for(ready)
        return self

    def close(self) -> None:
        """Kill the service with its workers and trainings, which outlive a killed parent."""
        self.client.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
