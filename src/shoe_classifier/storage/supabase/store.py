"""The store of production: rows in Supabase's Postgres, pictures and models in its Storage.

Predictions and minutes go through an outbox on this machine's disk and never wait for the network. All other calls
write directly, and may be repeated.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson
import uuid_utils

from shoe_classifier.errors import NotFound, RetrainRunning, StoreUnavailable
from shoe_classifier.settings import Settings
from shoe_classifier.storage.file_lock import FileLock
from shoe_classifier.storage.filters import Condition, Days, conditions_of, split_days
from shoe_classifier.storage.supabase.cache import PictureCache
from shoe_classifier.storage.supabase.client import SupabaseClient
from shoe_classifier.storage.supabase.model_bucket import ModelBucket
from shoe_classifier.storage.supabase.outbox import RELEASED, Outbox
from shoe_classifier.storage.supabase.outbox_relay import OutboxRelay
from shoe_classifier.storage.supabase.picture_bucket import PictureBucket
from shoe_classifier.storage.supabase.row_reader import RowReader, decode, is_uuid
from shoe_classifier.storage.tables import (
    AUDIT_LOG,
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
    UNPUBLISHED,
    AuditEntry,
    DecisionCount,
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
    new_id,
    to_iso,
)

_UNKEPT = 100  # ids in one address, which a proxy may cut at 8 KB
_CHUNK = 5000  # rows added in one call; a hosted project ends a statement after 8 seconds
_SIZED = 10_000  # pictures whose sizes are added up in one call
_LOST_SECONDS = 90.0  # without a report, after which a job counts as lost
_LOST = "The machine that ran this retrain has stopped. Its pictures stay for the next one."
_PING_SECONDS = 2.0


class SupabaseStore:
    """See `protocols.Store`.

    Raises:
        ConfigurationError: the address or the key of the settings cannot be one, or a newer release has written the
            outbox.
    """

    kind = "supabase"
    shared = True

    def __init__(self, settings: Settings):
        assert settings.supabase_url and settings.supabase_key
        key = settings.supabase_key.get_secret_value()
        self._client = SupabaseClient(settings.supabase_url, key, settings.supabase_timeout_seconds)
        self._bucket = settings.supabase_bucket
        self._grace = settings.shutdown_seconds / 2
        folder = settings.dataset_dir
        self._outbox = Outbox(folder / "outbox.sqlite3", settings.outbox_max_rows, settings.outbox_max_bytes)
        cache = PictureCache(folder / "cache", settings.store_cache_bytes)
        self._pictures = PictureBucket(self._client, self._bucket, self._outbox, cache, settings.file_url_seconds)
        self._models = ModelBucket(self._client)
        self._rows = RowReader(self._client)
        self._relay = OutboxRelay(self._outbox, self, FileLock(folder / "outbox.lock"))

    def start(self) -> None:
        self._relay.start()

    def close(self) -> None:
        self._relay.stop(self._grace)
        self._pictures.close()
        self._client.close()
        self._outbox.close()

    @cached_property
    def _instance(self) -> str:
        return self._outbox.instance()

    def problems(self) -> list[str]:
        problem = self._outbox.problem()
        if problem:
            return [problem]
        return [text for right, text in self._client.check(self._bucket) if not right]

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

    # ------------------------------------------------------------ predictions and minutes

    def add_prediction(self, row: PredictionRecord, picture: bytes | None) -> None:
        self._outbox.add("Predict", orjson.dumps(row).decode(), row.id, row.image_path, picture)

    def add_minute(self, row: MinuteMetrics) -> None:
        row_id = new_id()
        self._outbox.add("System_Metrics", orjson.dumps({"id": row_id, **asdict(row)}).decode(), row_id)

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

    def prediction(self, prediction_id: str) -> PredictionRecord | None:
        queued = self._outbox.row(prediction_id)
        if queued:
            return decode(PREDICT, queued)
        return self._rows.one(PREDICT, "id", prediction_id)

    def predictions(
        self, limit: int, before: str | None, which: PredictionFilter = EVERY_PREDICTION
    ) -> list[PredictionRecord]:
        def stored() -> list[PredictionRecord]:
            if which.version or (which.label and which.decision):
                return self._rare_predictions(limit, before, which)
            return self._rows.newest(PREDICT, limit, before, conditions_of(which))

        return self._newest(PREDICT, limit, before, conditions_of(which), stored)

    def _rare_predictions(self, limit: int, before: str | None, which: PredictionFilter) -> list[PredictionRecord]:
        """What the indexes of a label and of a decision do not find quickly."""
        filters = {"label": which.label, "decided": which.decision, "version": which.version}
        times = {"since": which.since, "until": which.until}
        rows = self._client.rpc("page_of_predictions", **filters, **times, before=before, max_rows=limit)
        return [decode(PREDICT, row) for row in rows]

    def _newest(
        self,
        table: Table[Row],
        limit: int,
        before: str | None,
        conditions: Sequence[Condition],
        stored: Callable[[], list[Row]],
    ) -> list[Row]:
        """Join what is queued with what `stored` finds in the project."""
        # The outbox first: a row that is sent in between is then found twice instead of not at all.
        queued = self._outbox.newest(table.name, limit, before, conditions)
        rows = {getattr(row, table.key): row for row in stored()}
        for row in queued:
            rows.setdefault(row[table.key], decode(table, row))
        return [rows[key] for key in sorted(rows, reverse=True)[:limit]]

    def count_matching(self, which: PredictionFilter) -> int:
        waiting = self._outbox.count(PREDICT.name, conditions_of(which))
        days, edges = split_days(which)
        return waiting + self._count_days(which, days) + sum(self._rows.count(PREDICT, edge) for edge in edges)

    def _count_days(self, which: PredictionFilter, days: Days) -> int:
        filters = {"label": which.label, "decided": which.decision, "version": which.version}
        return int(self._client.rpc("count_predictions", **filters, **days._asdict()))

    def predictions_with(self, ids: Sequence[str]) -> dict[str, PredictionRecord]:
        queued = [decode(PREDICT, row) for row in map(self._outbox.row, ids) if row]
        stored = self._rows.some(PREDICT, "id", [row_id for row_id in ids if is_uuid(row_id)])
        return {row.id: row for row in [*stored, *queued]}

    def review_prediction(
        self, prediction_id: str, label: str | None, kind: str | None, reviewed_at: str | None
    ) -> None:
        review = {"label": label, "kind": kind, "reviewed": reviewed_at}
        queued = self._outbox.review(prediction_id, label, kind, reviewed_at)
        if not is_uuid(prediction_id) or not self._client.rpc(
            "review_prediction", prediction_id=prediction_id, queued=queued, **review
        ):
            raise NotFound(f"Expected the id of a prediction; received {prediction_id[:80]!r}.")

    def to_review(self, kind: QueuedKind, limit: int) -> list[PredictionRecord]:
        """Those that still wait in an outbox follow when they were sent."""
        query = _waiting(self._client.table("Predict").select("*"), kind).order("id", desc=True).limit(limit)
        return [decode(PREDICT, row) for row in self._client.call(query.execute).data]

    def count_to_review(self, kind: QueuedKind) -> int:
        query = _waiting(self._client.table("Predict").select("id", count="exact"), kind).limit(1)
        return int(self._client.call(query.execute).count or 0)

    def reviewed_at_random(self, since: datetime) -> list[PredictionRecord]:
        return self._rows.all(PREDICT, "review_kind", "random", after=first_id(since), known="reviewed_at")

    def decision_counts(self, since: datetime) -> list[DecisionCount]:
        return [DecisionCount(**row) for row in self._client.rpc("decision_counts", first=f"{since:%Y-%m-%d}")]

    def delete_predictions(self, rows: Sequence[PredictionRecord]) -> None:
        self._queue_release("Deleted", rows)

    def drop_pictures(self, rows: Sequence[PredictionRecord]) -> None:
        self._queue_release("Without picture", rows)

    def _queue_release(self, kind: str, rows: Sequence[PredictionRecord]) -> None:
        """Queue a change of rows and the deletion of their pictures, which so survives a kill between the two.

        The relay makes it after what it is just sending, so that a row on its way does not come back.
        """
        ids, paths = [row.id for row in rows], sorted({row.image_path for row in rows if row.image_path})
        self._outbox.replace_rows(ids, RELEASED, orjson.dumps({"kind": kind, "ids": ids, "paths": paths}).decode())

    def _release(self, kind: str, ids: list[str], paths: list[str]) -> None:
        table = self._client.table("Predict")
        change = table.delete() if kind == "Deleted" else table.update({"image_path": None, "image_bytes": None})
        self._client.call(change.in_("id", ids).execute)
        self._pictures.delete_unused(paths)

    def expendable_predictions(
        self, after: str, before: str, *, with_picture: bool, limit: int
    ) -> list[PredictionRecord]:
        rows = self._client.rpc(
            "expendable_predictions", after=after, before=before, with_picture=with_picture, max_rows=limit
        )
        return [decode(PREDICT, row) for row in rows]

    def count_predictions(self) -> KeptPredictions:
        found = self._client.rpc("kept_predictions")
        oldest = found["oldest"] and to_iso(datetime.fromisoformat(found["oldest"]))
        pictures, size, last = 0, 0, ""
        while last is not None:
            step = self._client.rpc("picture_sizes", after=last, max_rows=_SIZED)
            pictures, size, last = pictures + step["pictures"], size + step["bytes"], step["last"]
        return KeptPredictions(found["rows"], oldest, pictures, size)

    def forget_unused(self) -> None:
        self._pictures.forget_unused()
        self._outbox.scrub()
        self._models.delete_unlisted()

    # ------------------------------------------------------------ audit log

    def add_audit(self, row: AuditEntry) -> None:
        self._outbox.add("Audit_Log", orjson.dumps(row).decode(), row.id)

    def audit_log(self, limit: int, before: str | None) -> list[AuditEntry]:
        return self._newest(AUDIT_LOG, limit, before, (), lambda: self._rows.newest(AUDIT_LOG, limit, before))

    def trim_audit(self, refused: int) -> None:
        query = self._client.table("Audit_Log").select("id").in_("status", [401, 403]).order("id", desc=True)
        newest_of_the_old = self._client.call(query.range(refused, refused).execute).data
        if newest_of_the_old:
            trim = self._client.table("Audit_Log").delete(returning="minimal").in_("status", [401, 403])
            self._client.call(trim.lte("id", newest_of_the_old[0]["id"]).execute)

    def minutes(self, limit: int) -> list[MinuteMetrics]:
        return self._rows.newest(SYSTEM_METRICS, limit)

    # ------------------------------------------------------------ pictures

    def pictures(self, image_paths: Sequence[str]) -> Iterator[bytes]:
        return self._pictures.pictures(image_paths)

    def find_picture(self, sha256: str) -> tuple[str, bytes]:
        return self._pictures.find_picture(sha256)

    def heal(self, pictures: Sequence[tuple[str, Path]]) -> set[str]:
        return self._pictures.heal(pictures)

    def urls(self, image_paths: Sequence[str]) -> dict[str, str]:
        return self._pictures.urls(image_paths)

    # ------------------------------------------------------------ training data

    def add_training(self, rows: Sequence[TrainingPicture], files: Sequence[Path]) -> set[str]:
        pictures = [(row.image_path, file) for row, file in zip(rows, files, strict=True)]
        self._pictures.send_all(pictures)  # before the rows, which must not be there without them
        added: set[str] = set()
        for start in range(0, len(rows), _CHUNK):
            chunk = [asdict(row) for row in rows[start : start + _CHUNK]]
            added.update(self._client.rpc("add_training_data", rows=chunk))
        for image_path, file in pictures:
            self._pictures.keep(image_path, file)
        return added

    def training_data(
        self, limit: int, before: str | None, which: TrainingFilter = EVERY_PICTURE
    ) -> list[TrainingPicture]:
        return self._rows.newest(TRAINING_DATA, limit, before, conditions_of(which))

    def count_training(self, which: TrainingFilter) -> int:
        if which.since or which.until:
            return self._rows.count(TRAINING_DATA, conditions_of(which))
        filters = {"label": which.label, "wanted_split": which.split, "learnt": which.learnt}
        return int(self._client.rpc("count_pictures", **filters))

    def training_rows(self) -> Iterator[TrainingPicture]:
        return self._rows.each(TRAINING_DATA)

    def training_picture(self, row_id: str) -> TrainingPicture | None:
        return self._rows.one(TRAINING_DATA, "id", row_id)

    def training_with(self, sha256: str) -> TrainingPicture | None:
        return self._rows.one(TRAINING_DATA, "sha256", sha256)

    def training_pictures(self, row_ids: Sequence[str]) -> list[TrainingPicture]:
        rows = self._client.rpc("training_pictures", row_ids=[row_id for row_id in row_ids if is_uuid(row_id)])
        return [decode(TRAINING_DATA, row) for row in rows]

    def relabel(self, row_id: str, label: str) -> None:
        self.relabel_all([row_id], label)

    def relabel_all(self, row_ids: Sequence[str], label: str) -> None:
        self._client.rpc("relabel_pictures", row_ids=list(row_ids), label=label)

    def delete_training(self, row: TrainingPicture, *, keep_picture: bool = False) -> None:
        self._delete([row], keep_pictures=keep_picture)

    def delete_all(self, rows: Sequence[TrainingPicture]) -> None:
        self._delete(rows)

    def _delete(self, rows: Sequence[TrainingPicture], *, keep_pictures: bool = False) -> None:
        if not keep_pictures:
            self._pictures.delete([row.image_path for row in rows])
        # The rows go last, so that a caller who repeats a failed call still finds them.
        self._client.rpc("delete_pictures", row_ids=[row.id for row in rows])

    def deleted_pictures(self) -> frozenset[str]:
        return frozenset(self._client.rpc("deleted_pictures"))

    def labels_of(self, hashes: Iterable[str]) -> dict[str, str]:
        labels: dict[str, str] = self._client.rpc("labels_of_hashes", hashes=list(hashes))
        return labels

    def training_labels(self) -> dict[str, int]:
        labels: dict[str, int] = self._client.rpc("training_labels")
        return labels

    def label_counts(self) -> dict[str, LabelCounts]:
        return {label: LabelCounts(**counts) for label, counts in self._client.rpc("label_counts").items()}

    def change_label(self, change: LabelChange) -> int:
        return int(self._client.rpc("change_label", change=asdict(change)))

    def undo_change(self, change_id: str) -> int | None:
        pictures: int | None = self._client.rpc("undo_change", undone=change_id) if is_uuid(change_id) else None
        return pictures

    def settle_changes(self, last: str) -> None:
        self._pictures.delete(self._client.rpc("removed_pictures", last=last))
        # The rows go last, so that a caller who repeats a failed call still finds them.
        self._client.rpc("settle_changes", last=last)

    def label_changes(self) -> list[LabelChange]:
        return [decode(LABEL_CHANGES, row) for row in self._client.rpc("label_changes")]

    def keep_pictures(self, rows: Sequence[KeptPicture]) -> None:
        query = self._client.table("Kept_Pictures").upsert([asdict(row) for row in rows], returning="minimal")
        self._client.call(query.execute)

    def undo_keep(self, items: Sequence[tuple[str, IssueKind]]) -> None:
        for kind in {kind for _, kind in items}:
            ids = [row_id for row_id, of_kind in items if of_kind == kind]
            for start in range(0, len(ids), _UNKEPT):
                part = ids[start : start + _UNKEPT]
                query = self._client.table("Kept_Pictures").delete(returning="minimal").eq("kind", kind)
                self._client.call(query.in_("training_id", part).execute)

    def kept_pictures(self) -> list[KeptPicture]:
        return [decode(KEPT_PICTURES, row) for row in self._client.rpc("kept_pictures")]

    def unprocessed(self) -> list[TrainingPicture]:
        return self._rows.all(TRAINING_DATA, "is_processed", False)

    def count_unprocessed(self, after: str | None = None) -> int:
        if after is None:
            return self.count_training(TrainingFilter(learnt=False))
        newer = [Condition("is_processed", "=", False), Condition("id", ">", after)]
        return self._rows.count(TRAINING_DATA, newer)

    def count_unlearned(self, version: str) -> int:
        return int(self._client.rpc("count_unlearned", version=version))

    # ------------------------------------------------------------ versions

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

    def set_live(self, version: str) -> None:
        self._client.rpc("set_live_version", wanted=version)
        self.live_version()

    # ------------------------------------------------------------ jobs

    def start_job(self, job: RetrainJob) -> bool:
        self.fail_unfinished_jobs(_LOST)
        return bool(self._client.rpc("start_retrain", job=asdict(job), instance=self._instance))

    def report_job(self, job: RetrainJob) -> bool:
        return bool(self._client.rpc("report_retrain", job=asdict(job), instance=self._instance))

    def finish_job(self, job: RetrainJob) -> None:
        if not self._client.rpc("finish_retrain", job=asdict(job), instance=self._instance):
            raise RetrainRunning(f"Expected job {job.job_id} to belong to this machine; it was marked as lost.")

    def request_cancel(self, job_id: str) -> None:
        query = self._client.table("Retrain_Jobs").update({"phase": CANCELLING}).eq("job_id", job_id)
        self._client.call(query.in_("state", ["queued", "running"]).execute)

    def jobs(self, limit: int, before: str | None) -> list[RetrainJob]:
        return self._rows.newest(RETRAIN_JOBS, limit, before)

    def job(self, job_id: str) -> RetrainJob | None:
        return self._rows.one(RETRAIN_JOBS, "job_id", job_id)

    def fail_unfinished_jobs(self, error: str) -> None:
        self._fail_jobs(self._instance, error)

    def fail_lost_jobs(self) -> None:
        self._fail_jobs(new_id(), _LOST)  # an id that no instance has

    def _fail_jobs(self, instance: str, reason: str) -> None:
        self._client.rpc("fail_lost_jobs", instance=instance, silent_seconds=_LOST_SECONDS, reason=reason)


def _waiting(query: Any, kind: QueuedKind) -> Any:
    """Restrict a query to the predictions that wait for a review; the columns are those of the indexes."""
    query = query.is_("reviewed_at", "null").not_.is_("image_path", "null")
    if kind == "random":
        return query.eq("review_kind", kind)
    return query.eq("decision", kind).is_("review_kind", "null")
