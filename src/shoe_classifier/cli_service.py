"""The commands that ask a running service: `retrain` and `import`."""

import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from shoe_classifier.client_errors import ApiError, check
from shoe_classifier.terminal import console, print_metrics, progress_bar, read_settings
from shoe_classifier.types import RetrainMode

_POLL_SECONDS = 0.3
Url = Annotated[str, typer.Option(help="The running service.")]


def retrain(
    data: Annotated[Path | None, typer.Argument(help="A ZIP of labelled folders to upload first.", exists=True)] = None,
    url: Url = "http://127.0.0.1:8000",
    mode: Annotated[RetrainMode, typer.Option(help="quick: only the head; full: upper layers, too.")] = "auto",
    force: Annotated[bool, typer.Option(help="Publish even a model that is worse.")] = False,
) -> None:
    """Ask the running service to learn from what was uploaded, and follow the job to its end."""
    with progress_bar() as progress:
        task = progress.add_task("Starting", total=1.0)
        job = _run_retrain(
            url,
            {"mode": mode, "force": str(force).lower()},
            data,
            lambda job: progress.update(task, description=job["message"], completed=job["progress"]),
        )
    console().print(f"[bold]{job['state']}[/bold]: ", end="")
    console().print(job["message"], markup=False)
    if job["metrics"]:
        print_metrics(job["metrics"], "On held-out pictures")
    if job["state"] != "published":
        raise typer.Exit(1)


def import_pictures(
    data: Annotated[
        Path,
        typer.Argument(
            help="A folder, or a ZIP, of labelled folders, or of pictures with a list: CSV, COCO, Label Studio's JSON; "
            "a project of Teachable Machine (.tm); an export of this service.",
            exists=True,
        ),
    ],
    url: Url = "http://127.0.0.1:8000",
) -> None:
    """Add labelled pictures to the training data of the running service."""
    with _as_zip(data) as file, _client(url) as client:
        report = _json(client.post("/upload", files={"file": (data.name, file)}))
    for skipped in report["skipped"]:
        console().print(f"{skipped['name']}: {skipped['reason']}. {skipped['detail']}", markup=False)
    labels = ", ".join(f"{count} {label}" for label, count in report["labels"].items())
    console().print(f"Accepted {report['accepted']}: {labels}. Skipped {len(report['skipped'])}.", markup=False)


def _run_retrain(
    url: str, options: dict[str, str], data: Path | None, show: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Start a retrain of the service at `url` and poll it; returns the finished job as JSON."""
    with _client(url) as client:
        files = {"file": (data.name, data.read_bytes())} if data else None
        job = _json(client.post("/retrain", params=options, files=files))
        while job["finished_at"] is None or job["state"] in ("queued", "running"):
            show(job)
            time.sleep(_POLL_SECONDS)
            job = _json(client.get(f"/retrain/{job['job_id']}"))
        return job


@contextmanager
def _client(url: str) -> Iterator[Any]:
    """A client of the running service, with the key of the settings; exits if that refuses, or is not there."""
    import httpx

    key = read_settings().api_key
    headers = {"X-API-Key": key.get_secret_value()} if key else {}
    try:
        with httpx.Client(base_url=url, headers=headers, timeout=600, trust_env=False) as client:
            yield client
    except httpx.TransportError as error:
        sys.exit(f"Expected a running service at {url}; {error}. `python -m shoe_classifier serve` starts one.")
    except ApiError as error:
        sys.exit(error.detail)


@contextmanager
def _as_zip(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, or a ZIP of all files in a folder."""
    if path.is_file():
        with path.open("rb") as file:
            yield file
        return
    with tempfile.TemporaryFile() as file:
        with zipfile.ZipFile(file, "w", strict_timestamps=False) as archive:
            for member in sorted(path.rglob("*")):
                if member.is_file():
                    archive.write(member, member.relative_to(path))
        file.seek(0)
        yield file


def _json(response: Any) -> dict[str, Any]:
    """The body of an HTTP response. Raises `ApiError` if it is a refusal."""
    check(response)
    body: dict[str, Any] = response.json()
    return body
