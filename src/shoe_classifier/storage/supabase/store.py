"""The store of production: rows in Supabase's Postgres, pictures and models in its Storage.

Predictions, minutes and the audit log go through an outbox on this machine's disk and never wait for the network. All
other calls write directly, and may be repeated.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import uuid_utils

from shoe_classifier.errors import StoreUnavailable
from shoe_classifier.settings import Settings
from shoe_classifier.storage.file_lock import FileLock
from shoe_classifier.storage.supabase.audit_log import AuditLog
from shoe_classifier.storage.supabase.kept_pictures import KeptPictures
from shoe_classifier.storage.supabase.label_changes import LabelChanges
from shoe_classifier.storage.supabase.model_versions import ModelVersions
from shoe_classifier.storage.supabase.outbox import RELEASED
from shoe_classifier.storage.supabase.outbox_relay import OutboxRelay
from shoe_classifier.storage.supabase.predictions import Predictions
from shoe_classifier.storage.supabase.retrain_jobs import RetrainJobs
from shoe_classifier.storage.supabase.setup_check import check_setup
from shoe_classifier.storage.supabase.system_metrics import SystemMetrics
from shoe_classifier.storage.supabase.training_data import TrainingData

_PING_SECONDS = 2.0


class SupabaseStore(
    Predictions, TrainingData, LabelChanges, KeptPictures, ModelVersions, RetrainJobs, SystemMetrics, AuditLog
):
    """See `protocols.Store`.

    Raises:
        ConfigurationError: the address or the key of the settings cannot be one, or a newer release has written the
            outbox.
    """

    kind = "supabase"
    shared = True

    def __init__(self, settings: Settings):
        super().__init__(settings)
        self._bucket = settings.supabase_bucket
        self._grace = settings.shutdown_seconds / 2
        self._relay = OutboxRelay(self._outbox, self, FileLock(settings.dataset_dir / "outbox.lock"))

    def start(self) -> None:
        self._relay.start()

    def close(self) -> None:
        self._relay.stop(self._grace)
        self._pictures.close()
        self._client.close()
        self._outbox.close()

    def problems(self) -> list[str]:
        problem = self._outbox.problem()
        if problem:
            return [problem]
        return [text for right, text in check_setup(self._client, self._bucket) if not right]

    def state(self) -> dict[str, Any]:
        problem = self._outbox.problem()
        if problem:
            return {"latency_ms": None, "error": problem}
        depth = self._outbox.depth()
        oldest = depth.pop("oldest")
        age = round(time.time() - uuid_utils.UUID(oldest).timestamp / 1e3, 1) if oldest else 0.0
        outbox = {**depth, "oldest_seconds": age, "waits_because": self._relay.error}
        try:
            latency, error = self._client.ping(_PING_SECONDS), self._pictures.error
        except StoreUnavailable as unavailable:
            latency, error = None, unavailable.detail
        return {"latency_ms": latency, "error": error, "outbox": outbox}

    def send_picture(self, image_path: str, data: bytes) -> None:
        """See `outbox_relay.Receiver`."""
        self._pictures.send(image_path, data)

    def send_rows(self, table: str, rows: Sequence[dict[str, Any]]) -> None:
        """See `outbox_relay.Receiver`."""
        if table == RELEASED:
            for row in rows:
                self._release(**row)
            return
        query = self._client.table(table).upsert(
            list(rows), on_conflict="id", ignore_duplicates=True, returning="minimal"
        )
        self._client.call(query.execute)

    def pictures(self, image_paths: Sequence[str]) -> Iterator[bytes]:
        return self._pictures.pictures(image_paths)

    def find_picture(self, sha256: str) -> tuple[str, bytes]:
        return self._pictures.find_picture(sha256)

    def heal(self, pictures: Sequence[tuple[str, Path]]) -> set[str]:
        return self._pictures.heal(pictures)

    def urls(self, image_paths: Sequence[str]) -> dict[str, str]:
        return self._pictures.urls(image_paths)

    def forget_unused(self) -> None:
        self._pictures.forget_unused()
        self._outbox.scrub()
        self._models.delete_unlisted()
