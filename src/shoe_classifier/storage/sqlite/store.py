"""The store of a single machine: rows in one SQLite file, pictures in files named by their hash."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from shoe_classifier.errors import NotFound
from shoe_classifier.storage.sqlite.database import Database
from shoe_classifier.storage.sqlite.migrations import RECORDS
from shoe_classifier.storage.sqlite.picture_files import PictureFiles
from shoe_classifier.storage.tables import (
    DELETED_PICTURES,
    MODEL_VERSIONS,
    PREDICT,
    RETRAIN_JOBS,
    SYSTEM_METRICS,
    TRAINING_DATA,
    Row,
    Table,
)
from shoe_classifier.types import (
    CANCELLING,
    FINISHED,
    DeletedPicture,
    MinuteMetrics,
    ModelVersion,
    PredictionRecord,
    RetrainJob,
    TrainingPicture,
    utc_now,
)

_ADD_PREDICTION = (
    f"insert into Predict ({', '.join(PREDICT.columns)}) values ({', '.join(f':{name}' for name in PREDICT.columns)})"
)
_RECOMPUTE_PROCESSED = """
with recursive lineage (version) as (
    select version from Model_Versions where state = 'live'
    union
    select parent from Model_Versions join lineage using (version) where parent is not null
)
update Training_Data set is_processed = not is_processed
    where is_processed <> (id in (select training_id from Learned_Pictures join lineage using (version)))
"""


class SqliteStore:
    """See `protocols.Store`.

    Training rows, versions and the ends of jobs are flushed to the disk before a call returns, and so survive a power
    cut. Predictions survive a killed process, and are flushed with the next checkpoint of the write-ahead log.
    """

    kind = "sqlite"
    shared = False

    def __init__(self, folder: Path):
        self._pictures = PictureFiles(folder)
        self._db = Database(folder / "records.sqlite3", RECORDS)

    def start(self) -> None:
        pass

    def close(self) -> None:
        self._db.close()

    def problems(self) -> list[str]:
        return []

    def state(self) -> dict[str, Any]:
        return {}

    # ------------------------------------------------------------ pictures

    def pictures(self, image_paths: Sequence[str]) -> Iterator[bytes]:
        return self._pictures.pictures(image_paths)

    def find_picture(self, sha256: str) -> tuple[str, bytes]:
        return self._pictures.find_picture(sha256)

    def urls(self, image_paths: Sequence[str]) -> dict[str, str]:
        return self._pictures.urls(image_paths)

    # ------------------------------------------------------------ predictions

    def add_prediction(self, row: PredictionRecord, picture: bytes | None) -> None:
        if row.image_path and picture is not None:
            self._pictures.add(row.image_path, picture)
        self._db.execute(_ADD_PREDICTION, {**vars(row), "probabilities": orjson.dumps(row.probabilities).decode()})

    def prediction(self, prediction_id: str) -> PredictionRecord | None:
        return self._one(PREDICT, "id", prediction_id)

    def predictions(self, limit: int, before: str | None) -> list[PredictionRecord]:
        return self._page(PREDICT, limit, before)

    def review_prediction(self, prediction_id: str, label: str | None, kind: str, reviewed_at: str) -> None:
        change = "update Predict set reviewed_label = ?, review_kind = ?, reviewed_at = ? where id = ?"
        with self._db.transaction(durable=True) as db:
            if not db.execute(change, [label, kind, reviewed_at, prediction_id]).rowcount:
                raise NotFound(f"Expected the id of a prediction; received {prediction_id[:80]!r}.")

    # ------------------------------------------------------------ training data

    def add_training(self, rows: Sequence[TrainingPicture], files: Sequence[Path]) -> set[str]:
        for row, file in zip(rows, files, strict=True):
            self._pictures.add(row.image_path, file)
        self._pictures.flush([row.image_path for row in rows])  # before the rows, which must not outlive them
        with self._db.transaction(durable=True) as db:
            db.executemany("delete from Deleted_Pictures where sha256 = ?", [[row.sha256] for row in rows])
            return {row.id for row in rows if _insert(db, TRAINING_DATA, row, then="on conflict (sha256) do nothing")}

    def training_data(self, limit: int, before: str | None) -> list[TrainingPicture]:
        return self._page(TRAINING_DATA, limit, before)

    def training_picture(self, row_id: str) -> TrainingPicture | None:
        return self._one(TRAINING_DATA, "id", row_id)

    def training_with(self, sha256: str) -> TrainingPicture | None:
        return self._one(TRAINING_DATA, "sha256", sha256)

    def relabel(self, row_id: str, label: str) -> None:
        with self._db.transaction(durable=True) as db:
            db.execute("update Training_Data set shoe_class = ?, is_processed = 0 where id = ?", [label, row_id])
            db.execute("delete from Learned_Pictures where training_id = ?", [row_id])

    def delete_training(self, row: TrainingPicture) -> None:
        with self._db.transaction(durable=True) as db:
            db.execute("delete from Training_Data where id = ?", [row.id])
            db.execute("delete from Learned_Pictures where training_id = ?", [row.id])
            _insert(db, DELETED_PICTURES, DeletedPicture(row.sha256, utc_now()), "insert or replace")
        self._pictures.delete(row.image_path)

    def deleted_pictures(self) -> frozenset[str]:
        return frozenset(row["sha256"] for row in self._db.select("select sha256 from Deleted_Pictures"))

    def labels_of(self, hashes: Iterable[str]) -> dict[str, str]:
        query = "select sha256, shoe_class from Training_Data where sha256 in (select value from json_each(?))"
        return {row["sha256"]: row["shoe_class"] for row in self._db.select(query, json.dumps(list(hashes)))}

    def training_labels(self) -> dict[str, int]:
        query = "select shoe_class, count(*) n from Training_Data group by shoe_class order by min(id)"
        return {row["shoe_class"]: row["n"] for row in self._db.select(query)}

    def unprocessed(self) -> list[TrainingPicture]:
        return self._select(TRAINING_DATA, "where is_processed = 0 order by id")

    def processed(self) -> list[TrainingPicture]:
        return self._select(TRAINING_DATA, "where is_processed = 1 order by id")

    def count_unprocessed(self) -> int:
        return int(self._db.select("select count(*) n from Training_Data where is_processed = 0")[0]["n"])

    # ------------------------------------------------------------ versions

    def save_version(self, row: ModelVersion, file: Path | None = None) -> None:
        with self._db.transaction(durable=True) as db:
            _insert(db, MODEL_VERSIONS, row, "insert or replace")

    def prepare_publication(self, row: ModelVersion, file: Path, learned: Mapping[str, str]) -> None:
        add_learned = (
            "insert or ignore into Learned_Pictures (version, training_id)"
            " select ?, id from Training_Data where (id, shoe_class) in (select key, value from json_each(?))"
        )
        with self._db.transaction(durable=True) as db:
            _insert(db, MODEL_VERSIONS, row, then="on conflict (version) do nothing", state="candidate")
            db.execute(add_learned, [row.version, json.dumps(dict(learned))])

    def fetch_model(self, row: ModelVersion, target: Path) -> None:
        raise NotFound(f"Expected a version whose file is kept; the file of version {row.version!r} was deleted.")

    def drop_model(self, row: ModelVersion) -> bool:
        change = "update Model_Versions set state = 'deleted' where version = ? and state in ('candidate', 'archived')"
        with self._db.transaction(durable=True) as db:
            return db.execute(change, [row.version]).rowcount > 0

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

    def set_live(self, version: str) -> None:
        with self._db.transaction(durable=True) as db:
            _set_live(db, version)

    # ------------------------------------------------------------ jobs

    def start_job(self, job: RetrainJob) -> bool:
        with self._db.transaction() as db:
            return _insert(db, RETRAIN_JOBS, job)

    def report_job(self, job: RetrainJob) -> bool:
        with self._db.transaction() as db:
            found = db.execute("select state, phase from Retrain_Jobs where job_id = ?", [job.job_id]).fetchone()
            if found and (found["phase"] == CANCELLING or found["state"] in FINISHED):
                return False
            return _insert(db, RETRAIN_JOBS, job, "insert or replace")

    def finish_job(self, job: RetrainJob) -> None:
        with self._db.transaction(durable=True) as db:
            _insert(db, RETRAIN_JOBS, job, "insert or replace")
            if job.state == "published" and job.model_version:
                _set_live(db, job.model_version)

    def request_cancel(self, job_id: str) -> None:
        change = "update Retrain_Jobs set phase = ? where job_id = ? and state in ('queued', 'running')"
        with self._db.transaction() as db:
            db.execute(change, [CANCELLING, job_id])

    def jobs(self, limit: int, before: str | None) -> list[RetrainJob]:
        return self._page(RETRAIN_JOBS, limit, before)

    def job(self, job_id: str) -> RetrainJob | None:
        return self._one(RETRAIN_JOBS, "job_id", job_id)

    def fail_unfinished_jobs(self, error: str) -> None:
        change = (
            "update Retrain_Jobs set state = 'failed', phase = 'failed', error = ?, message = ?, finished_at = ?"
            " where state in ('queued', 'running')"
        )
        with self._db.transaction() as db:
            db.execute(change, [error, error, utc_now()])

    def fail_lost_jobs(self) -> None:
        pass

    # ------------------------------------------------------------ minutes

    def add_minute(self, row: MinuteMetrics) -> None:
        with self._db.transaction() as db:
            _insert(db, SYSTEM_METRICS, row, "insert or replace")

    def minutes(self, limit: int) -> list[MinuteMetrics]:
        return self._page(SYSTEM_METRICS, limit, None)

    # ------------------------------------------------------------ reading rows

    def _one(self, table: Table[Row], column: str, value: str) -> Row | None:
        rows = self._select(table, f"where {column} = ? limit 1", value)
        return rows[0] if rows else None

    def _page(self, table: Table[Row], limit: int, before: str | None) -> list[Row]:
        where, values = (f"where {table.key} < ?", [before]) if before else ("", [])
        return self._select(table, f"{where} order by {table.key} desc limit ?", *values, limit)

    def _select(self, table: Table[Row], clauses: str, *values: Any) -> list[Row]:
        rows = self._db.select(f"select {', '.join(table.columns)} from {table.name} {clauses}", *values)
        return [_decode(table, row) for row in rows]


@cache
def _insertion(table: Table[Any], verb: str, then: str) -> str:
    values = ", ".join("?" * len(table.columns))
    return f"{verb} into {table.name} ({', '.join(table.columns)}) values ({values}) {then}"


def _insert(
    db: sqlite3.Connection, table: Table[Row], row: Row, verb: str = "insert", then: str = "", **changes: Any
) -> bool:
    """Insert a row, with some of its columns changed; return False when a conflict prevented it."""
    values = {**vars(row), **changes}
    for column in table.json_columns:
        values[column] = None if values[column] is None else json.dumps(values[column])
    return db.execute(_insertion(table, verb, then), [values[column] for column in table.columns]).rowcount > 0


def _decode(table: Table[Row], row: sqlite3.Row) -> Row:
    values: dict[str, Any] = dict(row)
    for column in table.json_columns:
        values[column] = None if values[column] is None else json.loads(values[column])
    for column in table.boolean_columns:
        values[column] = bool(values[column])
    return table.row_type(**values)


def _set_live(db: sqlite3.Connection, version: str) -> None:
    if not db.execute("select 1 from Model_Versions where version = ?", [version]).fetchone():
        raise NotFound(f"Expected a stored version; received {version!r}.")
    db.execute("update Model_Versions set state = 'archived' where state = 'live' and version <> ?", [version])
    db.execute("update Model_Versions set state = 'live' where version = ?", [version])
    db.execute(_RECOMPUTE_PROCESSED)
