"""The rows of `Predict`: stored in the project, or still queued in this machine's outbox."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson

from shoe_classifier.errors import NotFound
from shoe_classifier.storage.filters import Days, conditions_of, split_days
from shoe_classifier.storage.supabase.outbox import RELEASED
from shoe_classifier.storage.supabase.records import Records
from shoe_classifier.storage.supabase.row_reader import decode, is_uuid
from shoe_classifier.storage.tables import PREDICT
from shoe_classifier.types import (
    EVERY_PREDICTION,
    DecisionCount,
    KeptPredictions,
    PredictionFilter,
    PredictionRecord,
    QueuedKind,
    first_id,
    to_iso,
)

_SIZED = 10_000  # pictures whose sizes are added up in one call


class Predictions(Records):
    """See `protocols.PredictionStore`."""

    def add_prediction(self, row: PredictionRecord, picture: bytes | None) -> None:
        self._outbox.add("Predict", orjson.dumps(row).decode(), row.id, row.image_path, picture)

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


def _waiting(query: Any, kind: QueuedKind) -> Any:
    """Restrict a query to the predictions that wait for a review; the columns are those of the indexes."""
    query = query.is_("reviewed_at", "null").not_.is_("image_path", "null")
    if kind == "random":
        return query.eq("review_kind", kind)
    return query.eq("decision", kind).is_("review_kind", "null")
