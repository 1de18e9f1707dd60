from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from shoe_classifier.ml.live_model import LiveModel, LiveModelHolder, open_model_file
from shoe_classifier.services.monitoring import Monitor
from shoe_classifier.services.recent_features import RecentFeatures
from shoe_classifier.services.review_queue import ReviewQueue, lead_ranks
from shoe_classifier.settings import Settings
from shoe_classifier.storage.sqlite.store import SqliteStore
from shoe_classifier.types import Decision, PredictionRecord, new_id, utc_now


class Desk:
    """A queue over a real store, with predictions that are written down and not made."""

    def __init__(self, settings: Settings):
        settings.dataset_dir.mkdir()
        self.store = SqliteStore(settings.dataset_dir)
        self.features = RecentFeatures()
        self.drifted: list[str] = []
        self.disputed: list[str] = []
        holder = LiveModelHolder(settings.max_image_pixels)
        model = open_model_file(settings.live_model, trusted=True)
        holder.swap(model)
        assert isinstance(model, LiveModel)
        self._backbone = model.backbone_sha256
        monitor = cast(Monitor, SimpleNamespace(drifted=self.drifted))
        self.queue = ReviewQueue(self.store, holder, self.features, monitor, lambda: self.disputed)

    def predicted(self, lead: float = 0.1, decision: Decision = "uncertain", kind: str | None = None) -> str:
        """Keep a prediction whose likeliest label leads by so much."""
        row_id = new_id()
        values = {"Boot": (1 + lead) / 2, "Shoe": (1 - lead) / 2}
        path = f"images/ab/{row_id}.jpg"
        row = PredictionRecord(row_id, path, "Boot", values["Boot"], decision, values, "v1", 1.0, utc_now(), None, None)
        self.store.add_prediction(PredictionRecord(**{**vars(row), "review_kind": kind}), None)
        return row_id

    def looks(self, **features: list[str]) -> None:
        """Give predictions features: those under one name look alike."""
        axes = {name: np.eye(8, dtype=np.float16)[axis] for axis, name in enumerate(features)}
        self.features.choose(self._backbone, {row_id: axes[name] for name, ids in features.items() for row_id in ids})

    def ids(self, kind: str = "all", limit: int = 50) -> list[str]:
        return [item.prediction.id for item in self.queue.items(kind, limit)]  # type: ignore[arg-type]


@pytest.fixture
def desk(settings: Settings) -> Iterator[Desk]:
    desk = Desk(settings)
    yield desk
    desk.store.close()


def test_the_smallest_lead_comes_first(desk: Desk) -> None:
    middle, small, large = desk.predicted(0.3), desk.predicted(0.1), desk.predicted(0.5)
    assert desk.ids() == [small, middle, large]
    assert desk.ids(limit=1) == [small]
    assert lead_ranks(np.array([0.3, 0.1, 0.5])).tolist() == pytest.approx([2 / 3, 1, 1 / 3])
    assert desk.queue.items("all", 1)[0].reason == "Boot (55 %) or Shoe (45 %)?"


def test_one_in_five_was_drawn_at_random_in_its_own_order(desk: Desk) -> None:
    drawn = [desk.predicted(lead, kind="random") for lead in (0.1, 0.9)]
    informative = {desk.predicted(0.05 * number) for number in range(1, 9)}
    found = desk.ids()
    assert (found[4], found[9]) == (drawn[1], drawn[0])  # the newest first, however sure
    assert informative == {*found} - {*drawn}
    assert desk.ids("random") == drawn[::-1]


def test_one_of_many_alike_is_shown(desk: Desk) -> None:
    alike, other = [desk.predicted(0.1) for _ in range(4)], desk.predicted(0.5)
    desk.looks(stripes=alike, dots=[other])
    items = desk.queue.items("uncertain", 50)
    assert [len(item.similar_ids) for item in items] == [3, 0]
    assert {items[0].prediction.id, *items[0].similar_ids} == {*alike}


def test_what_another_version_or_the_monitor_points_at(desk: Desk) -> None:
    disputed, both, far = (desk.predicted(0.9, "accepted") for _ in range(3))
    sure = desk.predicted(0.9, "accepted")
    desk.disputed += [both, disputed]
    desk.drifted += [far, both]
    kinds = {item.prediction.id: item.kind for item in desk.queue.items("all", 50)}
    assert kinds == {disputed: "shadow", both: "shadow", far: "drifted"} and sure not in kinds
    assert desk.queue.counts() == {"uncertain": 0, "unknown": 0, "drifted": 2, "shadow": 2, "random": 0}
    desk.store.review_prediction(both, "Boot", "shadow", utc_now())
    assert desk.queue.counts() == {"uncertain": 0, "unknown": 0, "drifted": 1, "shadow": 1, "random": 0}


def test_unknown_ones_say_so(desk: Desk) -> None:
    unknown = desk.predicted(0.2, "unknown")
    item = desk.queue.items("unknown", 5)[0]
    assert (item.prediction.id, item.kind) == (unknown, "unknown")
    assert item.reason == "Looks like none of the labels, most like Boot."
