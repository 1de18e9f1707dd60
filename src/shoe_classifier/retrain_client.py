"""Starts a retrain of a running service and follows it."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

_POLL_SECONDS = 0.3


def watch_retrain(
    url: str, options: dict[str, str], data: Path | None, api_key: str | None, show: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Ask for a retrain and poll it to its end; returns the finished job. Exits with the service's words on refusal."""
    headers = {"X-API-Key": api_key} if api_key else {}
    try:
        with httpx.Client(base_url=url, headers=headers, timeout=600, trust_env=False) as client:
            files = {"file": (data.name, data.read_bytes())} if data else None
            job = _read(client.post("/retrain", params=options, files=files))
            while job["finished_at"] is None or job["state"] in ("queued", "running"):
                show(job)
                time.sleep(_POLL_SECONDS)
                job = _read(client.get(f"/retrain/{job['job_id']}"))
            return job
    except httpx.TransportError as error:
        sys.exit(f"Expected a running service at {url}; {error}. `python -m shoe_classifier serve` starts one.")


def _read(response: httpx.Response) -> dict[str, Any]:
    body: dict[str, Any] = response.json()
    if response.is_error:
        sys.exit(str(body["detail"]))
    return body
