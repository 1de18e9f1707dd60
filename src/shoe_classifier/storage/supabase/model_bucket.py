"""The model files of a Supabase project, in a bucket of their own."""

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from shoe_classifier.errors import InvalidModel
from shoe_classifier.storage.supabase.client import SupabaseClient
from shoe_classifier.types import VERSIONS_FOLDER, ModelVersion

MODELS_BUCKET = "models"
_LISTED = 1000  # files that are looked at, oldest first
_UNSETTLED = timedelta(hours=1)  # in which a file may still get its row


class ModelBucket:
    """Model files under their `file_path`. All methods raise as `SupabaseClient.call` does."""

    def __init__(self, client: SupabaseClient):
        self._client = client

    def _files(self) -> Any:
        return self._client.bucket(MODELS_BUCKET)

    def send(self, row: ModelVersion, file: Path) -> None:
        """Put a version's file into the bucket, replacing it if it is there."""
        options = {"content-type": "application/x-hdf5", "upsert": "true"}
        self._client.call(lambda: self._files().upload(row.file_path, file, options))

    def fetch(self, row: ModelVersion, target: Path) -> None:
        """See `VersionStore.fetch_model`."""
        data = self._client.call(lambda: self._files().download(row.file_path))
        if hashlib.sha256(data).hexdigest() != row.sha256:
            raise InvalidModel(
                f"Expected the file of version {row.version!r} as it was published; the bucket holds another one."
            )
        target.write_bytes(data)

    def delete(self, row: ModelVersion) -> None:
        """Delete a version's file, if it is there."""
        self._client.call(lambda: self._files().remove([row.file_path]))

    def delete_unlisted(self) -> None:
        """Delete old files that no version keeps: an outage or a kill came between a file and its row."""
        files = self._client.call(lambda: self._files().list(VERSIONS_FOLDER, {"limit": _LISTED}))
        query = self._client.table("Model_Versions").select("file_path").neq("state", "deleted")
        kept = {row["file_path"] for row in self._client.call(query.execute).data}
        settled = datetime.now(UTC) - _UNSETTLED
        old = {file["name"] for file in files if datetime.fromisoformat(file["updated_at"]) < settled}
        unlisted = sorted({f"{VERSIONS_FOLDER}/{name}" for name in old} - kept)
        if unlisted:
            self._client.call(lambda: self._files().remove(unlisted))
