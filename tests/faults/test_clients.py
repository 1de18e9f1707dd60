"""Clients that mean harm or stand still, and another program that holds the records, while others predict."""

import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from PIL import Image

from faults.ledger import Ledger, first_state
from helpers.attacks import hidden_entries
from helpers.pictures import encode, zip_of
from helpers.service import Process, wait_for
from shoe_classifier.settings import Settings

TESTS = Path(__file__).parent.parent
Record = Callable[[str, object], None]
pytestmark = pytest.mark.faults


def bombs() -> dict[str, bytes]:
    """Small files that would take minutes or gigabytes."""
    grey = encode(Image.new("L", (3000, 3000), 90), progressive=True)
    scan = grey.rindex(b"\xff\xda")
    header = encode(Image.new("L", (8, 8)), "PNG")
    return {
        "scans": grey[:-2] + grey[scan:-2] * 200 + grey[-2:],
        "pixels": encode(Image.new("1", (20_000, 20_000)), "PNG"),
        "pixels by the header alone": header[:16] + b"\x7f\xff\xff\xff" * 2 + header[24:],
        "entries that are not counted": hidden_entries(200_000),
        "a ZIP of zeros": zip_of({"hat/1.jpg": bytes(1 << 23)}),
    }


def test_bombs_are_refused_at_once(start: Callable[..., Process], record_property: Record) -> None:
    process, slowest = start(), 0.0
    for name, data in bombs().items():
        for path, field in (("/predict", "file"), ("/predict/batch", "files")):
            began = time.monotonic()
            answer = process.client.post(path, files={field: data})
            slowest = max(slowest, time.monotonic() - began)
            refused = answer.status_code in (413, 415, 422)
            assert refused or all("error" in result for result in answer.json()["results"]), (name, answer.text)
    assert slowest < 10
    record_property("Bombs", f"{len(bombs())} kinds refused, each within {slowest:.1f} s")


def test_slow_clients_are_closed_and_others_do_not_notice(
    start: Callable[..., Process], record_property: Record
) -> None:
    process, seconds = start(SILENCE_SECONDS="1"), []
    command = [sys.executable, "-m", "helpers.attacks", str(process.port), "60", "slow_clients"]
    attack = subprocess.Popen(command, cwd=TESTS)
    try:
        while "request_timeout" not in metrics_of(process):  # a body of a byte a second
            began = time.monotonic()
            httpx.get(f"{process.client.base_url}/health", timeout=30, trust_env=False).raise_for_status()
            seconds.append(time.monotonic() - began)
            assert attack.poll() is None
    finally:
        attack.kill()
        attack.wait()
    record_property(
        "Slow clients", f"closed; of {len(seconds)} others, the slowest waited {max(seconds, default=0):.2f} s"
    )


def metrics_of(process: Process) -> str:
    """On a new connection, because the service closes silent ones."""
    return httpx.get(f"{process.client.base_url}/metrics", timeout=30, trust_env=False).text


def test_predictions_wait_for_no_lock(
    settings: Settings, start: Callable[..., Process], record_property: Record
) -> None:
    process = start()
    ledger = Ledger(process.client, random.Random(1), [first_state(process.client)])
    with closing(sqlite3.connect(settings.dataset_dir / "records.sqlite3", isolation_level=None)) as other:
        other.execute("begin exclusive")
        began = time.monotonic()
        for _ in range(20):
            ledger.predict()
        seconds = time.monotonic() - began
    wait_for(lambda: process.client.get("/status").json()["store"]["waiting_predictions"] == 0)
    ledger.check()
    assert seconds < 20  # SQLite alone would wait for 5 seconds, each time
    record_property("Locked records", f"{len(ledger.predictions)} predictions, none lost, {seconds / 20:.2f} s each")
