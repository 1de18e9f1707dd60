"""Upload lessons to a running service, and print the seconds from the request for a quick retrain to its verdict.

    python experiments/retrain_seconds.py http://127.0.0.1:8000 LESSON.zip [LESSON.zip ...]

Start the service in an empty folder: what it is taught stays.
"""

import io
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx

_PICTURES = 500  # of one upload


def main() -> None:
    """Print a line for the uploads and one for the retrain."""
    url, *lessons = sys.argv[1:]
    with httpx.Client(base_url=url, timeout=600) as client:
        started = time.perf_counter()
        accepted = sum(upload(client, part) for lesson in lessons for part in parts(Path(lesson)))
        print(f"{accepted} pictures uploaded in {time.perf_counter() - started:.1f} s")
        started = time.perf_counter()
        job = client.post("/retrain", params={"mode": "quick", "wait": "true"}).raise_for_status().json()
        print(f"{job['state']} after {time.perf_counter() - started:.1f} s: {job['message']}")


def parts(lesson: Path) -> Iterator[bytes]:
    """ZIPs of some hundred pictures of a lesson each."""
    with zipfile.ZipFile(lesson) as archive:
        names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
        for start in range(0, len(names), _PICTURES):
            file = io.BytesIO()
            with zipfile.ZipFile(file, "w") as part:
                for name in names[start : start + _PICTURES]:
                    part.writestr(name, archive.read(name))
            yield file.getvalue()


def upload(client: httpx.Client, part: bytes) -> int:
    """Return how many pictures were accepted."""
    answer = client.post("/upload", files={"file": ("lesson.zip", part, "application/zip")})
    return int(answer.raise_for_status().json()["accepted"])


if __name__ == "__main__":
    main()
