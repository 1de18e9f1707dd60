"""Folders of pictures, and jobs over them."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from helpers.pictures import SHAPES, draw
from shoe_classifier.scale.bulk import predictions_of
from shoe_classifier.scale.job import Progress, Request, run
from shoe_classifier.scale.worker import Eye, Fetched
from shoe_classifier.settings import Settings


def folder_of(folder: Path, count: int, drawn: int = 9) -> Path:
    """A folder with so many pictures below labels; most are links to a few that are drawn."""
    for number in range(count):
        label = SHAPES[number % 3]
        path = folder / label / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number < drawn:
            path.write_bytes(draw(label, number))
        else:
            os.link(folder / label / f"{number % drawn:05d}.jpg", path)
    return folder


def predict(
    settings: Settings, source: object, out: object, show: Callable[[Progress], None] = lambda _: None, **options: Any
) -> Progress:
    options = {"look": predictions_of, "actors": 1, **options}
    return run(Request("predict", source=str(source), out=str(out), **options), settings, show)


DEADLY = b"a picture that kills its decoder"


def predictions_unless_deadly(eye: Eye, pictures: Iterator[Fetched]) -> Any:
    """Predictions, by a decoder that a picture can kill."""

    def decoded() -> Iterator[Fetched]:
        for picture in pictures:
            if picture.data == DEADLY:
                os.kill(os.getpid(), signal.SIGKILL)
            yield picture

    return predictions_of(eye, decoded())


def rows_of(out: Path) -> list[dict[str, Any]]:
    """The rows of an output, sorted by path."""
    rows: list[dict[str, Any]] = pq.read_table(out).to_pylist()
    return sorted(rows, key=lambda row: str(row["path"]))
