"""Kill -9 at any step of any call, and compare what is there after the restart with what was acknowledged."""

import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from faults.ledger import Ledger, first_state
from helpers.service import Process, wait_for

KILLS = int(os.environ.get("FAULT_KILLS", "16"))
STEPS = 60  # about as many as a quick retrain has; what is not reached by one call is reached by the next
CRASH = Path(__file__).parent / "crash"


class Victim:
    """A service that kills itself at a step, again and again in the same folder."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._log = folder.parent / f"{folder.name}-steps"
        self.killed_before: Counter[str] = Counter()

    def start(self, step: int) -> Process:
        self._log.unlink(missing_ok=True)
        process = Process(self._folder, CRASH_LOG=str(self._log), CRASH_AT=str(step), PYTHONPATH=str(CRASH))
        return process.wait_until_ready()

    def count(self, process: Process) -> None:
        os.kill(process.process.pid, signal.SIGUSR1)
        wait_for(lambda: "counting" in self._log.read_text())

    def was_killed(self, process: Process) -> None:
        assert process.process.wait(timeout=30) == -signal.SIGKILL, process.log.read_text()
        self.killed_before[self._log.read_text().split()[-1]] += 1
        process.close()


@pytest.fixture
def victim(settings: object, tmp_path: Path) -> Iterator[Victim]:
    yield Victim(tmp_path)


@pytest.mark.faults
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_any_step(
    seed: int, victim: Victim, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    chance = random.Random(seed)
    process = victim.start(0)
    ledger = Ledger(process.client, chance, [first_state(process.client)])
    process.close()
    for _ in range(KILLS // 2):
        process = victim.start(chance.randint(1, STEPS))
        try:
            ledger.client = process.client
            ledger.check()
            assert list((tmp_path / "temp_uploads").glob("*")) == []
            assert [file.name for file in (tmp_path / "models").iterdir() if file.name.startswith(".candidate")] == []
            victim.count(process)
            with pytest.raises(httpx.TransportError):
                while True:
                    ledger.act()
            victim.was_killed(process)
        finally:
            process.close()
    process = victim.start(0)
    ledger.client = process.client
    ledger.check()
    process.close()
    figure = f"{KILLS // 2} kills, {ledger.acknowledged} calls acknowledged, {len(ledger.predictions)} predictions"
    record_property("Killed at any step", f"{figure}; before {dict(victim.killed_before)}")
