"""Versions as models for use elsewhere: made in a child process, measured against the service, and kept for a while."""

import logging
import os
import shutil
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from shoe_classifier.errors import ExportDiffers, ExportFailed, NotFound, NotOffered, NotReady, Overloaded
from shoe_classifier.files import replacing, sha256_of
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml.exports.formats import FORMATS, ExportFormat
from shoe_classifier.ml.head import Head
from shoe_classifier.ml.sandbox import SandboxError, run_sandboxed
from shoe_classifier.services.model_registry import ModelRegistry
from shoe_classifier.settings import Settings
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import ModelVersion

logger = logging.getLogger(__name__)

_REVISION = 1  # of what is exported; raise it so that files of an earlier one are not handed out
_KEPT = 6  # exports, the newest: three formats of two versions
_CHILD_SECONDS = 300.0
_COLLECT_SECONDS = 10.0  # for stored pictures, which a shared store sends over the network
_COLLECT_BYTES = 64 << 20


@dataclass(frozen=True)
class ParityPictures:
    """What exports are compared on.

    Attributes:
        stored: most training pictures, the newest.
        drawn: pictures drawn at random.
        seconds: after which the comparison ends, however many there were.
    """

    stored: int = 1000
    drawn: int = 1000
    seconds: float = 60.0


class ModelExport:
    """Exports versions, one at a time."""

    def __init__(
        self, settings: Settings, store: Store, registry: ModelRegistry, pictures: ParityPictures | None = None
    ):
        self._folder = settings.models_dir / "exports"
        self._temporary = settings.temp_uploads_dir
        self._store = store
        self._registry = registry
        self._pictures = pictures or ParityPictures()
        self._busy = threading.Lock()
        self._child: subprocess.Popen[str] | None = None

    def export(self, version: str, kind: ExportFormat) -> Path:
        """Return the file of an export, made now or kept from before; its parity report is beside it.

        Raises:
            NotFound: there is no such version, or its file is not kept.
            NotOffered: a plain Keras model, or one of 0.1.0.
            ExportUnavailable: this installation lacks packages for the format.
            ExportFailed: the child process failed or took too long.
            ExportDiffers: the export would not name the same labels as the service.
            Overloaded: another export is being made.
            NotReady: the live version changed meanwhile.
            InvalidModel: the file of the version is damaged.
            StoreUnavailable: a shared store does not answer.
        """
        row = self._exportable(version)
        FORMATS[kind].check_packages()
        target = self._folder / f"{row.sha256[:32]}-{_REVISION}.{FORMATS[kind].extension}"
        if not target.exists():
            if not self._busy.acquire(blocking=False):
                raise Overloaded("Expected one export at a time; another one is being made. Try again.", "exports")
            try:
                self._make(kind, row, target)
            finally:
                self._busy.release()
        self._prune(target)
        return target

    def report(self, version: str, kind: ExportFormat) -> dict[str, Any]:
        """The parity report of an export, as `parity.ParityReport`. Raises as `export` does."""
        report: dict[str, Any] = orjson.loads(self.export(version, kind).with_suffix(".json").read_bytes())
        return report

    def stop(self) -> None:
        """End what is being made: the service is shutting down."""
        if self._child:
            self._child.kill()

    def _exportable(self, version: str) -> ModelVersion:
        """The row of a version that can be exported."""
        row = self._registry.known(version)
        if not row.metrics:
            raise NotOffered(f"Expected a version of this service; {version!r} is a plain Keras model made elsewhere.")
        if not isinstance(bundles.read(self._registry.file_of(version)).head, Head):
            raise NotOffered(
                f"Expected a version of 1.0.0 or later; {version!r} was made by 0.1.0. Export the next version: "
                "a retrain makes one."
            )
        return row

    def _make(self, kind: ExportFormat, row: ModelVersion, target: Path) -> None:
        self._folder.mkdir(exist_ok=True)
        self._temporary.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._temporary) as folder:
            model, pictures, made = Path(folder, "model.h5"), Path(folder, "pictures"), Path(folder, target.name)
            self._copy_model(row, model)
            pictures.mkdir()
            self._collect(pictures)
            self._run(kind, model, pictures, made)
            report = orjson.loads(made.with_suffix(".json").read_bytes())
            if report["label_changes"]:
                count = report["stored"] + report["drawn"]
                raise ExportDiffers(
                    f"Expected an export that names the service's label for all of {count:,} pictures; it names "
                    f"another one for {report['label_changes']}. It is not handed out."
                )
            for file in (made.with_suffix(".json"), made):  # an export that is there has its report
                with replacing(self._folder / file.name, durable=False) as part:
                    shutil.copyfile(file, part)

    def _copy_model(self, row: ModelVersion, copy: Path) -> None:
        """Copy the file of a version: the live one may be replaced at any time."""
        shutil.copyfile(self._registry.file_of(row.version), copy)
        if sha256_of(copy) != row.sha256:
            raise NotReady(f"Expected the file of version {row.version!r}; it was replaced meanwhile. Try again.")

    def _run(self, kind: ExportFormat, model: Path, pictures: Path, made: Path) -> None:
        def remember(child: subprocess.Popen[str]) -> None:
            self._child = child

        how = (self._pictures.drawn, self._pictures.seconds)
        try:
            run_sandboxed("export", kind, model, pictures, *how, made, seconds=_CHILD_SECONDS, started=remember)
        except SandboxError as error:
            logger.error("The export of %s as %s failed: %s", made.stem, kind, error)
            raise ExportFailed(
                "Expected to make the export; that failed, and the log of the service says why. Try again, on a host"
                " with more memory if it was ended for what it takes."
            ) from error
        finally:
            self._child = None

    def _collect(self, folder: Path) -> None:
        """Put the newest training pictures into a folder, within limits of time and memory."""
        end, left = time.monotonic() + _COLLECT_SECONDS, _COLLECT_BYTES
        for number, row in enumerate(self._store.training_data(self._pictures.stored, None)):
            data = b""
            with suppress(NotFound, OSError):  # deleted meanwhile, or damaged: the others will do
                (data,) = self._store.pictures([row.image_path])
            (folder / f"{number:06}").write_bytes(data)
            left -= len(data)
            if left < 0 or time.monotonic() > end:
                break

    def _prune(self, used: Path) -> None:
        """Delete all but the exports that were used last."""
        os.utime(used)
        exports = [path for path in self._folder.iterdir() if path.suffix != ".json" and not path.name.startswith(".")]
        for path in sorted(exports, key=lambda path: path.stat().st_mtime)[:-_KEPT]:
            path.unlink(missing_ok=True)
            path.with_suffix(".json").unlink(missing_ok=True)
