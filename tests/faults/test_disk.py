"""A disk that is full, then read-only, then as before: nothing acknowledged is lost, and no restart is needed."""

import contextlib
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from faults.ledger import Ledger, first_state
from helpers.service import Process, make_settings

MEGABYTES = 48

pytestmark = [pytest.mark.faults, pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")]


@pytest.fixture
def disk(tmp_path: Path, model_file: Path) -> Iterator[Path]:
    """A small file system, with a model in it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", str(folder))
    try:
        settings = make_settings(folder)
        settings.models_dir.mkdir()
        settings.live_model.write_bytes(model_file.read_bytes())
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def ledger(disk: Path) -> Iterator[Ledger]:
    process = Process(disk).wait_until_ready()
    ledger = Ledger(process.client, random.Random(1), [first_state(process.client)])
    for _ in range(12):
        ledger.act()
    ledger.check()
    yield ledger
    process.close()


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


@contextlib.contextmanager
def full(disk: Path) -> Iterator[None]:
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 16))
    yield
    filler.unlink()


@contextlib.contextmanager
def read_only(disk: Path) -> Iterator[None]:
    subprocess.run(["chattr", "+i", str(disk / "models")], check=True)
    yield
    subprocess.run(["chattr", "-i", str(disk / "models")], check=True)


@pytest.mark.parametrize("taken_away", [full, read_only])
def test_nothing_is_lost(
    taken_away: Callable[[Path], contextlib.AbstractContextManager[None]],
    disk: Path,
    ledger: Ledger,
    record_property: Callable[[str, object], None],
) -> None:
    with taken_away(disk):
        ledger.refusal = 507
        for _ in range(20):
            ledger.act()
            ledger.predict()
    assert ledger.refused
    ledger.refusal = None
    ledger.check()
    for _ in range(12):
        ledger.act()
    ledger.check()
    record_property(f"Disk {taken_away.__name__}", f"{ledger.acknowledged} calls answered, {ledger.refused} by 507")
