"""Is it still good? Accuracy on what people reviewed at random, drift of the pictures, and how often it is unsure."""

import contextlib
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from shoe_classifier.errors import NotFound, NotOffered
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml.drift import LEAST, MOST, RAISED, Drift, Reference
from shoe_classifier.ml.live_model import LiveModel, LiveModelHolder
from shoe_classifier.services.picture_features import FeatureExtractor, lower_priority
from shoe_classifier.services.prediction_figures import figures_by, figures_of
from shoe_classifier.services.recent_features import Features, RecentFeatures
from shoe_classifier.settings import Settings
from shoe_classifier.storage.model_files import ModelFiles
from shoe_classifier.storage.outcome_file import OutcomeFile
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import Decision, PredictionRecord, Publish, publish_nothing, utc_now

_LOOKED_AT = 2 * MOST  # newest predictions; some show the same picture
_COMPUTED = 100  # features of earlier predictions that one look computes
CONSIDERED = 300  # predictions of each kind that wait for a review, the newest: a person should see those of today
_WEEK = 7  # days
_DRIFTED = 1000  # ids that are remembered


@dataclass(frozen=True)
class DriftReport:
    """What the last look at the newest predictions found.

    Attributes:
        drift: None when there is not enough to compare.
        detail: the same for people.
        measured_at: as `types.utc_now` gives it; None before the first look.
    """

    drift: Drift | None
    detail: str
    measured_at: str | None

    @property
    def raised(self) -> bool:
        """Whether there is an alarm."""
        return self.drift is not None and self.drift.raised

    def as_json(self) -> dict[str, object]:
        """Return the `drift` of `GET /monitoring`."""
        drift = self.drift
        return {
            "score": round(drift.score, 4) if drift else None,
            "expected": [round(bound, 4) for bound in drift.expected] if drift else None,
            "raised": self.raised,
            "raised_from": RAISED,
            "pictures": drift.pictures if drift else 0,
            "detail": self.detail,
            "measured_at": self.measured_at,
        }


@dataclass(frozen=True)
class Look:
    """A look at the newest predictions.

    Attributes:
        version: the live one.
        newest: the id of the newest prediction; None if not all could be considered yet.
        drift: how they differ from what was held out.
        drifted: ids of accepted predictions whose pictures are unlike what was taught, oldest first.
        decisions: how many there were of each.
    """

    version: str = ""
    newest: str | None = None
    drift: DriftReport = DriftReport(None, "No predictions were compared yet.", None)
    drifted: list[str] = field(default_factory=list)
    decisions: dict[Decision, int] = field(default_factory=dict)


class Monitor:
    """Watches the newest predictions. What it finds is the same for all workers of this machine.

    Attributes:
        thread: where the service runs `look`, at low priority.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        holder: LiveModelHolder,
        files: ModelFiles,
        extractor: FeatureExtractor,
        recent: RecentFeatures,
        publish: Publish = publish_nothing,
    ):
        self._publish = publish
        self._store = store
        self._holder = holder
        self._files = files
        self._extractor = extractor
        self._recent = recent
        self._lock = threading.Lock()
        self.thread = ThreadPoolExecutor(1, "monitor", initializer=lower_priority)
        self._reference: tuple[str, Reference] | None = None
        self._seen: tuple[str, str] | None = None
        self._found = OutcomeFile(settings.dataset_dir / "monitoring.json", Look())

    def stop(self) -> None:
        """Wait for a look that has begun."""
        self.thread.shutdown(cancel_futures=True)

    @property
    def drift(self) -> DriftReport:
        """What the last look found."""
        return self._found.read().drift

    @property
    def drifted(self) -> list[str]:
        """Ids of accepted predictions whose pictures are unlike what was taught, newest first."""
        return self._found.read().drifted[::-1]

    # ------------------------------------------------------------ drift

    def look(self) -> None:
        """Compare the newest predictions with what was held out, unless there are none since the last look.

        Also computes the features of pictures that wait for a review, where they are not known.
        """
        with self._lock, _one_core():
            newest = self._store.predictions(1, None)
            seen = (self._holder.live.bundle.version, newest[0].id if newest else "")
            if seen != self._seen:
                self._seen = seen
                self._look(*seen, self._store.predictions(_LOOKED_AT, None))

    def _look(self, version: str, newest: str, rows: list[PredictionRecord]) -> None:
        look = Look(version, newest, decisions=Counter(row.decision for row in rows))
        try:
            live = self._holder.teachable
        except NotOffered as error:
            self._found.write(replace(look, drift=DriftReport(None, error.detail, None)))
            return
        waiting = [row for kind in ("uncertain", "unknown") for row in self._store.to_review(kind, CONSIDERED)]
        features = self._features_of(live, {row.id: row for row in [*rows, *waiting]})
        if self._seen is None:
            look = replace(look, newest=None)
        with self._found.turn():
            before = self._found.read()
            if (before.version, before.newest) != (version, newest):  # no other worker was faster
                self._found.write(self._measured(look, before, live, _distinct(rows, features), features))
                self._tell(before)

    def _measured(
        self, look: Look, before: Look, live: LiveModel, newest: list[PredictionRecord], features: Features
    ) -> Look:
        """The look with what the comparison finds."""
        look = replace(look, drifted=before.drifted if before.version == look.version else [])
        if len(newest) < LEAST:
            detail = f"Drift needs {LEAST} recent predictions of different pictures; there are {len(newest)}."
            return replace(look, drift=DriftReport(None, detail, utc_now()))
        reference = self._reference_of(live)
        if not reference.usable:
            detail = f"Drift needs {LEAST} held-out pictures; there are fewer."
            return replace(look, drift=DriftReport(None, detail, utc_now()))
        seen = np.stack([features[row.id] for row in newest])
        far = [row for row, is_far in zip(newest, reference.far(seen), strict=True) if is_far]
        drift = reference.measure(seen)
        report = DriftReport(drift, _describe(drift), utc_now())
        return replace(look, drift=report, drifted=_with_drifted(look.drifted, far))

    def _tell(self, before: Look) -> None:
        if self.drift.raised and not before.drift.raised:
            self._publish("drift.raised", self.drift.as_json())

    def _features_of(self, live: LiveModel, rows: dict[str, PredictionRecord]) -> Features:
        known = self._recent.get(live.backbone_sha256, rows)
        missing = [row for row in rows.values() if row.id not in known and row.image_path]
        if len(missing) > _COMPUTED:
            self._seen = None  # the next look goes on
        known |= self._extractor.compute_for_now(live, self._files_of(missing[:_COMPUTED]))
        self._recent.choose(live.backbone_sha256, known)
        return known

    def _files_of(self, rows: Iterable[PredictionRecord]) -> Iterator[tuple[str, bytes]]:
        for row in rows:
            with contextlib.suppress(NotFound):  # deleted meanwhile
                yield row.id, next(self._store.pictures([str(row.image_path)]))

    def _reference_of(self, live: LiveModel) -> Reference:
        version = live.bundle.version
        if self._reference is None or self._reference[0] != version:
            self._reference = version, Reference(bundles.read_replay_buffer(self._files.live))
        return self._reference[1]

    # ------------------------------------------------------------ reports

    def newest(self) -> dict[str, float | None]:
        """Return the figures for Prometheus: of the last look, and the accuracy of a week."""
        week = self._store.reviewed_at_random(_start_of(_WEEK))
        look, figures = self._found.read(), figures_of([], week)
        drift, total = look.drift.drift, sum(look.decisions.values())
        low, high = figures["accuracy_interval"]
        return {
            "accuracy": figures["accuracy"],
            "accuracy_low": low,
            "accuracy_high": high,
            "reviewed": figures["reviewed"],
            "drift_score": drift.score if drift else None,
            "drift_raised": look.drift.raised,
            "unknown_rate": look.decisions.get("unknown", 0) / total if total else None,
            "uncertain_rate": look.decisions.get("uncertain", 0) / total if total else None,
        }

    def report(self, days: int) -> dict[str, Any]:
        """Return the answer of `GET /monitoring` for the last days, today included."""
        since = _start_of(days)
        counts, reviewed = self._store.decision_counts(since), self._store.reviewed_at_random(since)
        by_day = figures_by(counts, reviewed, lambda group: group.day, lambda row: row.created_at[:10])
        by_version = figures_by(counts, reviewed, lambda group: group.model_version, lambda row: row.model_version)
        return {
            "days": days,
            **figures_of(counts, reviewed),
            "drift": self.drift.as_json(),
            "by_day": [{"day": day, **figures} for day, figures in sorted(by_day.items(), reverse=True)],
            "by_version": [{"version": name, **figures} for name, figures in sorted(by_version.items(), reverse=True)],
        }


def _start_of(days: int) -> datetime:
    """The time at which the last so many days, today included, began in UTC."""
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days - 1)


def _distinct(rows: list[PredictionRecord], features: Features) -> list[PredictionRecord]:
    """The newest rows whose features are known, one for each picture."""
    found = {row.image_path or row.id: row for row in reversed(rows) if row.id in features}
    return [*found.values()][::-1][:MOST]


def _with_drifted(known: list[str], rows: list[PredictionRecord]) -> list[str]:
    """Add the ids of those that nobody is asked about for another reason, newest first; the newest ids are kept."""
    asked = [row for row in reversed(rows) if row.decision == "accepted" and row.review_kind is None]
    found = [row.id for row in asked if row.image_path]
    return [*dict.fromkeys([*known, *found])][-_DRIFTED:]


def _describe(drift: Drift) -> str:
    if drift.raised:
        return "Recent pictures differ from those that were held out: look at some, and teach what is new."
    return "Recent pictures are like those that were held out, as far as an alarm is concerned."


@contextlib.contextmanager
def _one_core() -> Iterator[None]:
    """Leave the other cores to predictions."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield
