"""Labelled folders, or a ZIP of them, on the local disk: what the commands train and evaluate on."""

from collections.abc import Iterator
from pathlib import Path

from shoe_classifier.errors import InvalidRequest
from shoe_classifier.ml.preprocessing import PICTURE_NAMES
from shoe_classifier.ml.zip_reader import Picture, ZipLimits, read_labelled


def read(path: Path, limits: ZipLimits) -> Iterator[Picture]:
    """Yield the pictures of `path/label/*` or of a ZIP with such folders, sorted by name.

    Raises:
        InvalidRequest: `path` is neither.
        InvalidZip, TooLarge: as `zip_reader.read_labelled` does.
    """
    if path.is_file():
        yield from (entry for entry in read_labelled(path, limits) if isinstance(entry, Picture))
    elif path.is_dir():
        for file in sorted(path.glob("*/*")):
            if file.suffix.lower() in PICTURE_NAMES and not file.name.startswith("."):
                yield Picture(file.parent.name, f"{file.parent.name}/{file.name}", file.read_bytes())
    else:
        raise InvalidRequest(f"Expected a folder or a ZIP of labelled folders; received {str(path)!r}.")
