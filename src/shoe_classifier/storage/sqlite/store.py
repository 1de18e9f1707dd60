"""The store of a single machine: rows in one SQLite file, pictures in files named by their hash."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from shoe_classifier.storage.sqlite.audit_log import AuditLog
from shoe_classifier.storage.sqlite.kept_pictures import KeptPictures
from shoe_classifier.storage.sqlite.label_changes import LabelChanges
from shoe_classifier.storage.sqlite.model_versions import ModelVersions
from shoe_classifier.storage.sqlite.predictions import Predictions
from shoe_classifier.storage.sqlite.retrain_jobs import RetrainJobs
from shoe_classifier.storage.sqlite.system_metrics import SystemMetrics
from shoe_classifier.storage.sqlite.training_data import TrainingData


class SqliteStore(
    Predictions, TrainingData, LabelChanges, KeptPictures, ModelVersions, RetrainJobs, SystemMetrics, AuditLog
):
    """See `protocols.Store`.

    Training rows, versions and the ends of jobs are flushed to the disk before a call returns, and so survive a power
    cut. Predictions survive a killed process, unless another process locks the file just then, and are flushed with the
    next checkpoint of the write-ahead log.
    """

    kind = "sqlite"
    shared = False

    def __init__(self, folder: Path):
        super().__init__(folder)
        self._tidy = False

    def start(self) -> None:
        pass

    def close(self) -> None:
        self._backlog.close()
        self._db.close()

    def problems(self) -> list[str]:
        problem = self._db.problem()
        return [problem] if problem else []

    def state(self) -> dict[str, Any]:
        problem = self._db.problem()
        backlog = {"waiting_predictions": self._backlog.waiting, "dropped_predictions": self._backlog.dropped}
        return {**backlog, "error": problem} if problem else backlog

    def pictures(self, image_paths: Sequence[str]) -> Iterator[bytes]:
        return self._pictures.pictures(image_paths)

    def find_picture(self, sha256: str) -> tuple[str, bytes]:
        return self._pictures.find_picture(sha256)

    def heal(self, pictures: Sequence[tuple[str, Path]]) -> set[str]:
        healed = {image_path for image_path, file in pictures if self._pictures.heal(image_path, file)}
        self._pictures.flush(sorted(healed))
        return healed

    def urls(self, image_paths: Sequence[str]) -> dict[str, str]:
        return self._pictures.urls(image_paths)

    def forget_unused(self) -> None:
        if not self._tidy:  # once, for it looks at the name of each picture
            self._pictures.remove_leftovers()
            self._tidy = True
