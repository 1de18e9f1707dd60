"""The rows of `Model_Versions`, their files in a bucket, and what each version learned."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from shoe_classifier.storage.supabase.records import Records
from shoe_classifier.storage.supabase.row_reader import decode
from shoe_classifier.storage.tables import MODEL_VERSIONS
from shoe_classifier.types import UNPUBLISHED, ModelVersion


class ModelVersions(Records):
    """See `protocols.VersionStore`."""

    def save_version(self, row: ModelVersion, file: Path | None = None) -> None:
        if file:
            self._models.send(row, file)
        query = self._client.table("Model_Versions").upsert(asdict(row), returning="minimal")
        self._client.call(query.execute)

    def prepare_publication(self, row: ModelVersion, file: Path, learned: Mapping[str, str]) -> None:
        self._models.send(row, file)
        self._client.rpc("prepare_publication", candidate=asdict(row), learned=dict(learned))

    def fetch_model(self, row: ModelVersion, target: Path) -> None:
        self._models.fetch(row, target)

    def drop_model(self, row: ModelVersion) -> bool:
        change = self._client.table("Model_Versions").update({"state": "deleted"})
        changed = self._client.call(
            change.eq("version", row.version).in_("state", [*UNPUBLISHED, "archived"]).execute
        ).data
        if changed and row.state in UNPUBLISHED:
            learned = self._client.table("Learned_Pictures").delete(returning="minimal").eq("version", row.version)
            self._client.call(learned.execute)
        if changed:
            self._models.delete(row)
        return bool(changed)

    def versions(self) -> list[ModelVersion]:
        query = self._client.table("Model_Versions").select("*").order("created_at", desc=True)
        rows = self._client.call(query.order("version", desc=True).execute).data
        return [decode(MODEL_VERSIONS, row) for row in rows]

    def version(self, version: str) -> ModelVersion | None:
        return self._rows.one(MODEL_VERSIONS, "version", version)

    def version_with(self, sha256: str) -> ModelVersion | None:
        return self._rows.one(MODEL_VERSIONS, "sha256", sha256)

    def live_version(self) -> ModelVersion | None:
        row = self._rows.one(MODEL_VERSIONS, "state", "live")
        if row and row.sha256 != self.last_live():
            self._outbox.remember("live_sha256", row.sha256)
        return row

    def last_live(self) -> str | None:
        return self._outbox.fact("live_sha256")

    def count_unlearned(self, version: str) -> int:
        return int(self._client.rpc("count_unlearned", version=version))

    def set_live(self, version: str) -> None:
        self._client.rpc("set_live_version", wanted=version)
        self.live_version()
