"""What a request costs over its floor: the CPU time of `/predict`, and of decoding and inference alone.

Run with the service's own environment: `.venv/bin/python performance_testing/floor.py [picture.jpg ...]`.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from drawing import draw

from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml.preprocessing import decode

MODEL = Path(__file__).parent.parent / "models" / "shipped" / "shoe_classifier.h5"
SECONDS = 4.0


def milliseconds(work: Callable[[int], object], clock: Callable[[], float]) -> float:
    """Time of `clock` for each call of `work`, over some seconds."""
    for i in range(20):
        work(i)
    count, begun, end = 0, clock(), time.monotonic() + SECONDS
    while time.monotonic() < end:
        work(count)
        count += 1
    return (clock() - begun) / count * 1e3


def cpu_of(pid: int) -> float:
    """CPU seconds of a process, its children not counted."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure both, and print them."""
    pictures = [Path(name).read_bytes() for name in sys.argv[1:]] or [draw(i) for i in range(32)]
    backbone = bundles.read(MODEL).backbone()
    ready = decode(pictures[0], backbone.image_size)
    decoding = milliseconds(lambda i: decode(pictures[i % len(pictures)], backbone.image_size), time.process_time)
    inference = milliseconds(lambda i: backbone.features(ready), time.process_time)
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        environment = {**os.environ, "MODEL_PATH": str(MODEL.resolve()), "LOG_LEVEL": "warning"}
        command = [sys.executable, "-m", "shoe_classifier", "serve", "--port", str(port)]
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
                while True:
                    try:
                        if client.get("/ready").status_code == 200:
                            break
                    except httpx.TransportError:
                        time.sleep(0.05)
                files = [{"file": ("picture.jpg", data, "image/jpeg")} for data in pictures]
                request = milliseconds(
                    lambda i: client.post("/predict", files=files[i % len(files)]).raise_for_status(),
                    lambda: cpu_of(process.pid),
                )
        finally:
            process.terminate()
            process.wait()
    floor = decoding + inference
    print(
        f"CPU of one prediction: floor {floor:.2f} ms (decoding {decoding:.2f}, inference {inference:.2f}); "
        f"the whole request\n{request:.2f} ms, {request / floor:.2f} times the floor."
    )


if __name__ == "__main__":
    main()
