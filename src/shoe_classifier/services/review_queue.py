"""Which predictions are worth a look, and why."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal, TypeVar

import numpy as np

from shoe_classifier.ml.diversity import Choice, choose
from shoe_classifier.ml.live_model import LiveModel, LiveModelHolder
from shoe_classifier.services.monitoring import CONSIDERED, Monitor
from shoe_classifier.services.recent_features import RecentFeatures
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import REVIEW_KINDS, PredictionRecord, ReviewKind

Result = TypeVar("Result")

_RANDOM_EVERY = 5  # among those of all kinds


@dataclass(frozen=True)
class ReviewItem:
    """A prediction worth a look.

    Attributes:
        kind: why it was chosen.
        reason: the same for people.
        similar_ids: of other predictions that wait, whose pictures look alike; one answer can cover them.
    """

    prediction: PredictionRecord
    kind: ReviewKind
    reason: str
    similar_ids: list[str] = field(default_factory=list)


class ReviewQueue:
    """Orders the predictions that wait for a review.

    Those that were drawn at random keep their own order, newest first: if the uncertain ones among them came first, the
    accuracy of those that were answered would be too low.
    """

    def __init__(
        self,
        store: Store,
        holder: LiveModelHolder,
        features: RecentFeatures,
        monitor: Monitor,
        disputed: Callable[[], Sequence[str]] = tuple,
    ):
        """`disputed` returns the ids of predictions where a shadow says something else, newest first."""
        self._disputed = disputed
        self._store = store
        self._holder = holder
        self._features = features
        self._monitor = monitor

    def counts(self) -> dict[str, int]:
        """Return how many predictions of each kind wait."""
        return dict(zip(REVIEW_KINDS, _at_once(self._count, REVIEW_KINDS), strict=True))

    def _count(self, kind: ReviewKind) -> int:
        match kind:
            case "drifted" | "shadow":
                return len(self._waiting(kind))
            case _:
                return self._store.count_to_review(kind)

    def items(self, kind: ReviewKind | Literal["all"], limit: int) -> list[ReviewItem]:
        """Return at most `limit` predictions, the most informative ones that differ from each other first."""
        if kind == "random":
            return self._random(limit)
        kinds: Sequence[ReviewKind] = ("shadow", "uncertain", "unknown", "drifted") if kind == "all" else (kind,)
        ordered = self._ordered(kinds)
        return list(islice(_interleaved(ordered, self._random(limit)), limit)) if kind == "all" else ordered[:limit]

    def _random(self, limit: int) -> list[ReviewItem]:
        rows = self._store.to_review("random", limit)
        return [ReviewItem(row, "random", "Drawn at random, to measure accuracy.") for row in rows]

    def _waiting(self, kind: ReviewKind) -> list[PredictionRecord]:
        match kind:
            case "drifted":
                return self._unreviewed(self._monitor.drifted)
            case "shadow":
                return self._unreviewed(self._disputed())
            case _:
                return self._store.to_review(kind, CONSIDERED)

    def _unreviewed(self, ids: Sequence[str]) -> list[PredictionRecord]:
        rows = self._store.predictions_with(ids[:CONSIDERED]).values()
        return sorted((row for row in rows if row.reviewed_at is None), key=lambda row: row.id, reverse=True)

    def _ordered(self, kinds: Sequence[ReviewKind]) -> list[ReviewItem]:
        waiting = zip(kinds, _at_once(self._waiting, kinds), strict=True)
        scored = {row.id: (row, kind, score) for kind, found in reversed([*waiting]) for row, score in _scored(found)}
        rows = [*scored.values()]  # a prediction of several kinds is of the first one
        live = self._holder.live
        ids = [row.id for row, _, _ in rows]
        known = self._features.get(live.backbone_sha256, ids) if isinstance(live, LiveModel) else {}
        files = [row.image_path for row, _, _ in rows]
        choices = choose(np.array([score for *_, score in rows]), [known.get(row_id) for row_id in ids], files)
        return [_item(choice, rows) for choice in choices]


def _at_once(read: Callable[[ReviewKind], Result], kinds: Sequence[ReviewKind]) -> list[Result]:
    """Read something of several kinds in the time of one: a shared store is far away."""
    with ThreadPoolExecutor(len(kinds), "review") as threads:
        return list(threads.map(read, kinds))


Scored = tuple[PredictionRecord, ReviewKind, float]


def _item(choice: Choice, rows: list[Scored]) -> ReviewItem:
    row, kind, _ = rows[choice.shown]
    return ReviewItem(row, kind, _reason(row, kind), [rows[i][0].id for i in choice.alike])


def _scored(rows: list[PredictionRecord]) -> Iterator[tuple[PredictionRecord, float]]:
    """Score the rows of one kind by their rank, 0..1, so that kinds can be compared: a small lead of the most likely
    label over the next says most."""
    ranks = lead_ranks(np.array([_lead(row) for row in rows]))
    return zip(rows, ranks.tolist(), strict=True)


def lead_ranks(leads: np.ndarray) -> np.ndarray:
    """Ranks, above 0 to 1 `(n,)`, of leads `(n,)`: the smallest lead has 1."""
    ranks = np.empty(len(leads))
    ranks[np.argsort(leads, kind="stable")] = 1 - np.arange(len(leads)) / max(1, len(leads))
    return ranks


def _lead(row: PredictionRecord) -> float:
    first, second, *_ = [*sorted(row.probabilities.values(), reverse=True), 0.0, 0.0]
    return first - second


def _reason(row: PredictionRecord, kind: ReviewKind) -> str:
    if kind == "unknown":
        return f"Looks like none of the labels, most like {row.predicted_class}."
    if kind == "shadow":
        return "Another version, which answers silently, says something else."
    if kind == "drifted":
        return "Unlike the pictures that were taught."
    likely = sorted(row.probabilities.items(), key=lambda item: -item[1])[:2]
    return " or ".join(f"{label} ({100 * probability:.0f} %)" for label, probability in likely) + "?"


def _interleaved(ordered: list[ReviewItem], drawn: list[ReviewItem]) -> Iterator[ReviewItem]:
    """All items; one in `_RANDOM_EVERY` was drawn at random, while there are both."""
    informative, random = iter(ordered), iter(drawn)
    while True:
        group = [*islice(informative, _RANDOM_EVERY - 1), *islice(random, 1)]
        if not group:
            return
        yield from group
