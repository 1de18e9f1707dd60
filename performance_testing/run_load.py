"""`make load`: start the service, put it under load, and write tables and charts to `results/`.

Load generator and service share the machine, so the absolute figures describe both; compare them as ratios.
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

import plots
import requests
from drawing import draw_zip
from plots import Level, Rows

HERE = Path(__file__).parent
PROJECT = HERE.parent
PYTHON = PROJECT / ".venv" / "bin" / "python"
RESULTS = HERE / "results"
LEVELS = [int(level) for level in os.environ.get("LEVELS", "1,5,16,64,256").split(",")]
SECONDS = int(os.environ.get("SECONDS", "15"))
RETRAIN_SECONDS = 90  # of training; it shares the processors with the predictions
WARM_UP_SECONDS = 12  # of steady load before the retrain starts
COOL_DOWN_SECONDS = 8
PREDECESSOR = """| the service that this one replaces | requests/s | median ms | p99 ms |
|---|---|---|---|
| 1 client | 11.0 | 92 | |
| 16 clients | 11.5 | | 2014 |
"""


@contextmanager
def service(folder: Path) -> Iterator[str]:
    """Run the real service with the shipped model and empty records; yields its URL."""
    (folder / "models").mkdir()
    shutil.copy(PROJECT / "models" / "shipped" / "shoe_classifier.h5", folder / "models")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(PYTHON), "-m", "shoe_classifier", "serve", "--port", str(port)]
    process = subprocess.Popen(command, cwd=folder, env={**os.environ, "LOG_LEVEL": "warning"})
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(url)
        yield url
    finally:
        process.terminate()
        process.wait()


def wait_until_ready(url: str) -> None:
    """Poll `/ready` until the model is loaded."""
    while True:
        try:
            requests.get(f"{url}/ready", timeout=5).raise_for_status()
            return
        except requests.RequestException:
            time.sleep(0.05)


def start_locust(url: str, profile: str, users: int, seconds: int, folder: Path) -> subprocess.Popen[bytes]:
    """Start a headless run; the names of its CSV files begin with `profile-users`."""
    command = [sys.executable, "-m", "locust", "-f", str(HERE / "locustfile.py"), profile]
    command += ["--headless", "--only-summary", "--reset-stats", "--host", url]
    command += ["-u", str(users), "-r", str(max(1, users // 2)), "-t", f"{seconds}s"]
    command += ["--csv", str(folder / f"{profile}-{users}"), "--csv-full-history"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def read_rows(path: Path) -> Rows:
    """The rows of a CSV file."""
    with path.open() as file:
        return list(csv.DictReader(file))


def read_history(path: Path) -> Rows:
    """The seconds of a run that have percentiles."""
    return [row for row in read_rows(path) if row["Name"] == "Aggregated" and row["99%"] not in ("", "N/A")]


def measure(url: str, profile: str, users: int, folder: Path) -> Level:
    """Run one load level; returns the figures over all its requests."""
    start_locust(url, profile, users, SECONDS, folder).wait()
    total = read_rows(folder / f"{profile}-{users}_stats.csv")[-1]
    print(f"{profile} {users}: {float(total['Requests/s']):.0f} requests/s, p99 {total['99%']} ms", flush=True)
    return {
        "profile": profile,
        "users": users,
        "requests": int(total["Request Count"]),
        "failures": int(total["Failure Count"]),
        "requests_per_second": round(float(total["Requests/s"]), 1),
        **{f"p{share}_ms": float(total[f"{share}%"]) for share in (50, 95, 99)},
    }


def retrain_under_load(url: str, folder: Path) -> tuple[float, float]:
    """Run a full retrain under four steady users; returns its start and end in seconds since 1970."""
    requests.post(f"{url}/upload", files={"file": draw_zip("star", 200, 0)}, timeout=60).raise_for_status()
    locust = start_locust(url, "Steady", 4, 3600, folder)
    time.sleep(WARM_UP_SECONDS)
    started = time.time()
    options = {"mode": "full", "max_seconds": str(RETRAIN_SECONDS), "force": "true", "wait": "true"}
    job = requests.post(f"{url}/retrain", params=options, timeout=600).json()
    finished = time.time()
    time.sleep(COOL_DOWN_SECONDS)
    locust.terminate()
    locust.wait()
    print(f"retrain: {job['state']} after {finished - started:.0f} s", flush=True)
    return started, finished


def worst_percentiles(history: Rows, started: float, finished: float) -> dict[str, float]:
    """The highest p50 and p99 over ten seconds, in ms, before and during a retrain: `before_p50`, `during_p99`, …"""
    spans = {"before": (started - COOL_DOWN_SECONDS, started), "during": (started, finished + 2)}
    return {
        f"{name}_p{share}": max(float(row[f"{share}%"]) for row in history if first < int(row["Timestamp"]) < last)
        for name, (first, last) in spans.items()
        for share in (50, 99)
    }


def processor() -> str:
    """The processor's model name, or its architecture where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def write_report(levels: list[Level], retrain: dict[str, float], floor: str) -> None:
    """Write the table as CSV, and everything as Markdown."""
    with (RESULTS / "load.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(levels[0]))
        writer.writeheader()
        writer.writerows(levels)
    lines = ["| profile | users | requests/s | p50 ms | p95 ms | p99 ms | failures |", "|---|---|---|---|---|---|---|"]
    lines += [
        f"| {row['profile']} | {row['users']} | {row['requests_per_second']} | {row['p50_ms']:.0f} | "
        f"{row['p95_ms']:.0f} | {row['p99_ms']:.0f} | {row['failures']} |"
        for row in levels
    ]
    text = f"""# Load

Measured by `make load` on {os.cpu_count()} cores of {processor()}, {platform.system()}, Python
{platform.python_version()}; {SECONDS} seconds per level, with the load generator on the same cores. `Busy` users send
the next picture at once, `Visitor`s wait one to two seconds, `Teacher`s predict, upload and retrain.

{chr(10).join(lines)}

{PREDECESSOR}
{floor}
During a full retrain, at forty predictions a second, the worst ten seconds have p50 {retrain["during_p50"]:.0f} ms
(before the retrain {retrain["before_p50"]:.0f} ms) and p99 {retrain["during_p99"]:.0f} ms (before
{retrain["before_p99"]:.0f} ms).

![requests per second](throughput.png)
![response time](latency.png)
![users over time](users.png)
![during a retrain](retrain.png)
"""
    (RESULTS / "README.md").write_text(text)


def measure_floor() -> str:
    """What `floor.py` prints: the CPU time of a request over that of decoding and inference alone."""
    result = subprocess.run([PYTHON, HERE / "floor.py"], capture_output=True, text=True, check=True)
    print(result.stdout, flush=True)
    return result.stdout


def main() -> None:
    """Measure everything and write the report."""
    RESULTS.mkdir(exist_ok=True)
    floor = measure_floor()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with service(folder) as url:
            busy = [measure(url, "Busy", users, folder) for users in LEVELS]
            others = [measure(url, "Visitor", 5, folder), measure(url, "Teacher", 5, folder)]
            started, finished = retrain_under_load(url, folder)
        steady = read_history(folder / "Steady-4_stats_history.csv")
        plots.throughput(busy, RESULTS / "throughput.png")
        plots.latency(busy, RESULTS / "latency.png")
        plots.ramp_up(read_history(folder / f"Busy-{LEVELS[-1]}_stats_history.csv"), LEVELS[-1], RESULTS / "users.png")
        plots.retrain(steady, started, finished, RESULTS / "retrain.png")
        write_report([*busy, *others], worst_percentiles(steady, started, finished), floor)


if __name__ == "__main__":
    main()
