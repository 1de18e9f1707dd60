"""The store of a single machine: rows in one SQLite file, pictures in files named by their hash."""

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from shoe_classifier.errors import NotFound
from shoe_classifier.storage.filters import Condition, conditions_of, split_days
from shoe_classifier.storage.sqlite.backlog import Backlog
from shoe_classifier.storage.sqlite.database import Database
from shoe_classifier.storage.sqlite.migrations import RECORDS
from shoe_classifier.storage.sqlite.picture_files import PictureFiles
from shoe_classifier.storage.tables import (
    AUDIT_LOG,
    CHANGED_PICTURES,
    DELETED_PICTURES,
    KEPT_PICTURES,
    LABEL_CHANGES,
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
    EVERY_PICTURE,
    EVERY_PREDICTION,
    FINISHED,
    UNPUBLISHED,
    AuditEntry,
    ChangedPicture,
    DecisionCount,
    DeletedPicture,
    IssueKind,
    KeptPicture,
    KeptPredictions,
    LabelChange,
    LabelCounts,
    MinuteMetrics,
    ModelVersion,
    PredictionFilter,
    PredictionRecord,
    QueuedKind,
    RetrainJob,
    TrainingFilter,
    TrainingPicture,
    first_id,
    utc_now,
)

_ADD_PREDICTION = (
    f"insert into Predict ({', '.join(PREDICT.columns)}) values ({', '.join(f':{name}' for name in PREDICT.columns)})"
)
_DROP_MODEL = """
update Model_Versions set state = 'deleted' where version = ? and state in ('candidate', 'rejected', 'archived')
"""
_IN_LIST = "in (select value from json_each(?))"
_COUNT_LABELS = """
select shoe_class, sum(rows) pictures, sum(rows * (split = 'holdout')) held_out, sum(rows * is_processed) learnt
    from Training_Counts group by shoe_class having sum(rows) > 0
    order by (select min(id) from Training_Data where Training_Data.shoe_class = Training_Counts.shoe_class)
"""
_TO_REVIEW = {  # whether drawn at random; the columns are those of the indexes
    False: "decision = ? and review_kind is null and reviewed_at is null and image_path is not null",
    True: "review_kind = ? and reviewed_at is null and image_path is not null",
}
_COUNT_DECISIONS = """
select day, model_version, decision, sum(rows) count from Prediction_Counts where day >= ? and rows > 0 group by 1, 2, 3
"""
_LEARNED = (
    "("
    + " or ".join(  # or set aside; the hash is where `picture_path` puts it
        f"exists (select 1 from {table} where sha256 = substr({{path}}, 11, 64){only})"
        for table, only in (("Training_Data", ""), ("Changed_Pictures", " and picture is not null"))
    )
    + ")"
)
_EXPENDABLE = f"where id > ? and id < ? and reviewed_at is null and not {_LEARNED.format(path='Predict.image_path')}"
_UNUSED = f"""
select value from json_each(?)
    where not exists (select 1 from Predict where image_path = value) and not {_LEARNED.format(path="value")}
"""
_PICTURE_SIZES = f"""
select image_path, max(image_bytes) bytes,
        count(reviewed_at) = 0 and not {_LEARNED.format(path="Predict.image_path")} free
    from Predict where image_path > ? group by image_path order by image_path limit ?
"""
_BACKLOG_BYTES = 16 << 20  # of predictions that wait while another process locks the file: about 25,000
_COUNTED, _REST_SECONDS = 1000, 0.002  # rows counted in one step, while predictions wait, and the pause after it
_RECOMPUTE_PROCESSED = """
with recursive lineage (version) as (
    select version from Model_Versions where state = 'live'
    union
    select parent from Model_Versions join lineage using (version) where parent is not null
)
update Training_Data set is_processed = not is_processed
    where is_processed <> (id in (select training_id from Learned_Pictures join lineage using (version)))
"""
_CHANGE_PROCESSED = """
with recursive known (version) as (
    select :version union select parent from Model_Versions join known using (version) where parent is not null
), known_before (version) as (
    select :before union select parent from Model_Versions join known_before using (version) where parent is not null
), differing as (
    select version from (select version from known union select version from known_before)
        where version not in (select version from known intersect select version from known_before)
)
update Training_Data set is_processed = not is_processed
    where id in (select training_id from Learned_Pictures where version in (select version from differing))
        and is_processed <> exists (
            select 1 from Learned_Pictures
                where training_id = Training_Data.id and version in (select version from known)
        )
"""
_COUNT_UNLEARNED = """
with recursive lineage (version) as (
    select ? union select parent from Model_Versions join lineage using (version) where parent is not null
)
select count(*) n from Training_Data
    where id not in (select training_id from Learned_Pictures join lineage using (version))
"""


class SqliteStore:
    """See `protocols.Store`.

    Training rows, versions and the ends of jobs are flushed to the disk before a call returns, and so survive a power
    cut. Predictions survive a killed process, unless another process locks the file just then, and are flushed with the
    next checkpoint of the write-ahead log.
    """

    kind = "sqlite"
    shared = False

    def __init__(self, folder: Path):
        self._pictures = PictureFiles(folder)
        self._tidy = False
        self._db = Database(folder / "records.sqlite3", RECORDS)
        self._backlog = Backlog(self._db, _BACKLOG_BYTES)

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

    # ------------------------------------------------------------ pictures

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

    # ------------------------------------------------------------ predictions

    def add_prediction(self, row: PredictionRecord, picture: bytes | None) -> None:
        if row.image_path and picture is not None:
            self._pictures.add(row.image_path, picture)
        probabilities = orjson.dumps(row.probabilities).decode()
        self._backlog.execute(len(probabilities), (_ADD_PREDICTION, {**vars(row), "probabilities": probabilities}))

    def prediction(self, prediction_id: str) -> PredictionRecord | None:
        return self._one(PREDICT, "id", prediction_id)

    def predictions(
        self, limit: int, before: str | None, which: PredictionFilter = EVERY_PREDICTION
    ) -> list[PredictionRecord]:
        return self._page(PREDICT, limit, before, conditions_of(which))

    def count_matching(self, which: PredictionFilter) -> int:
        days, edges = split_days(which)
        bounds = [Condition("day", ">=", days.first), Condition("day", "<", days.last)]
        kinds = conditions_of(replace(which, since=None, until=None))
        whole = [*kinds, *(bound for bound in bounds if bound.value is not None)]
        return self._sum("Prediction_Counts", whole) + sum(self._count(PREDICT, edge) for edge in edges)

    def predictions_with(self, ids: Sequence[str]) -> dict[str, PredictionRecord]:
        rows = self._select(PREDICT, "where id in (select value from json_each(?))", json.dumps(list(ids)))
        return {row.id: row for row in rows}

    def review_prediction(
        self, prediction_id: str, label: str | None, kind: str | None, reviewed_at: str | None
    ) -> None:
        change = "update Predict set reviewed_label = ?, review_kind = ?, reviewed_at = ? where id = ?"
        with self._db.transaction(durable=True) as db:
            if not db.execute(change, [label, kind, reviewed_at, prediction_id]).rowcount:
                raise NotFound(f"Expected the id of a prediction; received {prediction_id[:80]!r}.")

    def to_review(self, kind: QueuedKind, limit: int) -> list[PredictionRecord]:
        return self._select(PREDICT, f"where {_TO_REVIEW[kind == 'random']} order by id desc limit ?", kind, limit)

    def count_to_review(self, kind: QueuedKind) -> int:
        return int(
            self._db.select(f"select count(*) n from Predict where {_TO_REVIEW[kind == 'random']}", kind)[0]["n"]
        )

    def reviewed_at_random(self, since: datetime) -> list[PredictionRecord]:
        where = "where review_kind = 'random' and id > ? and reviewed_at is not null order by id"
        return self._select(PREDICT, where, first_id(since))

    def decision_counts(self, since: datetime) -> list[DecisionCount]:
        return [DecisionCount(**row) for row in self._db.select(_COUNT_DECISIONS, f"{since:%Y-%m-%d}")]

    def delete_predictions(self, rows: Sequence[PredictionRecord]) -> None:
        self._release(rows, "delete from Predict")

    def drop_pictures(self, rows: Sequence[PredictionRecord]) -> None:
        self._release(rows, "update Predict set image_path = null, image_bytes = null")

    def _release(self, rows: Sequence[PredictionRecord], change: str) -> None:
        """Change rows, and delete the pictures that no row uses afterwards.

        The files go within the transaction, so that no training row can come to use one in between; after a crash the
        rows are still there, and the next call finds them.
        """
        paths = json.dumps(list({row.image_path for row in rows if row.image_path}))
        with self._db.transaction() as db:
            db.execute(f"{change} where id in (select value from json_each(?))", [json.dumps([row.id for row in rows])])
            for row in db.execute(_UNUSED, [paths]).fetchall():
                self._pictures.delete(row["value"])

    def expendable_predictions(
        self, after: str, before: str, *, with_picture: bool, limit: int
    ) -> list[PredictionRecord]:
        having = "and image_path is not null" if with_picture else ""
        return self._select(PREDICT, f"{_EXPENDABLE} {having} order by id limit ?", after, before, limit)

    def count_predictions(self) -> KeptPredictions:
        pictures, size, path = 0, 0, ""
        while found := self._db.select(_PICTURE_SIZES, path, _COUNTED):
            free = [row for row in found if row["free"]]
            pictures += len(free)
            size += sum(row["bytes"] or self._pictures.size(row["image_path"]) for row in free)
            path = found[-1]["image_path"]
            time.sleep(_REST_SECONDS)
        oldest = self._db.select("select created_at from Predict order by id limit 1")
        rows = self._sum("Prediction_Counts", [])
        return KeptPredictions(rows, oldest[0]["created_at"] if oldest else None, pictures, size)

    def forget_unused(self) -> None:
        if not self._tidy:  # once, for it looks at the name of each picture
            self._pictures.remove_leftovers()
            self._tidy = True

    # ------------------------------------------------------------ audit log

    def add_audit(self, row: AuditEntry) -> None:
        with self._db.transaction() as db:
            _insert(db, AUDIT_LOG, row)

    def audit_log(self, limit: int, before: str | None) -> list[AuditEntry]:
        return self._page(AUDIT_LOG, limit, before)

    def trim_audit(self, refused: int) -> None:
        old = "select id from Audit_Log where status in (401, 403) order by id desc limit ? offset ?"
        self._db.execute(f"delete from Audit_Log where id in ({old})", [_COUNTED, refused])

    # ------------------------------------------------------------ training data

    def add_training(self, rows: Sequence[TrainingPicture], files: Sequence[Path]) -> set[str]:
        for row, file in zip(rows, files, strict=True):
            self._pictures.heal(row.image_path, file)
        self._pictures.flush([row.image_path for row in rows])  # before the rows, which must not outlive them
        with self._db.transaction(durable=True) as db:
            db.executemany("delete from Deleted_Pictures where sha256 = ?", [[row.sha256] for row in rows])
            added = {row.id for row in rows if _insert(db, TRAINING_DATA, row, then="on conflict (sha256) do nothing")}
        for row, file in zip(rows, files, strict=True):
            self._pictures.add(row.image_path, file)  # again: its last prediction may just have been deleted
        return added

    def training_data(
        self, limit: int, before: str | None, which: TrainingFilter = EVERY_PICTURE
    ) -> list[TrainingPicture]:
        return self._page(TRAINING_DATA, limit, before, conditions_of(which))

    def count_training(self, which: TrainingFilter) -> int:
        if which.since or which.until:
            return self._count(TRAINING_DATA, conditions_of(which))
        return self._sum("Training_Counts", conditions_of(which))

    def training_rows(self) -> Iterator[TrainingPicture]:
        return self._stream_training("")

    def _stream_training(self, where: str) -> Iterator[TrainingPicture]:
        query = f"select {', '.join(TRAINING_DATA.columns)} from Training_Data {where} order by id"
        return (_decode(TRAINING_DATA, row) for row in self._db.stream(query))

    def training_picture(self, row_id: str) -> TrainingPicture | None:
        return self._one(TRAINING_DATA, "id", row_id)

    def training_with(self, sha256: str) -> TrainingPicture | None:
        return self._one(TRAINING_DATA, "sha256", sha256)

    def training_pictures(self, row_ids: Sequence[str]) -> list[TrainingPicture]:
        return self._select(TRAINING_DATA, f"where id {_IN_LIST}", json.dumps(list(row_ids)))

    def relabel(self, row_id: str, label: str) -> None:
        self.relabel_all([row_id], label)

    def relabel_all(self, row_ids: Sequence[str], label: str) -> None:
        others = f"from Training_Data where shoe_class <> ? and id {_IN_LIST}"
        with self._db.transaction(durable=True) as db:
            ids = json.dumps([row["id"] for row in db.execute(f"select id {others}", [label, json.dumps([*row_ids])])])
            db.execute(f"update Training_Data set shoe_class = ?, is_processed = 0 where id {_IN_LIST}", [label, ids])
            db.execute(f"delete from Learned_Pictures where training_id {_IN_LIST}", [ids])

    def delete_training(self, row: TrainingPicture, *, keep_picture: bool = False) -> None:
        if not keep_picture:
            self.delete_all([row])
            return
        with self._db.transaction(durable=True) as db:
            _delete_training(db, [row])

    def delete_all(self, rows: Sequence[TrainingPicture]) -> None:
        with self._db.transaction(durable=True) as db:
            _delete_training(db, rows)
        self._delete_files(rows)

    def _delete_files(self, rows: Sequence[TrainingPicture]) -> None:
        for row in rows:
            self._pictures.delete(row.image_path)

    def deleted_pictures(self) -> frozenset[str]:
        return frozenset(row["sha256"] for row in self._db.select("select sha256 from Deleted_Pictures"))

    def labels_of(self, hashes: Iterable[str]) -> dict[str, str]:
        query = "select sha256, shoe_class from Training_Data where sha256 in (select value from json_each(?))"
        return {row["sha256"]: row["shoe_class"] for row in self._db.select(query, json.dumps(list(hashes)))}

    def training_labels(self) -> dict[str, int]:
        return {label: counts.pictures for label, counts in self.label_counts().items()}

    def label_counts(self) -> dict[str, LabelCounts]:
        rows = self._db.select(_COUNT_LABELS)
        return {row["shoe_class"]: LabelCounts(row["pictures"], row["held_out"], row["learnt"]) for row in rows}

    def change_label(self, change: LabelChange) -> int:
        rows = self._select(TRAINING_DATA, "where shoe_class = ?", change.label)
        with self._db.transaction(durable=True) as db:
            _insert(db, LABEL_CHANGES, change, then="on conflict (id) do nothing")
            for row in rows:
                _insert(db, CHANGED_PICTURES, _changed(db, change, row))
            if change.name is None:
                _delete_training(db, rows)
            else:
                for table in (TRAINING_DATA, KEPT_PICTURES):
                    db.execute(
                        f"update {table.name} set shoe_class = ? where shoe_class = ?", [change.name, change.label]
                    )
        return len(rows)

    def undo_change(self, change_id: str) -> int | None:
        change = self._one(LABEL_CHANGES, "id", change_id)
        rows = self._select(CHANGED_PICTURES, "where change_id = ?", change_id)
        with self._db.transaction(durable=True) as db:
            newest = "delete from Label_Changes where id = ? and id = (select max(id) from Label_Changes)"
            if change is None or not db.execute(newest, [change_id]).rowcount:
                return None
            db.execute("delete from Changed_Pictures where change_id = ?", [change_id])
            _rename_back(db, change, [row.training_id for row in rows if row.picture is None])
            for row in rows:
                if row.picture is not None:
                    _bring_back(db, row)
            db.execute(_RECOMPUTE_PROCESSED)
        return len(rows)

    def settle_changes(self, last: str) -> None:
        query = "select distinct json_extract(picture, '$.image_path') path from Changed_Pictures where change_id <= ?"
        with self._db.transaction() as db:
            paths = json.dumps([row["path"] for row in db.execute(query, [last]) if row["path"]])
            db.execute("delete from Changed_Pictures where change_id <= ?", [last])
            for row in db.execute(_UNUSED, [paths]).fetchall():  # within the transaction, as in `_release`
                self._pictures.delete(row["value"])

    def label_changes(self) -> list[LabelChange]:
        return self._select(LABEL_CHANGES, "order by id")

    def keep_pictures(self, rows: Sequence[KeptPicture]) -> None:
        with self._db.transaction() as db:
            for row in rows:
                _insert(db, KEPT_PICTURES, row, "insert or replace")

    def undo_keep(self, items: Sequence[tuple[str, IssueKind]]) -> None:
        with self._db.transaction() as db:
            db.executemany("delete from Kept_Pictures where training_id = ? and kind = ?", items)

    def kept_pictures(self) -> list[KeptPicture]:
        return self._select(KEPT_PICTURES, "")

    def unprocessed(self) -> list[TrainingPicture]:
        return [*self._stream_training("where is_processed = 0")]

    def count_unprocessed(self, after: str | None = None) -> int:
        if after is None:
            return self.count_training(TrainingFilter(learnt=False))
        query = "select count(*) n from Training_Data where is_processed = 0 and id > ?"
        return int(self._db.select(query, after)[0]["n"])

    def count_unlearned(self, version: str) -> int:
        return int(self._db.select(_COUNT_UNLEARNED, version)[0]["n"])

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

    def _page(
        self, table: Table[Row], limit: int, before: str | None, conditions: Sequence[Condition] = ()
    ) -> list[Row]:
        where, values = _where([*conditions, Condition(table.key, "<", before)] if before else conditions)
        return self._select(table, f"{where} order by {table.key} desc limit ?", *values, limit)

    def _count(self, table: Table[Row], conditions: Sequence[Condition]) -> int:
        where, values = _where(conditions)
        return int(self._db.select(f"select count(*) n from {table.name} {where}", *values)[0]["n"])

    def _sum(self, counts: str, conditions: Sequence[Condition]) -> int:
        """Add up the rows that a table of counts has of some kinds."""
        where, values = _where(conditions)
        return int(self._db.select(f"select coalesce(sum(rows), 0) n from {counts} {where}", *values)[0]["n"])

    def _select(self, table: Table[Row], clauses: str, *values: Any) -> list[Row]:
        rows = self._db.select(f"select {', '.join(table.columns)} from {table.name} {clauses}", *values)
        return [_decode(table, row) for row in rows]


def _where(conditions: Sequence[Condition]) -> tuple[str, list[Any]]:
    """A clause, and its values; empty without conditions.

    True and false are written out: the partial indexes are only found for what is known in advance.
    """
    clause = " and ".join(
        f"{column} = {value:d}" if isinstance(value, bool) else f"{column} {operator} ?"
        for column, operator, value in conditions
    )
    return f"where {clause}" if clause else "", [value for *_, value in conditions if not isinstance(value, bool)]


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


def _delete_training(db: sqlite3.Connection, rows: Sequence[TrainingPicture]) -> None:
    """Delete rows and what is known about them, and keep the hashes of their pictures."""
    ids = json.dumps([row.id for row in rows])
    for table, column in (
        ("Training_Data", "id"),
        ("Learned_Pictures", "training_id"),
        ("Kept_Pictures", "training_id"),
    ):
        db.execute(f"delete from {table} where {column} {_IN_LIST}", [ids])
    for row in rows:
        _insert(db, DELETED_PICTURES, DeletedPicture(row.sha256, utc_now()), "insert or replace")


def _changed(db: sqlite3.Connection, change: LabelChange, row: TrainingPicture) -> ChangedPicture:
    """What there is to keep about a picture whose label changes."""
    if change.name is not None:
        return ChangedPicture(change.id, row.id, row.sha256, None, [])
    learned = db.execute("select version from Learned_Pictures where training_id = ?", [row.id])
    return ChangedPicture(change.id, row.id, row.sha256, vars(row), [found["version"] for found in learned])


def _rename_back(db: sqlite3.Connection, change: LabelChange, training_ids: Sequence[str]) -> None:
    for table, column in (("Training_Data", "id"), ("Kept_Pictures", "training_id")):
        rename = f"update {table} set shoe_class = ? where shoe_class = ? and {column} {_IN_LIST}"
        db.execute(rename, [change.label, change.name, json.dumps(training_ids)])


def _bring_back(db: sqlite3.Connection, row: ChangedPicture) -> None:
    """Insert a deleted training row again, unless its picture was uploaded meanwhile."""
    if _insert(db, TRAINING_DATA, TrainingPicture(**row.picture or {}), then="on conflict (sha256) do nothing"):
        learned = "insert into Learned_Pictures (version, training_id) values (?, ?)"
        db.executemany(learned, [[version, row.training_id] for version in row.versions])
    db.execute("delete from Deleted_Pictures where sha256 = ?", [row.sha256])


def _set_live(db: sqlite3.Connection, version: str) -> None:
    if not db.execute("select 1 from Model_Versions where version = ?", [version]).fetchone():
        raise NotFound(f"Expected a stored version; received {version!r}.")
    live = db.execute("select version from Model_Versions where state = 'live' and version <> ?", [version]).fetchone()
    db.execute("update Model_Versions set state = 'archived' where state = 'live' and version <> ?", [version])
    db.execute("update Model_Versions set state = 'live' where version = ?", [version])
    if live:
        db.execute(_CHANGE_PROCESSED, {"version": version, "before": live["version"]})
    else:  # whatever the pictures say, they are right then
        db.execute(_RECOMPUTE_PROCESSED)
