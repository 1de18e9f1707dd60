"""The rows of `Predict`."""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import orjson

from shoe_classifier.errors import NotFound
from shoe_classifier.storage.filters import Condition, conditions_of, split_days
from shoe_classifier.storage.sqlite.records import IN_LIST, Records, used_for_training
from shoe_classifier.storage.tables import PREDICT
from shoe_classifier.types import (
    EVERY_PREDICTION,
    DecisionCount,
    KeptPredictions,
    PredictionFilter,
    PredictionRecord,
    QueuedKind,
    first_id,
)

_ADD_PREDICTION = (
    f"insert into Predict ({', '.join(PREDICT.columns)}) values ({', '.join(f':{name}' for name in PREDICT.columns)})"
)
_COUNT_DECISIONS = """
select day, model_version, decision, sum(rows) count from Prediction_Counts where day >= ? and rows > 0 group by 1, 2, 3
"""
_EXPENDABLE = f"where id > ? and id < ? and reviewed_at is null and not {used_for_training('Predict.image_path')}"
_PICTURE_SIZES = f"""
select image_path, max(image_bytes) bytes,
        count(reviewed_at) = 0 and not {used_for_training("Predict.image_path")} free
    from Predict where image_path > ? group by image_path order by image_path limit ?
"""
_COUNTED, _REST_SECONDS = 1000, 0.002  # rows counted in one step, while predictions wait, and the pause after it


class Predictions(Records):
    """See `protocols.PredictionStore`."""

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
        rows = self._select(PREDICT, f"where id {IN_LIST}", json.dumps(list(ids)))
        return {row.id: row for row in rows}

    def review_prediction(
        self, prediction_id: str, label: str | None, kind: str | None, reviewed_at: str | None
    ) -> None:
        change = "update Predict set reviewed_label = ?, review_kind = ?, reviewed_at = ? where id = ?"
        with self._db.transaction(durable=True) as db:
            if not db.execute(change, [label, kind, reviewed_at, prediction_id]).rowcount:
                raise NotFound(f"Expected the id of a prediction; received {prediction_id[:80]!r}.")

    def to_review(self, kind: QueuedKind, limit: int) -> list[PredictionRecord]:
        return self._select(PREDICT, f"{_waiting(kind)} order by id desc limit ?", kind, limit)

    def count_to_review(self, kind: QueuedKind) -> int:
        return int(self._db.select(f"select count(*) n from Predict {_waiting(kind)}", kind)[0]["n"])

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
        """Change rows, and delete the pictures that no row uses afterwards."""
        with self._db.transaction() as db:
            db.execute(f"{change} where id {IN_LIST}", [json.dumps([row.id for row in rows])])
            self._delete_unused(db, {row.image_path for row in rows if row.image_path})

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


def _waiting(kind: QueuedKind) -> str:
    """A clause for the predictions that wait for a review; the columns are those of the indexes."""
    chosen = "review_kind = ?" if kind == "random" else "decision = ? and review_kind is null"
    return f"where {chosen} and reviewed_at is null and image_path is not null"
