"""The store of production: rows in Supabase's Postgres, pictures and models in its Storage.

Predictions and minutes go through an outbox on this machine's disk and never wait for the network. All else is written
there and then, in calls that may be repeated.
"""

import hashlib
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, fields
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path, PurePath
from typing import Any, TypeVar

import orjson
import uuid_utils

from shoe_classifier.errors import InvalidModel, NotFound, RetrainRunning, StoreUnavailable
from shoe_classifier.settings import Settings
from shoe_classifier.storage.file_lock import FileLock
from shoe_classifier.storage.supabase.cache import PictureCache
from shoe_classifier.storage.supabase.client import MODELS_BUCKET, SupabaseClient
from shoe_classifier.storage.supabase.outbox import Outbox
from shoe_classifier.storage.supabase.outbox_relay import OutboxRelay
from shoe_classifier.types import (
    CANCELLING,
    TYPE_OF_EXTENSION,
    MinuteMetrics,
    ModelVersion,
    PredictionRecord,
    RetrainJob,
    TrainingPicture,
    new_id,
)

_PAGE = 1000  # rows; Supabase cuts an answer there, without a word
_TRANSFER_THREADS = 8  # pictures on their way at once
_AHEAD = 32  # pictures fetched before they are asked for
_LOST_SECONDS = 90.0  # a job that has not been heard of for so long is nobody's any more
_GONE = "The machine that ran this retrain is gone. Its pictures stay for the next one."
_PING_SECONDS = 2.0
_IDS = ("id", "job_id")
_UUID = re.compile("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_FOREVER = "31536000"  # seconds that a picture may be cached: what lies under a hash never changes

Row = TypeVar("Row", PredictionRecord, TrainingPicture, ModelVersion, RetrainJob, MinuteMetrics)


class SupabaseStore:
    """See `base.Store`."""

    kind = "supabase"
    shared = True

    def __init__(self, settings: Settings):
        assert settings.supabase_url and settings.supabase_key
        key = settings.supabase_key.get_secret_value()
        self._client = SupabaseClient(settings.supabase_url, key, settings.supabase_timeout_seconds)
        self._bucket = settings.supabase_bucket
        self._url_seconds = settings.file_url_seconds
        self._grace = settings.shutdown_seconds / 2
        self._cache = PictureCache(settings.dataset_dir / "cache", settings.store_cache_bytes)
        self._outbox = Outbox(
            settings.dataset_dir / "outbox.sqlite3", settings.outbox_max_rows, settings.outbox_max_bytes
        )
        self._instance = self._outbox.instance()
        self._executor = ThreadPoolExecutor(_TRANSFER_THREADS, "supabase")
        self._relay = OutboxRelay(self._outbox, self, FileLock(settings.dataset_dir / "outbox.lock"))

    def start(self) -> None:
        self._relay.start()

    def close(self) -> None:
        self._relay.stop(self._grace)
        self._executor.shutdown()
        self._client.close()
        self._outbox.close()

    def problems(self) -> list[str]:
        return [text for right, text in self._client.check(self._bucket) if not right]

    def state(self) -> dict[str, Any]:
        depth = self._outbox.depth()
        oldest = depth.pop("oldest")
        age = round(datetime.now(UTC).timestamp() - uuid_utils.UUID(oldest).timestamp / 1e3, 1) if oldest else 0.0
        outbox = {**depth, "oldest_seconds": age, "waits_because": self._relay.error}
        try:
            return {"latency_ms": self._client.ping(_PING_SECONDS), "error": None, "outbox": outbox}
        except StoreUnavailable as error:
            return {"latency_ms": None, "error": error.detail, "outbox": outbox}

    # ------------------------------------------------------------ what goes through the outbox

    def add_prediction(self, row: PredictionRecord, picture: bytes | None) -> None:
        self._outbox.add("Predict", orjson.dumps(row).decode(), row.id, row.image_path, picture)

    def add_minute(self, row: MinuteMetrics) -> None:
        row_id = new_id()
        self._outbox.add("System_Metrics", orjson.dumps({"id": row_id, **asdict(row)}).decode(), row_id)

    def send_picture(self, image_path: str, data: bytes | Path) -> None:
        """Put a picture into the bucket. Raises `StoreUnavailable` and `StoreRefused`."""
        options = {
            "content-type": TYPE_OF_EXTENSION[PurePath(image_path).suffix],
            "upsert": "true",
            "cache-control": _FOREVER,
        }
        self._client.call(lambda: self._client.bucket(self._bucket).upload(image_path, data, options))

    def send_rows(self, table: str, rows: Sequence[dict[str, Any]]) -> None:
        """Put rows into a table, once each, whatever comes of the answer. Raises `StoreUnavailable`."""
        query = self._client.table(table).upsert(
            list(rows), on_conflict="id", ignore_duplicates=True, returning="minimal"
        )
        self._client.call(query.execute)

    def prediction(self, prediction_id: str) -> PredictionRecord | None:
        waiting = self._outbox.row(prediction_id)
        if waiting:
            return _decode(PredictionRecord, waiting)
        return self._one(PredictionRecord, "Predict", "id", prediction_id)

    def predictions(self, limit: int, before: str | None) -> list[PredictionRecord]:
        # In this order: what is sent meanwhile is found twice, and not never.
        waiting = [_decode(PredictionRecord, row) for row in self._outbox.newest("Predict", limit, before)]
        stored = self._page(PredictionRecord, "Predict", "id", limit, before)
        rows = {row.id: row for row in [*waiting, *stored]}
        return sorted(rows.values(), key=lambda row: row.id, reverse=True)[:limit]

    # ------------------------------------------------------------ pictures

    def find_picture(self, sha256: str) -> tuple[str, bytes]:
        path = self._outbox.find_picture(sha256) or self._cache.find(sha256) or self._find_stored(sha256)
        return path, self._picture(path)

    def _find_stored(self, sha256: str) -> str:
        folder = f"images/{sha256[:2]}"
        found = self._client.call(
            lambda: self._client.bucket(self._bucket).list(folder, {"search": sha256, "limit": 1})
        )
        if not found:
            raise NotFound(f"Expected the SHA-256 of a stored picture; received {sha256[:80]!r}.")
        return f"{folder}/{found[0]['name']}"

    def _picture(self, image_path: str) -> bytes:
        data = self._outbox.unsent(image_path) or self._cache.get(image_path)
        if data is None:
            data = self._client.call(lambda: self._client.bucket(self._bucket).download(image_path))
            self._cache.keep(image_path, data)
        return data

    def pictures(self, image_paths: Sequence[str]) -> Iterator[bytes]:
        paths = iter(image_paths)
        coming: deque[Future[bytes]] = deque(
            self._executor.submit(self._picture, path) for path in islice(paths, _AHEAD)
        )
        while coming:
            yield coming.popleft().result()
            coming.extend(self._executor.submit(self._picture, path) for path in islice(paths, 1))

    def urls(self, image_paths: Sequence[str]) -> dict[str, str]:
        wanted = sorted(set(image_paths))
        if not wanted:
            return {}
        bucket = self._client.bucket(self._bucket)
        signed = self._client.call(lambda: bucket.create_signed_urls(wanted, self._url_seconds))
        # What still waits in the outbox has no address there yet; this service has it.
        return {item["path"]: item["signedURL"] or f"/files/{PurePath(item['path']).stem}" for item in signed}

    # ------------------------------------------------------------ training data

    def add_training(self, rows: Sequence[TrainingPicture], files: Sequence[Path]) -> set[str]:
        sending = [
            self._executor.submit(self.send_picture, row.image_path, file)
            for row, file in zip(rows, files, strict=True)
        ]
        for sent in sending:
            sent.result()
        kept = set(self._client.rpc("add_training_data", rows=[asdict(row) for row in rows]))
        for row, file in zip(rows, files, strict=True):
            self._cache.keep(row.image_path, file)
        return kept

    def training_data(self, limit: int, before: str | None) -> list[TrainingPicture]:
        return self._page(TrainingPicture, "Training_Data", "id", limit, before)

    def training_picture(self, row_id: str) -> TrainingPicture | None:
        return self._one(TrainingPicture, "Training_Data", "id", row_id)

    def training_with(self, sha256: str) -> TrainingPicture | None:
        return self._one(TrainingPicture, "Training_Data", "sha256", sha256)

    def relabel(self, row_id: str, label: str) -> None:
        change = {"shoe_class": label, "is_processed": False}
        self._client.call(self._client.table("Training_Data").update(change).eq("id", row_id).execute)

    def delete_training(self, row: TrainingPicture) -> None:
        self._outbox.forget(row.image_path)
        self._client.call(lambda: self._client.bucket(self._bucket).remove([row.image_path]))
        self._cache.forget(row.image_path)
        # Last, so that who repeats a call that failed finds it still.
        self._client.call(self._client.table("Training_Data").delete().eq("id", row.id).execute)

    def labels_of(self, hashes: Iterable[str]) -> dict[str, str]:
        labels: dict[str, str] = self._client.rpc("labels_of_hashes", hashes=list(hashes))
        return labels

    def training_labels(self) -> dict[str, int]:
        labels: dict[str, int] = self._client.rpc("training_labels")
        return labels

    def unprocessed(self) -> list[TrainingPicture]:
        return self._all_training(processed=False)

    def processed(self) -> list[TrainingPicture]:
        return self._all_training(processed=True)

    def _all_training(self, *, processed: bool) -> list[TrainingPicture]:
        rows: list[dict[str, Any]] = []
        while True:
            query = self._client.table("Training_Data").select("*").eq("is_processed", processed)
            query = (query.gt("id", rows[-1]["id"]) if rows else query).order("id").limit(_PAGE)
            page = self._client.call(query.execute).data
            if not page:
                return [_decode(TrainingPicture, row) for row in rows]
            rows += page

    def count_unprocessed(self) -> int:
        query = self._client.table("Training_Data").select("id", count="exact").eq("is_processed", False).limit(1)
        return int(self._client.call(query.execute).count or 0)

    # ------------------------------------------------------------ versions

    def save_version(self, row: ModelVersion, file: Path | None = None) -> None:
        if file:
            models = self._client.bucket(MODELS_BUCKET)
            options = {"content-type": "application/x-hdf5", "upsert": "true"}
            self._client.call(lambda: models.upload(row.file_path, file, options))
        query = self._client.table("Model_Versions").upsert(asdict(row), returning="minimal")
        self._client.call(query.execute)

    def fetch_model(self, row: ModelVersion, target: Path) -> None:
        models = self._client.bucket(MODELS_BUCKET)
        data = self._client.call(lambda: models.download(row.file_path))
        if hashlib.sha256(data).hexdigest() != row.sha256:
            raise InvalidModel(
                f"Expected the file of version {row.version!r} as it was published; the bucket holds another."
            )
        target.write_bytes(data)

    def drop_model(self, row: ModelVersion) -> bool:
        change = self._client.table("Model_Versions").update({"state": "deleted"})
        changed = self._client.call(change.eq("version", row.version).eq("state", "archived").execute).data
        if changed:
            self._client.call(lambda: self._client.bucket(MODELS_BUCKET).remove([row.file_path]))
        return bool(changed)

    def versions(self) -> list[ModelVersion]:
        query = self._client.table("Model_Versions").select("*").order("created_at", desc=True)
        rows = self._client.call(query.order("version", desc=True).limit(_PAGE).execute).data
        return [_decode(ModelVersion, row) for row in rows]

    def version(self, version: str) -> ModelVersion | None:
        return self._one(ModelVersion, "Model_Versions", "version", version)

    def version_with(self, sha256: str) -> ModelVersion | None:
        return self._one(ModelVersion, "Model_Versions", "sha256", sha256)

    def live_version(self) -> ModelVersion | None:
        row = self._one(ModelVersion, "Model_Versions", "state", "live")
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
        self.fail_unfinished_jobs(_GONE)
        return bool(self._client.rpc("start_retrain", job=asdict(job), instance=self._instance))

    def report_job(self, job: RetrainJob) -> bool:
        return bool(self._client.rpc("report_retrain", job=asdict(job), instance=self._instance))

    def finish_job(self, job: RetrainJob, learnt: Mapping[str, str]) -> None:
        done = self._client.rpc("finish_retrain", job=asdict(job), instance=self._instance, learnt=dict(learnt))
        if not done:
            raise RetrainRunning(f"Expected job {job.job_id} to be this machine's; another has taken it for lost.")

    def request_cancel(self, job_id: str) -> None:
        query = self._client.table("Retrain_Jobs").update({"phase": CANCELLING}).eq("job_id", job_id)
        self._client.call(query.in_("state", ["queued", "running"]).execute)

    def jobs(self, limit: int, before: str | None) -> list[RetrainJob]:
        return self._page(RetrainJob, "Retrain_Jobs", "job_id", limit, before)

    def job(self, job_id: str) -> RetrainJob | None:
        return self._one(RetrainJob, "Retrain_Jobs", "job_id", job_id)

    def fail_unfinished_jobs(self, error: str) -> None:
        self._fail_jobs(self._instance, error)

    def fail_lost_jobs(self) -> None:
        self._fail_jobs(new_id(), _GONE)

    def _fail_jobs(self, instance: str, reason: str) -> None:
        self._client.rpc("fail_lost_jobs", instance=instance, silent_seconds=_LOST_SECONDS, reason=reason)

    def minutes(self, limit: int) -> list[MinuteMetrics]:
        query = self._client.table("System_Metrics").select("*").order("timestamp", desc=True).limit(limit)
        return [_decode(MinuteMetrics, row) for row in self._client.call(query.execute).data]

    # ------------------------------------------------------------ inside

    def _one(self, kind: type[Row], table: str, column: str, value: str) -> Row | None:
        if column in _IDS and not _UUID.fullmatch(value):  # Postgres would take offence
            return None
        query = self._client.table(table).select("*").eq(column, value).limit(1)
        rows = self._client.call(query.execute).data
        return _decode(kind, rows[0]) if rows else None

    def _page(self, kind: type[Row], table: str, key: str, limit: int, before: str | None) -> list[Row]:
        rows: list[dict[str, Any]] = []
        while len(rows) < limit:
            last = rows[-1][key] if rows else before
            query = self._client.table(table).select("*")
            query = (query.lt(key, last) if last else query).order(key, desc=True).limit(limit - len(rows))
            page = self._client.call(query.execute).data
            if not page:
                break
            rows += page
        return [_decode(kind, row) for row in rows]


def _decode(kind: type[Row], row: dict[str, Any]) -> Row:
    return kind(**{item.name: _plain_time(item.name, row[item.name]) for item in fields(kind)})


def _plain_time(name: str, value: Any) -> Any:
    """Postgres words times in another way than the rest of the service."""
    if value is None or not (name.endswith("_at") or name == "timestamp"):
        return value
    return datetime.fromisoformat(value).astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
