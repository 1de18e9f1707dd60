"""The rows of `Model_Versions`, and what each version learned."""

import sqlite3
from collections.abc import Mapping
from pathlib import Path

from shoe_classifier.errors import NotFound
from shoe_classifier.storage.sqlite.learned_pictures import (
    COUNT_UNLEARNED,
    add_learned,
    change_processed,
    recompute_processed,
)
from shoe_classifier.storage.sqlite.records import Records, insert
from shoe_classifier.storage.tables import MODEL_VERSIONS
from shoe_classifier.types import UNPUBLISHED, ModelVersion

_DROP_MODEL = """
update Model_Versions set state = 'deleted' where version = ? and state in ('candidate', 'rejected', 'archived')
"""


class ModelVersions(Records):
    """See `protocols.VersionStore`."""

    def save_version(self, row: ModelVersion, file: Path | None = None) -> None:
        with self._db.transaction(durable=True) as db:
            insert(db, MODEL_VERSIONS, row, "insert or replace")

    def prepare_publication(self, row: ModelVersion, file: Path, learned: Mapping[str, str]) -> None:
        with self._db.transaction(durable=True) as db:
            insert(db, MODEL_VERSIONS, row, then="on conflict (version) do nothing", state="candidate")
            add_learned(db, row.version, learned)

    def fetch_model(self, row: ModelVersion, target: Path) -> None:
        raise NotFound(f"Expected a version whose file is kept; the file of version {row.version!r} was deleted.")

    def drop_model(self, row: ModelVersion) -> bool:
        with self._db.transaction(durable=True) as db:
            dropped = db.execute(_DROP_MODEL, [row.version]).rowcount > 0
            if dropped and row.state in UNPUBLISHED:
                db.execute("delete from Learned_Pictures where version = ?", [row.version])
            return dropped

    def versions(self) -> list[ModelVersion]:
        return self._select(MODEL_VERSIONS, "order by created_at desc, version desc")

    def version(self, version: str) -> ModelVersion | None:
        return self._one(MODEL_VERSIONS, "version", version)

    def version_with(self, sha256: str) -> ModelVersion | None:
        return self._one(MODEL_VERSIONS, "sha256", sha256)

    def live_version(self) -> ModelVersion | None:
        return self._one(MODEL_VERSIONS, "state", "live")

    def last_live(self) -> str | None:
        live = self.live_version()
        return live.sha256 if live else None

    def count_unlearned(self, version: str) -> int:
        return int(self._db.select(COUNT_UNLEARNED, version)[0]["n"])

    def set_live(self, version: str) -> None:
        with self._db.transaction(durable=True) as db:
            make_live(db, version)


def make_live(db: sqlite3.Connection, version: str) -> None:
    """See `protocols.VersionStore.set_live`."""
    if not db.execute("select 1 from Model_Versions where version = ?", [version]).fetchone():
        raise NotFound(f"Expected a stored version; received {version!r}.")
    live = db.execute("select version from Model_Versions where state = 'live' and version <> ?", [version]).fetchone()
    db.execute("update Model_Versions set state = 'archived' where state = 'live' and version <> ?", [version])
    db.execute("update Model_Versions set state = 'live' where version = ?", [version])
    if live:
        change_processed(db, version, before=live["version"])
    else:  # whatever the pictures say, they are right then
        recompute_processed(db)
