"""What the backbone saw in each training picture, so that a retrain need not decode the pictures again."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from shoe_classifier.storage.sqlite.database import Database
from shoe_classifier.types import Appearance, PictureFeatures

_MIGRATIONS = (
    """
create table Features (
    backbone text not null, sha256 text not null, features blob not null, thumbnail blob not null,
    primary key (backbone, sha256)
) without rowid;
create index features_sha256 on Features (sha256);
""",
    """
create table Appearances (
    sha256 text primary key, side integer not null, darkest real not null, brightest real not null, blur real not null
) without rowid;
""",
)


class FeatureCache:
    """A SQLite file of features. It can be deleted at any time: whatever is missing is computed again.

    Features belong to a backbone, named by the SHA-256 of its compiled form. Several processes may share the file.
    """

    def __init__(self, path: Path):
        self._db = Database(path, _MIGRATIONS)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def get(self, backbone: str, hashes: Iterable[str]) -> dict[str, PictureFeatures]:
        """Return the features of those pictures that are known, by their SHA-256."""
        rows = self._db.select(
            "select sha256, features, thumbnail from Features"
            " where backbone = ? and sha256 in (select value from json_each(?))",
            backbone,
            json.dumps(list(hashes)),
        )
        return {row["sha256"]: _decode(row["features"], row["thumbnail"]) for row in rows}

    def put(self, backbone: str, pictures: Mapping[str, PictureFeatures]) -> None:
        """Keep the features of pictures, by their SHA-256."""
        rows = [
            (backbone, sha256, picture.features.astype(np.float16).tobytes(), picture.thumbnail.tobytes())
            for sha256, picture in pictures.items()
        ]
        with self._db.transaction() as db:
            db.executemany("insert or replace into Features values (?, ?, ?, ?)", rows)

    def appearances(self, hashes: Iterable[str]) -> dict[str, Appearance]:
        """Return the appearances of those pictures that are known, by their SHA-256."""
        query = "select * from Appearances where sha256 in (select value from json_each(?))"
        return {sha256: Appearance(*values) for sha256, *values in self._db.select(query, json.dumps(list(hashes)))}

    def put_appearances(self, pictures: Mapping[str, Appearance]) -> None:
        """Keep the appearances of pictures, by their SHA-256."""
        rows = [(sha256, *vars(appearance).values()) for sha256, appearance in pictures.items()]
        with self._db.transaction() as db:
            db.executemany("insert or replace into Appearances values (?, ?, ?, ?, ?)", rows)

    def forget(self, hashes: Iterable[str]) -> None:
        """Delete what is known of pictures, by their SHA-256."""
        gone = json.dumps(list(hashes))
        with self._db.transaction() as db:
            for table in ("Features", "Appearances"):
                db.execute(f"delete from {table} where sha256 in (select value from json_each(?))", [gone])

    def keep_backbones(self, backbones: Iterable[str]) -> None:
        """Delete the features of all backbones but these: no model that is kept can use them."""
        query = "delete from Features where backbone not in (select value from json_each(?))"
        self._db.execute(query, [json.dumps(list(backbones))])


def _decode(features: bytes, thumbnail: bytes) -> PictureFeatures:
    return PictureFeatures(np.frombuffer(features, np.float16), np.frombuffer(thumbnail, np.uint8).reshape(16, 16))
