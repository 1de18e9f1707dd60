"""The model files of this machine: which one is live, which are archived, and how one replaces the other."""

import os
import re
import shutil
from pathlib import Path

from shoe_classifier.files import fsync, remove_leftovers, replacing
from shoe_classifier.types import VERSIONS_FOLDER

_PACKAGED = Path(__file__).parent.parent / "shipped"  # where an installed wheel has it; a checkout has models/shipped
_CANDIDATE = re.compile(r"\.candidate-.+?(?:\.(?P<writer>\d+))?\.h5")  # `.candidate-<name>.<pid>.h5`


class ModelFiles:
    """Model files in one folder: `shoe_classifier.h5` is live, `versions/<version>.h5` are archived.

    `shipped/shoe_classifier.h5` came with the release and is never written: the live file begins as its copy.

    The live file is only ever replaced by a rename, so it is complete even when the process is killed meanwhile.
    """

    def __init__(self, live: Path):
        self.live = live
        self.archive = live.parent / VERSIONS_FOLDER

    @property
    def shipped(self) -> Path:
        """Where the shipped file is: beside the live one or, without any there, in the installed package."""
        beside, packaged = self.live.parent / "shipped" / self.live.name, _PACKAGED / self.live.name
        return packaged if packaged.is_file() and not beside.is_file() else beside

    def file_of(self, version: str) -> Path:
        """Return where the archived file of a version is, or would be."""
        return self.archive / f"{version}.h5"

    def install_shipped(self) -> None:
        """Let the live file begin as a copy of the shipped one, if there is no live file yet."""
        if not self.live.exists() and self.shipped.is_file():
            self.live.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.live) as part:
                shutil.copyfile(self.shipped, part)

    def candidate(self, name: str) -> Path:
        """Return where a new file is written before it becomes live. Keras and HDF5 require the extension."""
        self.live.parent.mkdir(parents=True, exist_ok=True)
        return self.live.parent / f".candidate-{name}.{os.getpid()}.h5"

    def remove_candidates(self) -> None:
        """Remove the unfinished files of processes that have ended, but not what another worker is writing.

        Call it before this process writes any.
        """
        for folder in (self.live.parent, self.archive):
            remove_leftovers(folder, _CANDIDATE, unused=True)
            remove_leftovers(folder, unused=True)

    def archive_candidate(self, candidate: Path, version: str) -> None:
        """Keep a candidate that does not become live; the file is moved."""
        fsync(candidate)
        self.archive.mkdir(exist_ok=True)
        candidate.replace(self.file_of(version))
        fsync(self.archive)

    def replace_live(self, candidate: Path, live_version: str | None) -> None:
        """Archive the live file and put a candidate in its place.

        Args:
            candidate: a file in the same folder; it is gone afterwards.
            live_version: the version of the live file; None when there is none worth keeping.

        Raises:
            OSError: the live file is unchanged, unless the candidate is gone: then only the flush to the disk failed.
        """
        fsync(candidate)
        self._archive_live(live_version)
        candidate.replace(self.live)
        fsync(self.live.parent)

    def put_back(self, version: str) -> None:
        """Make the version live again that `replace_live` archived. A rename: it works on a full disk, too."""
        self.file_of(version).replace(self.live)
        fsync(self.live.parent)

    def copy_archived(self, version: str) -> Path:
        """Return a candidate that is a copy of an archived file."""
        candidate = self.candidate(version)
        try:
            shutil.copyfile(self.file_of(version), candidate)
        except OSError:
            candidate.unlink(missing_ok=True)
            raise
        return candidate

    def _archive_live(self, version: str | None) -> None:
        if version is None or self.file_of(version).exists() or not self.live.exists():
            return
        self.archive.mkdir(exist_ok=True)
        # A copy and not a hard link, because somebody may write into the live file instead of replacing it.
        with replacing(self.file_of(version)) as part:
            shutil.copyfile(self.live, part)
