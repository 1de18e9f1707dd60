"""`make load`: starts the service, puts it under load, and writes tables and charts into `results/`.

Generator and service share the machine, so the figures say what one machine does in all; compare them as ratios.
"""

import csv
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import requests

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from drawing import draw_zip

HERE = Path(__file__).parent
PROJECT = HERE.parent
RESULTS = HERE / "results"
LEVELS = [int(level) for level in os.environ.get("LEVELS", "1,5,16,64,256").split(",")]
SECONDS = int(os.environ.get("SECONDS", "15"))
SEED_TABLE = """| the service that this one replaces | requests/s | median ms | p99 ms |
|---|---|---|---|
| 1 client | 11.0 | 92 | |
| 16 clients | 11.5 | | 2014 |
"""


@contextmanager
def service(folder: Path) -> Iterator[str]:
    """The real service, with the shipped model and empty records; gives its address."""
    (folder / "models").mkdir()
    shutil.copy(PROJECT / "models" / "shoe_classifier.h5", folder / "models")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [PROJECT / ".venv/bin/python", "-m", "shoe_classifier", "serve", "--port", str(port)]
    process = subprocess.Popen(command, cwd=folder, env={**os.environ, "LOG_LEVEL": "warning"})
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            try:
                requests.get(f"{url}/ready", timeout=5).raise_for_status()
                break
            except requests.RequestException:
                time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait()


def locust(url: str, user: str, users: int, seconds: int, folder: Path) -> subprocess.Popen[bytes]:
    """Start a headless run; its CSV files begin with `folder / user-users`."""
    command = [sys.executable, "-m", "locust", "-f", HERE / "locustfile.py", user, "--headless", "--only-summary"]
    command += ["--host", url, "-u", str(users), "-r", str(max(1, users // 2)), "-t", f"{seconds}s"]
    command += ["--csv", folder / f"{user}-{users}", "--csv-full-history", "--reset-stats"]
    return subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open() as file:
        return list(csv.DictReader(file))


def measure(url: str, user: str, users: int, folder: Path) -> dict[str, object]:
    """One level; returns the figures of all requests."""
    locust(url, user, users, SECONDS, folder).wait()
    total = rows(folder / f"{user}-{users}_stats.csv")[-1]
    print(f"{user} {users}: {float(total['Requests/s']):.0f} requests/s, p99 {total['99%']} ms", flush=True)
    return {
        "profile": user,
        "users": users,
        "requests": int(total["Request Count"]),
        "failures": int(total["Failure Count"]),
        "requests_per_second": round(float(total["Requests/s"]), 1),
        **{f"p{share}_ms": float(total[f"{share}%"]) for share in (50, 95, 99)},
    }


def retrain_under_load(url: str, folder: Path) -> tuple[float, float]:
    """Four steady users, and a full retrain in the middle; returns when it began and ended, in seconds since 1970."""
    requests.post(f"{url}/upload", files={"file": draw_zip("star", 200, 0)}, timeout=60).raise_for_status()
    running = locust(url, "Steady", 4, 3600, folder)
    time.sleep(12)
    began = time.time()
    options = {"mode": "full", "force": "true", "wait": "true"}
    job = requests.post(f"{url}/retrain", params=options, timeout=600).json()
    ended = time.time()
    time.sleep(8)
    running.terminate()
    running.wait()
    print(f"retrain: {job['state']} after {ended - began:.0f} s", flush=True)
    return began, ended


def chart(name: str, title: str, x: str, y: str) -> tuple[object, object]:
    """A new figure with its axes."""
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    figure.set_label(name)
    return figure, axes


def save(figure: plt.Figure) -> None:
    """Write a figure under its label."""
    figure.savefig(RESULTS / f"{figure.get_label()}.png", dpi=110)
    plt.close(figure)


def draw_levels(table: list[dict[str, object]]) -> None:
    """Throughput and response times over the number of users."""
    busy = [row for row in table if row["profile"] == "Busy"]
    names = [str(row["users"]) for row in busy]
    figure, axes = chart("throughput", "Predictions per second", "users without a pause", "requests/s")
    axes.bar(names, [row["requests_per_second"] for row in busy], color="#285aaa")
    save(figure)
    figure, axes = chart("latency", "Response time", "users without a pause", "ms")
    for share, colour in ((50, "#285aaa"), (95, "#5aa078"), (99, "#dc8c32")):
        axes.plot(names, [row[f"p{share}_ms"] for row in busy], marker="o", color=colour, label=f"p{share}")
    axes.set_yscale("log")
    axes.legend()
    save(figure)


def history(path: Path) -> list[dict[str, str]]:
    """The seconds of a run that have figures."""
    return [row for row in rows(path) if row["Name"] == "Aggregated" and row["99%"] not in ("", "N/A")]


def draw_users(folder: Path, users: int) -> None:
    """Users and throughput while a run begins."""
    seconds = history(folder / f"Busy-{users}_stats_history.csv")
    start = int(seconds[0]["Timestamp"])
    figure, axes = chart("users", f"A run with {users} users", "seconds", "requests/s")
    times = [int(row["Timestamp"]) - start for row in seconds]
    axes.plot(times, [float(row["Requests/s"]) for row in seconds], color="#285aaa", label="requests/s")
    right = axes.twinx()
    right.plot(times, [int(row["User Count"]) for row in seconds], color="#dc8c32", label="users")
    right.set_ylabel("users")
    axes.legend(loc="lower right")
    right.legend(loc="upper left")
    save(figure)


def draw_retrain(folder: Path, began: float, ended: float) -> dict[str, float]:
    """Response times around a full retrain; returns the highest p50 and p99 of ten seconds before and during."""
    seconds = history(folder / "Steady-4_stats_history.csv")
    figure, axes = chart(
        "retrain", "Eighty predictions a second during a full retrain", "seconds", "ms, over the last 10 s"
    )
    times = [int(row["Timestamp"]) - began for row in seconds]
    for share, colour in ((50, "#285aaa"), (99, "#dc8c32")):
        axes.plot(times, [float(row[f"{share}%"]) for row in seconds], color=colour, label=f"p{share}")
    axes.axvspan(0, ended - began, color="#e1e4eb", label="retrain")
    axes.legend()
    save(figure)
    worst: dict[str, float] = {}
    for name, inside in (("before", lambda t: -8 < t < 0), ("during", lambda t: 0 < t < ended - began + 2)):
        for share in (50, 99):
            worst[f"{name}_p{share}"] = max(
                float(row[f"{share}%"]) for row, at in zip(seconds, times, strict=True) if inside(at)
            )
    return worst


def processor() -> str:
    """What the system calls the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def write(table: list[dict[str, object]], retrain: dict[str, float], floor: str) -> None:
    """The table as CSV, and all of it as Markdown."""
    with (RESULTS / "load.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    lines = ["| profile | users | requests/s | p50 ms | p95 ms | p99 ms | failures |", "|---|---|---|---|---|---|---|"]
    lines += [
        f"| {row['profile']} | {row['users']} | {row['requests_per_second']} | {row['p50_ms']:.0f} | "
        f"{row['p95_ms']:.0f} | {row['p99_ms']:.0f} | {row['failures']} |"
        for row in table
    ]
    text = f"""# Load

Measured by `make load` on {os.cpu_count()} cores of {processor()}, {platform.system()}, Python
{platform.python_version()}; {SECONDS} seconds a level, with the load generator on the same cores. `Busy` users send the
next picture at once, `Visitor`s wait one to two seconds, `Teacher`s predict, upload and retrain.

{chr(10).join(lines)}

{SEED_TABLE}
{floor}
During a full retrain, with eighty predictions a second, the worst ten seconds have p50 {retrain["during_p50"]:.0f} ms
(before it, {retrain["before_p50"]:.0f} ms) and p99 {retrain["during_p99"]:.0f} ms ({retrain["before_p99"]:.0f} ms).

![requests per second](throughput.png)
![response time](latency.png)
![users over time](users.png)
![during a retrain](retrain.png)
"""
    (RESULTS / "README.md").write_text(text)


def main() -> None:
    """Run everything."""
    RESULTS.mkdir(exist_ok=True)
    floor = subprocess.run(
        [PROJECT / ".venv/bin/python", HERE / "floor.py"], capture_output=True, text=True, check=True
    ).stdout
    print(floor, flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with service(folder) as url:
            table = [measure(url, "Busy", users, folder) for users in LEVELS]
            table += [measure(url, "Visitor", 5, folder), measure(url, "Teacher", 5, folder)]
            draw_users(folder, LEVELS[-1])
            began, ended = retrain_under_load(url, folder)
        draw_levels(table)
        write(table, draw_retrain(folder, began, ended), floor)


if __name__ == "__main__":
    main()
