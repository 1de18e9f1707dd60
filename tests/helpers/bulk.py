"""Folders of pictures, and jobs over them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from helpers.pictures import SHAPES, draw
from shoe_classifier.scale.bulk import predictions_of
from shoe_classifier.scale.job import Progress, Request, run
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
    request = Request("predict", predictions_of, str(source), str(out), **{"actors": 1, **options})
    return run(request, settings, show)


def rows_of(out: Path) -> list[dict[str, Any]]:
    """The rows of an output, sorted by path."""
    rows: list[dict[str, Any]] = pq.read_table(out).to_pylist()
    return sorted(rows, key=lambda row: str(row["path"]))
