"""The store of a single machine: rows in one SQLite file, pictures in files named by their hash."""

import json
import os
import shutil
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path, PurePath
from typing import Any, TypeVar

import orjson

from shoe_classifier.errors import NotFound
from shoe_classifier.storage.sqlite.database import Database
from shoe_classifier.types import (
    CANCELLING,
    FINISHED,
    MinuteMetrics,
    ModelVersion,
    PredictionRecord,
    RetrainJob,
    TrainingPicture,
)

SCHEMA = """
create table if not exists Predict (
    id text primary key, image_path text, predicted_class text not null, confidence_score real not null,
    decision text not null, probabilities text not null, model_version text not null,
    response_time real not null, created_at text not null
) without rowid;
create table if not exists Training_Data (
    id text primary key, image_path text not null, sha256 text not null unique, shoe_class text not null,
    is_processed integer not null default 0, split text not null, source text not null,
    upload_id text not null, uploaded_at text not null
) without rowid;
create index if not exists training_data_unprocessed on Training_Data (id) where is_processed = 0;
create index if not exists training_data_class on Training_Data (shoe_class);
create table if not exists Model_Versions (
    version text primary key, sha256 text not null, labels text not null, metrics text, parent text,
    state text not null, file_path text not null, created_at text not null
) without rowid;
create index if not exists model_versions_sha256 on Model_Versions (sha256);
create table if not exists Retrain_Jobs (
    job_id text primary key, state text not null, mode text not null, phase text not null, progress real not null,
    message text not null, samples integer not null, labels text not null, metrics text, baseline text,
    model_version text, error text, force integer not null, seconds_left real,
    created_at text not null, started_at text, finished_at text
) without rowid;
create table if not exists System_Metrics (
    timestamp text primary key, request_count integer not null, avg_response_time real not null,
    model_uptime_status text not null
) without rowid;
"""
_ADD_PREDICTION = """
insert into Predict values (
    :id, :image_path, :predicted_class, :confidence_score, :decision, :probabilities, :model_version, :response_time,
    :created_at
)
"""
_JSON = {"probabilities", "labels", "metrics", "baseline"}
_BOOLEAN = {"is_processed", "force"}
_SYNC_ALL_FROM = 8  # files; below, each is flushed by itself

Row = TypeVar("Row", PredictionRecord, TrainingPicture, ModelVersion, RetrainJob, MinuteMetrics)


class SqliteStore:
    """See `base.Store`.

    Training rows are flushed to the disk before they count, so they survive a power cut; predictions survive a killed
    process, and are flushed when the log is folded in.
    """

    kind = "sqlite"
    shared = False

    def __init__(self, folder: Path):
        self._folder = folder
        self._pictures = folder / "images"
        self._pictures.mkdir(parents=True, exist_ok=True)
        self._db = Database(folder / "records.sqlite3", SCHEMA)

    def close(self) -> None:
        self._db.close()

    def start(self) -> None:
        pass

    def problems(self) -> list[str]:
        return []

    def state(self) -> dict[str, Any]:
        return {}

    # ------------------------------------------------------------ pictures

    def _keep_picture(self, image_path: str, data: bytes | Path) -> None:
        if not os.path.exists(f"{self._folder}/{image_path}"):  # noqa: PTH110 - five times as fast, in each prediction
            path = self._folder / image_path
            path.parent.mkdir(exist_ok=True)
            part = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
            try:
                if isinstance(data, Path):
                    shutil.move(data, part)
                else:
                    part.write_bytes(data)
                part.replace(path)
            except OSError:
                part.unlink(missing_ok=True)
                raise

    def pictures(self, image_paths: Sequence[str]) -> Iterator[bytes]:
        for image_path in image_paths:
            try:
                yield (self._folder / image_path).read_bytes()
            except FileNotFoundError:
                raise NotFound(f"Expected a stored picture; {image_path!r} is not there any more.") from None

    def find_picture(self, sha256: str) -> tuple[str, bytes]:
        for path in (self._pictures / sha256[:2]).glob(f"{sha256}.*"):
            return str(path.relative_to(self._folder)), path.read_bytes()
        raise NotFound(f"Expected the SHA-256 of a stored picture; received {sha256[:80]!r}.")

    def urls(self, image_paths: Sequence[str]) -> dict[str, str]:
        return {path: f"/files/{PurePath(path).stem}" for path in image_paths}

    # ------------------------------------------------------------ predictions

    def add_prediction(self, row: PredictionRecord, picture: bytes | None) -> None:
        if row.image_path and picture is not None:
            self._keep_picture(row.image_path, picture)
        self._db.execute(_ADD_PREDICTION, {**vars(row), "probabilities": orjson.dumps(row.probabilities).decode()})

    def prediction(self, prediction_id: str) -> PredictionRecord | None:
        return self._one(PredictionRecord, "select * from Predict where id = ?", prediction_id)

    def predictions(self, limit: int, before: str | None) -> list[PredictionRecord]:
        return self._page(PredictionRecord, "Predict", "id", limit, before)

    # ------------------------------------------------------------ training data

    def add_training(self, rows: Sequence[TrainingPicture], files: Sequence[Path]) -> set[str]:
        for row, file in zip(rows, files, strict=True):
            self._keep_picture(row.image_path, file)
        self._flush([self._folder / row.image_path for row in rows])
        new = set()
        with self._db.transaction(durable=True) as db:
            for row in rows:
                if _insert(db, "Training_Data", asdict(row), then="on conflict (sha256) do nothing"):
                    new.add(row.id)
        return new

    def training_data(self, limit: int, before: str | None) -> list[TrainingPicture]:
        return self._page(TrainingPicture, "Training_Data", "id", limit, before)

    def training_picture(self, row_id: str) -> TrainingPicture | None:
        return self._one(TrainingPicture, "select * from Training_Data where id = ?", row_id)

    def training_with(self, sha256: str) -> TrainingPicture | None:
        return self._one(TrainingPicture, "select * from Training_Data where sha256 = ?", sha256)

    def relabel(self, row_id: str, label: str) -> None:
        with self._db.transaction(durable=True) as db:
            db.execute("update Training_Data set shoe_class = ?, is_processed = 0 where id = ?", [label, row_id])

    def delete_training(self, row: TrainingPicture) -> None:
        with self._db.transaction(durable=True) as db:
            db.execute("delete from Training_Data where id = ?", [row.id])
        (self._folder / row.image_path).unlink(missing_ok=True)

    def labels_of(self, hashes: Iterable[str]) -> dict[str, str]:
        question = "select sha256, shoe_class from Training_Data where sha256 in (select value from json_each(?))"
        return {row["sha256"]: row["shoe_class"] for row in self._db.select(question, json.dumps(list(hashes)))}

    def training_labels(self) -> dict[str, int]:
        question = "select shoe_class, count(*) n from Training_Data group by shoe_class order by min(id)"
        return {row["shoe_class"]: row["n"] for row in self._db.select(question)}

    def unprocessed(self) -> list[TrainingPicture]:
        rows = self._db.select("select * from Training_Data where is_processed = 0 order by id")
        return [_decode(TrainingPicture, row) for row in rows]

    def processed(self) -> list[TrainingPicture]:
        rows = self._db.select("select * from Training_Data where is_processed = 1 order by id")
        return [_decode(TrainingPicture, row) for row in rows]

    def count_unprocessed(self) -> int:
        return int(self._db.select("select count(*) n from Training_Data where is_processed = 0")[0]["n"])

    # ------------------------------------------------------------ versions

    def save_version(self, row: ModelVersion, file: Path | None = None) -> None:
        with self._db.transaction(durable=True) as db:
            _insert(db, "Model_Versions", asdict(row), "insert or replace")

    def fetch_model(self, row: ModelVersion, target: Path) -> None:
        raise NotFound(f"Expected a version whose file is kept; that of {row.version!r} was deleted.")

    def drop_model(self, row: ModelVersion) -> bool:
        change = "update Model_Versions set state = 'deleted' where version = ? and state = 'archived'"
        with self._db.transaction(durable=True) as db:
            return db.execute(change, [row.version]).rowcount > 0

    def versions(self) -> list[ModelVersion]:
        rows = self._db.select("select * from Model_Versions order by created_at desc, version desc")
        return [_decode(ModelVersion, row) for row in rows]

    def version(self, version: str) -> ModelVersion | None:
        return self._one(ModelVersion, "select * from Model_Versions where version = ?", version)

    def version_with(self, sha256: str) -> ModelVersion | None:
        return self._one(ModelVersion, "select * from Model_Versions where sha256 = ?", sha256)

    def live_version(self) -> ModelVersion | None:
        return self._one(ModelVersion, "select * from Model_Versions where state = ?", "live")

    def last_live(self) -> str | None:
        live = self.live_version()
        return live.sha256 if live else None

    def set_live(self, version: str) -> None:
        with self._db.transaction(durable=True) as db:
            _set_live(db, version)

    # ------------------------------------------------------------ jobs and metrics

    def start_job(self, job: RetrainJob) -> bool:
        with self._db.transaction() as db:
            return _insert(db, "Retrain_Jobs", asdict(job))

    def report_job(self, job: RetrainJob) -> bool:
        with self._db.transaction() as db:
            found = db.execute("select phase from Retrain_Jobs where job_id = ?", [job.job_id]).fetchone()
            if found and found["phase"] == CANCELLING:
                return False
            return _insert(db, "Retrain_Jobs", asdict(job), "insert or replace")

    def finish_job(self, job: RetrainJob, learnt: Mapping[str, str]) -> None:
        with self._db.transaction(durable=True) as db:
            _insert(db, "Retrain_Jobs", asdict(job), "insert or replace")
            learning = "update Training_Data set is_processed = 1 where (id, shoe_class) in"
            db.execute(f"{learning} (select key, value from json_each(?))", [json.dumps(dict(learnt))])
            if job.state == "published" and job.model_version:
                _set_live(db, job.model_version)

    def request_cancel(self, job_id: str) -> None:
        with self._db.transaction() as db:
            db.execute("update Retrain_Jobs set phase = ? where job_id = ?", [CANCELLING, job_id])

    def jobs(self, limit: int, before: str | None) -> list[RetrainJob]:
        return self._page(RetrainJob, "Retrain_Jobs", "job_id", limit, before)

    def job(self, job_id: str) -> RetrainJob | None:
        return self._one(RetrainJob, "select * from Retrain_Jobs where job_id = ?", job_id)

    def fail_unfinished_jobs(self, error: str) -> None:
        with self._db.transaction() as db:
            states = ", ".join(f"'{state}'" for state in FINISHED)
            db.execute(
                f"update Retrain_Jobs set state = 'failed', phase = 'failed', error = ?, message = ?,"
                f" finished_at = strftime('%Y-%m-%dT%H:%M:%fZ') where state not in ({states})",
                [error, error],
            )

    def fail_lost_jobs(self) -> None:
        pass

    def add_minute(self, row: MinuteMetrics) -> None:
        with self._db.transaction() as db:
            _insert(db, "System_Metrics", asdict(row), "insert or replace")

    def minutes(self, limit: int) -> list[MinuteMetrics]:
        rows = self._db.select("select * from System_Metrics order by timestamp desc limit ?", limit)
        return [_decode(MinuteMetrics, row) for row in rows]

    # ------------------------------------------------------------ inside

    def _one(self, kind: type[Row], question: str, value: str) -> Row | None:
        rows = self._db.select(question, value)
        return _decode(kind, rows[0]) if rows else None

    def _page(self, kind: type[Row], table: str, key: str, limit: int, before: str | None) -> list[Row]:
        where, values = (f"where {key} < ?", [before]) if before else ("", [])
        rows = self._db.select(f"select * from {table} {where} order by {key} desc limit ?", *values, limit)
        return [_decode(kind, row) for row in rows]

    def _flush(self, files: Sequence[Path]) -> None:
        """Bring pictures to the disk, so that a row never outlives its picture."""
        if len(files) >= _SYNC_ALL_FROM:
            os.sync()
            return
        for path in {*files, *(file.parent for file in files)}:
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def _insert(db: sqlite3.Connection, table: str, values: dict[str, Any], verb: str = "insert", then: str = "") -> bool:
    encoded = [json.dumps(value) if name in _JSON and value is not None else value for name, value in values.items()]
    question = f"{verb} into {table} ({', '.join(values)}) values ({', '.join('?' * len(values))}) {then}"
    return db.execute(question, encoded).rowcount > 0


def _set_live(db: sqlite3.Connection, version: str) -> None:
    db.execute("update Model_Versions set state = 'archived' where state = 'live' and version <> ?", [version])
    db.execute("update Model_Versions set state = 'live' where version = ?", [version])


def _decode(kind: type[Row], row: sqlite3.Row) -> Row:
    values: dict[str, Any] = {item.name: row[item.name] for item in fields(kind)}
    for name in _JSON & values.keys():
        values[name] = None if values[name] is None else json.loads(values[name])
    for name in _BOOLEAN & values.keys():
        values[name] = bool(values[name])
    return kind(**values)
