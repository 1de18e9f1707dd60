"""Checks of the training data, in the background: suspect pictures, and the learning curves of labels."""

import contextlib
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shoe_classifier.errors import AppError, NotFound
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml.cross_validation import examine
from shoe_classifier.ml.data_quality import Finding, find_all
from shoe_classifier.ml.label_changes import take_over
from shoe_classifier.ml.learning_curve import LearningCurve, learning_curves
from shoe_classifier.ml.live_model import LiveModel, LiveModelHolder
from shoe_classifier.ml.replay_buffer import keys_of
from shoe_classifier.services.labels import pending_changes
from shoe_classifier.services.lesson import stored_pictures
from shoe_classifier.services.picture_features import FeatureExtractor
from shoe_classifier.services.training_process import LOWEST_PRIORITY
from shoe_classifier.settings import Settings
from shoe_classifier.storage.outcome_file import OutcomeFile
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import (
    Appearance,
    IssueKind,
    KeptPicture,
    TrainingEvent,
    TrainingFilter,
    TrainingPicture,
    utc_now,
)

logger = logging.getLogger(__name__)

_MOST_PICTURES = 20_000  # the newest ones
_LOOKED_UP_AT_ONCE = 1000  # suspect pictures


@dataclass(frozen=True)
class DataCheck:
    """The outcome of a check.

    Attributes:
        state: of the training data that was checked, see `_state_of`.
        checked_at: when it ended; None before the first check.
        rows: the pictures that were checked, by their index in the findings.
        findings: the worst first.
        labels: the names of the labels, by their index in the findings.
        curves: the learning curves, by label.
    """

    state: str = ""
    checked_at: str | None = None
    rows: list[TrainingPicture] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    curves: dict[str, LearningCurve] = field(default_factory=dict)


class DataQualityService:
    """Checks the training data after each upload, and when someone asks and it has changed.

    The outcome is the same for all workers of this machine, whichever has checked.
    """

    def __init__(self, settings: Settings, store: Store, holder: LiveModelHolder, features: FeatureExtractor):
        self._settings = settings
        self._store = store
        self._holder = holder
        self._features = features
        self._found = OutcomeFile(settings.dataset_dir / "data_check.json", DataCheck())
        self._wanted, self._stopping = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def stop(self) -> None:
        """Give up a running check and wait for its end."""
        self._stopping.set()
        self._wanted.set()
        if self._thread:
            self._thread.join(timeout=self._settings.shutdown_seconds)

    def check_soon(self) -> None:
        """Check the training data in the background; a check that is running is followed by another one."""
        self._wanted.set()
        with self._lock:
            if self._thread is None and not self._stopping.is_set():
                self._thread = threading.Thread(target=self._run, name="data quality", daemon=True)
                self._thread.start()

    def curves(self) -> dict[str, LearningCurve]:
        """Return the learning curves by label, as of the latest check."""
        self._is_up_to_date()
        return self._found.read().curves

    def issues(self, kind: IssueKind | None, which: TrainingFilter, limit: int) -> dict[str, Any]:
        """List suspect pictures as they were found, without those that were corrected or kept since.

        Returns:
            The answer of `GET /training-data/issues`.

        Raises:
            NotReady, NotOffered: there is no live model that can be taught.
        """
        self._holder.teachable  # noqa: B018 - raises if there is none
        up_to_date, check = self._is_up_to_date(), self._found.read()
        kept = {(row.training_id, row.kind, row.shoe_class) for row in self._store.kept_pictures()}
        wanted = [one for one in check.findings if kind in (None, one.kind) and _key(check, one) not in kept]
        present = self._present(check, wanted, which)
        open_ones = [one for one in wanted if check.rows[one.picture].id in present]
        return {
            "up_to_date": up_to_date,
            "checked_at": check.checked_at,
            "pictures": len(check.rows),
            "counts": dict(Counter(one.kind for one in open_ones)),
            "issues": self._described(check, open_ones[:limit]),
        }

    def keep(self, items: Sequence[tuple[str, IssueKind]]) -> int:
        """Remember that pictures are right in these ways, as long as they keep their labels. Raises `NotFound`."""
        rows, now = self._known(items), utc_now()
        self._store.keep_pictures([KeptPicture(row_id, kind, rows[row_id].shoe_class, now) for row_id, kind in items])
        return len(items)

    def undo_keep(self, items: Sequence[tuple[str, IssueKind]]) -> int:
        """Take `keep` back. Raises `NotFound`."""
        self._known(items)
        self._store.undo_keep(items)
        return len(items)

    def _known(self, items: Sequence[tuple[str, IssueKind]]) -> dict[str, TrainingPicture]:
        rows = {row.id: row for row in self._store.training_pictures([row_id for row_id, _ in items])}
        unknown = sorted({row_id for row_id, _ in items} - rows.keys())
        if unknown:
            raise NotFound(
                f"Expected ids of training pictures; received {unknown[0][:80]!r}. Nothing was changed.",
                extra={"unknown": unknown},
            )
        return rows

    def _present(self, check: DataCheck, findings: Sequence[Finding], which: TrainingFilter) -> set[str]:
        """The ids of those pictures that are still there with the same label, and pass a filter."""
        checked = {check.rows[one.picture].id: check.rows[one.picture] for one in findings}
        ids, present = list(checked), set()
        for start in range(0, len(ids), _LOOKED_UP_AT_ONCE):
            for row in self._store.training_pictures(ids[start : start + _LOOKED_UP_AT_ONCE]):
                if row.shoe_class == checked[row.id].shoe_class and _passes(row, which):
                    present.add(row.id)
        return present

    def _described(self, check: DataCheck, findings: Sequence[Finding]) -> list[dict[str, Any]]:
        shown = {index for one in findings for index in (one.picture, *one.similar)}
        urls = self._store.urls([check.rows[index].image_path for index in shown])

        def picture(index: int) -> dict[str, Any]:
            row = check.rows[index]
            return {"id": row.id, "label": row.shoe_class, "file_url": urls[row.image_path]}

        return [
            {
                **picture(one.picture),
                "kind": one.kind,
                "reason": one.reason,
                "score": one.score,
                "proposal": {"action": one.action, "label": None if one.label is None else check.labels[one.label]},
                "neighbours": [picture(index) for index in one.similar],
            }
            for one in findings
        ]

    def _is_up_to_date(self) -> bool:
        """Whether the latest check saw the training data as it is; if not, start another one."""
        if self._found.read().state == self._state():
            return True
        self.check_soon()
        return False

    def _state(self) -> str:
        """What changes with the training data or the model. An exchange of labels between pictures goes unnoticed."""
        newest = self._store.training_data(1, None)
        version = self._holder.teachable.bundle.version
        return repr((version, self._store.label_counts(), newest[0].id if newest else None))

    # ------------------------------------------------------------ the check, on its own thread

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # where threads have no priority of their own
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST_PRIORITY)
        while True:
            self._wanted.wait()
            if self._stopping.is_set():
                return
            self._wanted.clear()
            started = time.monotonic()
            try:
                self._check_in_turn()
            except _Stopped:
                return
            except AppError as error:
                logger.warning("The training data could not be checked: %s", error.detail)
            except Exception:  # of any kind: the next upload tries again
                logger.exception("The training data could not be checked.")
            self._stopping.wait(time.monotonic() - started)  # many uploads must not keep a core busy

    def _check_in_turn(self) -> None:
        """Check, unless another worker does, and has seen the training data as it is."""
        before = self._found.read()
        with self._found.turn(self._go_on):
            after = self._found.read()
            if after is before or after.state != self._state():
                self._found.write(self._check())

    def _check(self) -> DataCheck:
        from threadpoolctl import threadpool_limits

        live, state = self._holder.teachable, self._state()
        rows = self._store.training_data(_MOST_PICTURES, None)[::-1]
        known = self._features_of(live, rows)
        rows = [row for row in rows if row.sha256 in known]
        if not rows:
            return DataCheck(state, utc_now())
        appearances = self._appearances_of(rows)
        with threadpool_limits(1):
            return self._examined(live, state, rows, known, appearances)

    def _examined(
        self, live: LiveModel, state: str, rows: list[TrainingPicture], known: Any, appearances: dict[str, Appearance]
    ) -> DataCheck:
        pending = pending_changes(self._store, live.bundle)
        bundle, buffer = take_over(live.bundle, bundles.read_replay_buffer(self._settings.live_model), pending.names)
        labels = list(dict.fromkeys([*bundle.labels, *(row.shoe_class for row in rows)]))
        index = {label: number for number, label in enumerate(labels)}
        targets = np.array([index[row.shoe_class] for row in rows], np.int64)
        features = np.stack([known[row.sha256].features for row in rows])
        thumbnails = np.stack([known[row.sha256].thumbnail for row in rows])
        known.clear()  # the columns are copies, and large
        others = buffer[(buffer.labels >= 0) & ~np.isin(buffer.keys, keys_of([row.sha256 for row in rows]))]
        examined = examine(features, targets, others.features, others.labels.astype(np.int64), len(labels))
        probabilities = examined.probabilities(go_on=self._go_on)
        unlearned = np.array([not row.is_processed for row in rows]) & (targets < len(bundle.labels))
        if unlearned.any():  # the live model has not seen these either
            said = bundle.head.probabilities(features[unlearned].astype(np.float32))
            probabilities[unlearned, : said.shape[1]] += said
            probabilities[unlearned] /= 2
        held_out = np.array([row.split == "holdout" for row in rows])
        looks = [appearances.get(row.sha256) for row in rows]
        findings = find_all(examined, probabilities, thumbnails, held_out, looks, labels, self._go_on)
        curves = {labels[label]: curve for label, curve in learning_curves(examined, self._go_on).items()}
        return DataCheck(state, utc_now(), rows, findings, labels, curves)

    def _features_of(self, live: LiveModel, rows: list[TrainingPicture]) -> Any:
        known = self._features.known(live, rows)
        missing = [row for row in rows if row.sha256 not in known]
        return known | self._features.compute(live, stored_pictures(self._store, missing), len(missing), self._observe)

    def _appearances_of(self, rows: list[TrainingPicture]) -> dict[str, Appearance]:
        known = self._features.appearances(rows)
        missing = [row for row in rows if row.sha256 not in known]
        return known | self._features.measure(stored_pictures(self._store, missing), self._go_on)

    def _observe(self, event: TrainingEvent) -> None:
        self._go_on()

    def _go_on(self) -> None:
        if self._stopping.is_set():
            raise _Stopped


class _Stopped(Exception):
    """The service is shutting down."""


def _key(check: DataCheck, finding: Finding) -> tuple[str, IssueKind, str]:
    row = check.rows[finding.picture]
    return row.id, finding.kind, row.shoe_class


def _passes(row: TrainingPicture, which: TrainingFilter) -> bool:
    return (
        which.label in (None, row.shoe_class)
        and which.split in (None, row.split)
        and which.learnt in (None, row.is_processed)
        and (which.since is None or row.uploaded_at >= which.since)
        and (which.until is None or row.uploaded_at < which.until)
    )
