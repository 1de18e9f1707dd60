import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageFilter

from helpers.pictures import SHAPES, draw, encode
from shoe_classifier.ml.live_model import LiveModelHolder, open_model_file
from shoe_classifier.services.monitoring import Monitor
from shoe_classifier.services.picture_features import FeatureExtractor
from shoe_classifier.services.prediction import PredictionService
from shoe_classifier.services.recent_features import RecentFeatures
from shoe_classifier.services.review_queue import ReviewQueue
from shoe_classifier.settings import Settings
from shoe_classifier.storage.model_files import ModelFiles
from shoe_classifier.storage.sqlite.store import SqliteStore
from shoe_classifier.types import SKIPPED, Decision, PredictionRecord, new_id, picture_path, utc_now

UNSEEN = 50_000  # first seed of pictures that the model was not trained on


class Watch:
    """A monitor on real files, and predictions for it."""

    def __init__(self, settings: Settings):
        settings.dataset_dir.mkdir(exist_ok=True)
        self.settings = settings
        self.store = SqliteStore(settings.dataset_dir)
        self.holder = LiveModelHolder(settings.max_image_pixels)
        self.holder.swap(open_model_file(settings.live_model, trusted=True))
        self.extractor = FeatureExtractor(settings, self.holder)
        self.prediction = PredictionService(settings, self.holder, self.store)
        self._files = ModelFiles(settings.live_model)
        self.told: list[str] = []
        self.monitors: list[Monitor] = []
        self.monitor = self.start(self.prediction.recent)

    def tell(self, event: str, data: Mapping[str, object]) -> None:
        self.told.append(f"{event} {data['raised']}")

    def start(self, recent: RecentFeatures) -> Monitor:
        """Another worker's monitor."""
        self.monitors.append(
            Monitor(self.settings, self.store, self.holder, self._files, self.extractor, recent, self.tell)
        )
        return self.monitors[-1]

    def predict(self, first: int, count: int, *, new_camera: bool = False) -> None:
        for seed in range(UNSEEN + first, UNSEEN + first + count):
            picture = draw(SHAPES[seed % 3], seed)
            self.prediction.predict(through_new_camera(picture) if new_camera else picture, "", 0.0)

    def row(
        self, decision: Decision = "accepted", kind: str | None = "random", version: str = "v1", time: str = ""
    ) -> PredictionRecord:
        """Keep a prediction of a boot."""
        name = hashlib.sha256(new_id().encode()).hexdigest()
        row = PredictionRecord(
            new_id(), picture_path(name, ".jpg"), "Boot", 0.9, decision, {"Boot": 0.9}, version, 1.0, time or utc_now()
        )
        row = replace(row, review_kind=kind)
        self.store.add_prediction(row, b"")
        return row

    def close(self) -> None:
        for monitor in self.monitors:
            monitor.stop()
        self.prediction.threads.shutdown()
        self.extractor.close()
        self.store.close()


def through_new_camera(picture: bytes) -> bytes:
    """Blurred, darker and colder."""
    image = Image.open(io.BytesIO(picture)).convert("RGB").filter(ImageFilter.GaussianBlur(3))
    return encode(Image.fromarray((np.asarray(image) * np.array([0.6, 0.8, 1.0])).astype(np.uint8)))


@pytest.fixture
def watch(settings: Settings) -> Iterator[Watch]:
    watch = Watch(settings)
    yield watch
    watch.close()


def test_ordinary_pictures_raise_no_alarm_and_a_new_camera_does(watch: Watch) -> None:
    watch.monitor.look()
    assert watch.monitor.drift.drift is None and "needs 50 recent" in watch.monitor.drift.detail
    watch.predict(0, 200)
    watch.monitor.look()
    before = watch.monitor.report(1)["drift"]
    assert before["score"] < 0.65 and not before["raised"] and before["pictures"] == 200
    watch.predict(200, 200, new_camera=True)
    watch.monitor.look()
    after = watch.monitor.report(1)["drift"]
    assert after["raised"] and after["score"] > after["expected"][1]
    assert watch.monitor.newest()["drift_raised"] is True
    assert watch.told == ["drift.raised True"]
    watch.predict(460, 1, new_camera=True)
    watch.monitor.look()
    assert watch.told == ["drift.raised True"]  # once, as long as it lasts


def test_after_a_start_features_come_from_the_stored_pictures_a_few_in_each_look(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch.predict(0, 60)
    watch.monitor.look()
    measured = watch.monitor.drift.drift
    (watch.settings.dataset_dir / "monitoring.json").unlink()
    monkeypatch.setattr("shoe_classifier.services.monitoring._COMPUTED", 30)
    restarted = watch.start(RecentFeatures())
    restarted.look()
    assert "there are 30" in restarted.drift.detail
    restarted.look()
    again = restarted.drift.drift
    assert measured and again and again.pictures == 60 and abs(measured.score - again.score) < 0.02


def test_all_workers_tell_the_same_and_one_of_them_raises_the_alarm(watch: Watch) -> None:
    other = watch.start(RecentFeatures())
    watch.predict(0, 60, new_camera=True)
    watch.monitor.look()
    assert other.report(1)["drift"] == watch.monitor.report(1)["drift"] and other.drift.raised
    other.look()
    watch.predict(60, 1, new_camera=True)
    other.look()
    watch.monitor.look()
    assert other.report(1)["drift"] == watch.monitor.report(1)["drift"]
    assert (other.drifted, other.newest()) == (watch.monitor.drifted, watch.monitor.newest())
    assert watch.told == ["drift.raised True"]
    restarted = watch.start(RecentFeatures())
    assert restarted.drift == other.drift


def test_the_same_picture_counts_once(watch: Watch) -> None:
    for _ in range(60):
        watch.predict(0, 1)
    watch.monitor.look()
    assert "there are 1" in watch.monitor.drift.detail


def test_nothing_new_is_not_looked_at_again(watch: Watch) -> None:
    watch.predict(0, 60)
    watch.monitor.look()
    first = watch.monitor.drift
    watch.monitor.look()
    assert watch.monitor.drift is first
    watch.predict(60, 1)
    watch.monitor.look()
    assert watch.monitor.drift is not first


def test_accepted_pictures_unlike_what_was_taught_wait_for_a_review(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shoe_classifier.ml.drift._FAR", 0.0)  # the drawn pictures differ little
    watch.predict(0, 60)
    watch.monitor.look()
    rows = {row.id: row for row in watch.store.predictions(100, None)}
    drifted = watch.monitor.drifted
    assert drifted and all(rows[row_id].decision == "accepted" for row_id in drifted)
    queue = ReviewQueue(watch.store, watch.holder, watch.prediction.recent, watch.monitor)
    items = queue.items("drifted", 100)
    assert {row_id for item in items for row_id in (item.prediction.id, *item.similar_ids)} == set(drifted)
    watch.store.review_prediction(drifted[0], "Boot", "drifted", utc_now())
    assert queue.counts()["drifted"] == len(drifted) - 1


def test_accuracy_is_of_those_drawn_at_random_and_answered(watch: Watch) -> None:
    for label in ("Boot", "Boot", "Shoe", SKIPPED):
        watch.store.review_prediction(watch.row().id, label, "random", utc_now())
    watch.store.review_prediction(watch.row("uncertain", None).id, "Shoe", "uncertain", utc_now())
    watch.row()
    report = watch.monitor.report(7)
    assert (report["reviewed"], report["skipped"], report["predictions"]) == (3, 1, 6)
    assert report["accuracy"] == round(2 / 3, 5)
    assert report["accuracy_interval"] == [0.20765, 0.93851]  # Wilson's, of 2 in 3
    assert report["uncertain_rate"] == round(1 / 6, 5) and report["unknown_rate"] == 0.0


def test_days_and_versions_have_figures_of_their_own(watch: Watch) -> None:
    today = utc_now()
    watch.row("unknown", version="v1")
    watch.store.review_prediction(watch.row(version="v2").id, "Boot", "random", today)
    report = watch.monitor.report(1)
    assert [(group["version"], group["predictions"], group["accuracy"]) for group in report["by_version"]] == [
        ("v2", 1, 1.0),
        ("v1", 1, None),
    ]
    assert [(day["day"], day["unknown_rate"]) for day in report["by_day"]] == [(today[:10], 0.5)]


def test_no_predictions_have_no_rates(watch: Watch) -> None:
    report = watch.monitor.report(30)
    assert (report["accuracy"], report["unknown_rate"], report["accuracy_interval"]) == (None, None, [0.0, 1.0])
    assert watch.monitor.newest()["unknown_rate"] is None
