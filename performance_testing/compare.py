"""Compares this service with what one would write instead: the same model file, pictures and load; needs `wrk`.

`make compare` prints a table. Machines are noisy: compare only what one run measured.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
MODEL = ROOT / "models" / "shipped" / "shoe_classifier.h5"
PICTURES = sorted((ROOT / "samples").glob("*.jpg"))
PYTHON = str(ROOT / ".venv-peers" / "bin" / "python")
SERVERS = {  # name: command, form field
    "this service": ([str(ROOT / ".venv" / "bin" / "shoe-classifier"), "serve", "--port", "{port}"], "file"),
    "FastAPI and TensorFlow, tuned": (
        [PYTHON, "-m", "uvicorn", "--app-dir", str(HERE / "peers"), "tuned_fastapi:app", "--port", "{port}"],
        "file",
    ),
    "LitServe with batches": ([PYTHON, str(HERE / "peers" / "litserve_batches.py"), "{port}"], "request"),
}
PORT = 8790
START_SECONDS = 180


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", default="1,16,64", help="Numbers of clients.")
    parser.add_argument("--seconds", type=int, default=8, help="Of each number.")
    options = parser.parse_args()
    clients = [int(number) for number in options.clients.split(",")]
    columns = [f"{number} clients: requests/s, p99 ms, CPU ms" for number in clients]
    print("| server | ready after s | idle MB |", " | ".join(columns), "|")
    print("|---" * (len(columns) + 3) + "|")
    for name in SERVERS:
        print(f"| {name} |", " | ".join(measure(name, clients, options.seconds)), "|", flush=True)


def measure(name: str, clients: list[int], seconds: int) -> list[str]:
    """One row of the table; the server runs in a folder of its own, and is ended with all its processes."""
    command, field = SERVERS[name]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "models" / "shipped").mkdir(parents=True)
        shutil.copy(MODEL, Path(folder) / "models" / "shipped")
        begun = time.monotonic()
        server = subprocess.Popen(
            [part.format(port=PORT) for part in command],
            cwd=folder,
            env={**os.environ, "MODEL_H5": str(MODEL), "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            wait_for_answer(server, field)
            row = [f"{time.monotonic() - begun:.1f}"]
            time.sleep(1)
            row.append(f"{memory_mb(server.pid):.0f}")
            return row + [load(server.pid, field, number, seconds) for number in clients]
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()


def wait_for_answer(server: "subprocess.Popen[bytes]", field: str) -> None:
    """Send a picture until it is answered."""
    head = f'--BB\r\nContent-Disposition: form-data; name="{field}"; filename="a.jpg"\r\n\r\n'.encode()
    body = head + PICTURES[0].read_bytes() + b"\r\n--BB--\r\n"
    kind = {"Content-Type": "multipart/form-data; boundary=BB"}
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if server.poll() is not None:
            sys.exit(f"Expected a server; it ended with status {server.returncode}.")
        try:
            urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{PORT}/predict", body, kind), timeout=60)
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    sys.exit(f"Expected an answer within {START_SECONDS} s; received none.")


def load(pid: int, field: str, clients: int, seconds: int) -> str:
    before = cpu_seconds(pid)
    wrk = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "60s", "-s", str(HERE / "upload.lua")]
    result = subprocess.run(
        [*wrk, f"http://127.0.0.1:{PORT}"],
        env={**os.environ, "FIELD": field, "PICTURES": ":".join(map(str, PICTURES))},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    count, took, p99, failed = (float(part) for part in result.split("RESULT")[1].split())
    failures = f", {failed:.0f} failed" if failed else ""
    return f"{count / took:.0f}, {p99:.0f}, {(cpu_seconds(pid) - before) / count * 1e3:.1f}{failures}"


def processes(session: int) -> list[Path]:
    """The processes of a session, as folders of /proc."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int(_stat(folder)[3]) == session:
                found.append(folder)
        except OSError:  # it has ended
            continue
    return found


def cpu_seconds(session: int) -> float:
    """What all processes of a session have computed."""
    return sum(int(_stat(one)[11]) + int(_stat(one)[12]) for one in processes(session)) / os.sysconf("SC_CLK_TCK")


def memory_mb(session: int) -> float:
    """The proportional memory of all processes of a session."""
    lines = [line for one in processes(session) for line in (one / "smaps_rollup").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def _stat(folder: Path) -> list[str]:
    """The fields after the name of the program, which may hold spaces."""
    return (folder / "stat").read_text().rsplit(")", 1)[1].split()


if __name__ == "__main__":
    main()
