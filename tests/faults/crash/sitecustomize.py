"""Kills the process that imports it before a given step: a statement of SQLite, or a change of a file or a folder.

Python imports a module of this name at its start, so the service itself needs no code for it. It counts steps from
SIGUSR1 on and writes down their names; before step number CRASH_AT it sends itself SIGKILL.
"""

import os
import signal
import sqlite3
import sys
from pathlib import Path
from types import FrameType
from typing import Any

FOLDER = Path.cwd()  # only what the service keeps in its own folders counts
LOG = os.open(os.environ["CRASH_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
LAST = int(os.environ["CRASH_AT"])
WRITING = os.O_WRONLY | os.O_RDWR
counting = False
steps = 0


def step(name: str) -> None:
    global steps  # noqa: PLW0603
    if not counting:
        return
    steps += 1
    os.write(LOG, f"{name}\n".encode())
    if steps == LAST:
        os.kill(os.getpid(), signal.SIGKILL)


def observe(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir"):
        if _is_kept(arguments[0]):
            step(event.removeprefix("os."))
    elif event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING and _is_kept(arguments[0]):
        step("write")


def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
    connection = open_connection(*arguments, **options)
    connection.set_trace_callback(lambda statement: step(statement.split(maxsplit=1)[0].lower()))
    return connection


def _is_kept(path: object) -> bool:
    return isinstance(path, str | bytes | os.PathLike) and (Path.cwd() / os.fsdecode(path)).is_relative_to(FOLDER)


def start_counting(number: int, frame: FrameType | None) -> None:
    global counting  # noqa: PLW0603
    counting = True
    os.write(LOG, b"counting\n")


open_connection = sqlite3.connect
sqlite3.connect = connect  # type: ignore[assignment]
sys.addaudithook(observe)
signal.signal(signal.SIGUSR1, start_counting)
