"""Charts of the load runs."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

Level = dict[str, Any]  # the figures of one load level: profile, users, requests_per_second, p50_ms, …
Rows = list[dict[str, str]]  # of a CSV file

BLUE, GREEN, ORANGE, GREY = "#285aaa", "#5aa078", "#dc8c32", "#e1e4eb"


def throughput(levels: list[Level], path: Path) -> None:
    """Predictions per second for each number of users."""
    axes = _axes("Predictions per second", "users without a pause", "requests/s")
    axes.bar(_users(levels), [level["requests_per_second"] for level in levels], color=BLUE)
    _save(path)


def latency(levels: list[Level], path: Path) -> None:
    """Response times for each number of users."""
    axes = _axes("Response time", "users without a pause", "ms")
    for share, colour in ((50, BLUE), (95, GREEN), (99, ORANGE)):
        times = [level[f"p{share}_ms"] for level in levels]
        axes.plot(_users(levels), times, marker="o", color=colour, label=f"p{share}")
    axes.set_yscale("log")
    axes.legend()
    _save(path)


def ramp_up(history: Rows, users: int, path: Path) -> None:
    """Users and throughput at the beginning of a run."""
    axes = _axes(f"A run with {users} users", "seconds", "requests/s")
    start = int(history[0]["Timestamp"])
    seconds = [int(row["Timestamp"]) - start for row in history]
    axes.plot(seconds, [float(row["Requests/s"]) for row in history], color=BLUE, label="requests/s")
    right = axes.twinx()
    right.plot(seconds, [int(row["User Count"]) for row in history], color=ORANGE, label="users")
    right.set_ylabel("users")
    axes.legend(loc="lower right")
    right.legend(loc="upper left")
    _save(path)


def retrain(history: Rows, started: float, finished: float, path: Path) -> None:
    """Response times around a full retrain, whose start and end are in seconds since 1970."""
    axes = _axes("Forty predictions a second during a full retrain", "seconds", "ms, over the last 10 s")
    seconds = [int(row["Timestamp"]) - started for row in history]
    for share, colour in ((50, BLUE), (99, ORANGE)):
        axes.plot(seconds, [float(row[f"{share}%"]) for row in history], color=colour, label=f"p{share}")
    axes.axvspan(0, finished - started, color=GREY, label="retrain")
    axes.legend()
    _save(path)


def _users(levels: list[Level]) -> list[str]:
    return [str(level["users"]) for level in levels]


def _axes(title: str, x: str, y: str) -> Axes:
    _, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    return axes


def _save(path: Path) -> None:
    plt.savefig(path, dpi=110)
    plt.close()
