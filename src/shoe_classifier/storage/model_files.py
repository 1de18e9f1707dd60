"""The model files: which one is live, which are kept, and how one takes the other's place."""

import hashlib
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

from shoe_classifier.errors import InvalidModel
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml.bundle import Bundle
from shoe_classifier.ml.live_model import LiveModel

logger = logging.getLogger(__name__)

_CHECK_SECONDS = 60


class ModelFiles:
    """Model files in one folder: `shoe_classifier.h5` is live, `versions/<version>.h5` are earlier ones.

    Whatever moment the process is killed at, the live file is whole: it is only ever replaced by a rename.
    """

    def __init__(self, live: Path):
        self.live = live
        self.archive = live.parent / "versions"

    def file_of(self, version: str) -> Path:
        """Where the archived file of a version is, or would be."""
        return self.archive / f"{version}.h5"

    def candidate(self, version: str) -> Path:
        """Where a new file is written before it is published; keras and HDF5 want the ending."""
        self.live.parent.mkdir(parents=True, exist_ok=True)
        return self.live.parent / f".candidate-{version}.{os.getpid()}.h5"

    def remove_candidates(self) -> None:
        """Remove what killed processes left; not what another worker has under way."""
        for path in self.live.parent.glob(".candidate-*.h5"):
            process = path.name.split(".")[-2]
            if not process.isdigit() or int(process) == os.getpid() or not _alive(int(process)):
                path.unlink(missing_ok=True)

    def publish(self, candidate: Path, live_version: str | None) -> LiveModel:
        """Put a new file in the live one's place, which is archived first.

        The new file is flushed to the disk, opened again and tried on a picture before anything changes.

        Raises:
            InvalidModel: the file does not read or does not predict; it is removed.
        """
        try:
            flush(candidate)
            model = LiveModel(bundles.read(candidate))
            self._archive_live(live_version)
            candidate.replace(self.live)
            flush(self.live.parent)
        except BaseException:  # whatever it was, the candidate goes; it is raised again
            candidate.unlink(missing_ok=True)
            raise
        return model

    def activate(self, version: str, live_version: str | None) -> LiveModel:
        """Make an archived version live again; the archive keeps its file."""
        candidate = self.candidate(version)
        shutil.copyfile(self.file_of(version), candidate)
        return self.publish(candidate, live_version)

    def _archive_live(self, version: str | None) -> None:
        if version is None or self.file_of(version).exists() or not self.live.exists():
            return
        self.archive.mkdir(exist_ok=True)
        part = self.archive / f".{version}.part"
        shutil.copyfile(self.live, part)
        flush(part)
        part.replace(self.file_of(version))
        flush(self.archive)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush(path: Path) -> None:
    """Bring a file, or a folder's names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def open_checked(path: Path, known: bool) -> Bundle:
    """Read a model file. One that this service did not write is first opened in a child process.

    The HDF5 library can be made to crash by a crafted file: that must cost a child, not the service.

    Raises:
        InvalidModel: it does not read, or it crashed the child.
    """
    if not known:
        logger.info("Checking %s, which this service has not seen before.", path.name)
        program = "import sys; from pathlib import Path; from shoe_classifier.ml import bundle, live_model; "
        program += "live_model.LiveModel(bundle.read(Path(sys.argv[1])))"
        check = [sys.executable, "-c", program, str(path)]
        try:
            result = subprocess.run(check, capture_output=True, text=True, timeout=_CHECK_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise InvalidModel(f"Expected a model that loads within {_CHECK_SECONDS} s; {path.name} did not.") from None
        if result.returncode:
            reason = (result.stderr.strip().splitlines() or [f"exit status {result.returncode}"])[-1]
            raise InvalidModel(
                f"Expected a model file of this service; {path.name} is none ({reason[-300:]}). "
                "For a plain Keras model, set MODEL_PATH and CLASS_NAMES."
            )
    return bundles.read(path)
