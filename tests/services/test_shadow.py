import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.pictures import SHAPES, draw
from helpers.retraining import Machine
from helpers.service import wait_for
from shoe_classifier.errors import InvalidRequest, NotFound
from shoe_classifier.files import sha256_of
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml.live_model import LiveModel
from shoe_classifier.services.model_registry import version_row
from shoe_classifier.services.monitoring import Monitor
from shoe_classifier.services.prediction import PredictionService
from shoe_classifier.services.review_queue import ReviewQueue
from shoe_classifier.services.shadow import Shadow, verdict
from shoe_classifier.settings import Settings
from shoe_classifier.types import utc_now


class Studio:
    """A machine that predicts, and versions that can be its shadow."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.machine = Machine(settings, shared=False).start()
        self.live = self.machine.holder.live.bundle.version
        self.shadow = self.new_shadow()
        self.prediction = self.prediction_with(self.shadow)

    def new_shadow(self) -> Shadow:
        return Shadow(self.settings, self.machine.store, self.machine.holder, self.machine.registry)

    def prediction_with(self, shadow: Shadow) -> PredictionService:
        return PredictionService(self.settings, self.machine.holder, self.machine.store, shadow.observe)

    def queue(self) -> ReviewQueue:
        machine, recent = self.machine, self.prediction.recent
        monitor = Monitor(self.settings, machine.store, machine.holder, machine.files, machine.features, recent)
        return ReviewQueue(machine.store, machine.holder, recent, monitor, self.shadow.disputed)

    def version(self, name: str, labels: tuple[str, ...] = SHAPES) -> str:
        """Archive a copy of the live version whose outputs have these labels."""
        file: Path = self.machine.files.file_of(name)
        file.parent.mkdir(exist_ok=True)
        source = self.settings.live_model
        bundle = replace(bundles.read(source), version=name, parent=self.live, labels=labels)
        bundles.derive(source, file, bundle, bundles.read_replay_buffer(source))
        self.machine.store.save_version(version_row(bundle, sha256_of(file), "archived"))
        return name

    def predict(self, count: int, label: str = "Boot") -> list[str]:
        """Predict pictures, each once the shadow has answered the one before."""
        ids = []
        for seed in range(count):
            seen = self.seen()
            answer = self.prediction.predict(draw(label, seed), "x.jpg", time.perf_counter())
            ids.append(answer["prediction_id"])
            wait_for(lambda seen=seen: self.seen() > seen)  # type: ignore[misc]
        return ids

    def seen(self) -> int:
        state = self.shadow.state()
        return state["seen"] if state else 0

    def close(self) -> None:
        self.shadow.stop()
        self.prediction.threads.shutdown()
        self.machine.close()


@pytest.fixture
def studio(settings: Settings) -> Iterator[Studio]:
    studio = Studio(settings)
    yield studio
    studio.close()


def test_the_same_model_agrees(studio: Studio) -> None:
    state = studio.shadow.start(studio.version("same"), 3)
    assert (state["version"], state["live_version"], state["running"]) == ("same", studio.live, True)
    studio.predict(3)
    state = studio.shadow.state() or {}
    assert (state["seen"], state["agreed"], state["running"]) == (3, 3, False)
    assert state["verdict"]["conclusion"] == "too_few_reviewed"
    assert studio.shadow.disagreements() == []


def test_it_stops_when_it_has_seen_enough(studio: Studio) -> None:
    studio.shadow.start(studio.version("same"), 1)
    studio.predict(1)
    studio.shadow.refresh()
    studio.prediction.predict(draw("Boot", 5), "x.jpg", time.perf_counter())
    assert studio.shadow._tasks.empty()
    assert studio.seen() == 1


def test_disagreements_are_judged_by_people(studio: Studio) -> None:
    studio.shadow.start(studio.version("turned", (*SHAPES[1:], SHAPES[0])), 8)
    ids = studio.predict(8)
    found = studio.shadow.disagreements()
    assert [one.prediction_id for one in found] == ids[::-1]
    assert {(one.live_label, one.shadow_label) for one in found} == {("Boot", "Sandal")}
    queue = studio.queue()
    assert queue.counts()["shadow"] == 8
    assert {item.kind for item in queue.items("all", 10)} == {"shadow"}
    for prediction_id in ids[:5]:
        studio.machine.store.review_prediction(prediction_id, "Boot", "shadow", utc_now())
    assert queue.counts()["shadow"] == 3
    assert (studio.shadow.state() or {})["verdict"] == {
        "reviewed": 5, "shadow_right": 0, "live_right": 5, "p_value": None, "conclusion": "too_few_reviewed",
    }  # fmt: skip
    studio.machine.store.review_prediction(ids[5], None, "shadow", utc_now())  # none of the labels: both are wrong
    studio.machine.store.review_prediction(ids[6], "Boot", "shadow", utc_now())
    assert (studio.shadow.state("turned") or {})["verdict"] == {
        "reviewed": 7, "shadow_right": 0, "live_right": 6, "p_value": 0.0312, "conclusion": "worse",
    }  # fmt: skip
    assert studio.shadow.state("another") is None


def test_a_busy_shadow_holds_up_no_prediction(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    classify = LiveModel.classify

    def slow(self: LiveModel, picture: object) -> object:
        if threading.current_thread().name == "shadow":
            release.wait(10)
        return classify(self, picture)  # type: ignore[arg-type]

    studio.shadow.start(studio.version("same"), 100)
    monkeypatch.setattr(LiveModel, "classify", slow)
    started = time.monotonic()
    for seed in range(10):
        studio.prediction.predict(draw("Boot", seed), "x.jpg", time.perf_counter())
    assert time.monotonic() - started < 5
    release.set()
    wait_for(studio.shadow._tasks.empty)
    wait_for(lambda: studio.seen() >= 2)
    assert studio.seen() <= 3  # one in work, two in line; the others were not shown to it


def test_another_worker_joins_and_leaves(studio: Studio) -> None:
    other = studio.new_shadow()
    studio.shadow.start(studio.version("same"), 100)
    other.refresh()
    prediction = studio.prediction_with(other)
    prediction.predict(draw("Boot", 1), "x.jpg", time.perf_counter())
    wait_for(lambda: studio.seen() == 1)
    studio.shadow.end("same")
    other.refresh()
    prediction.predict(draw("Boot", 2), "x.jpg", time.perf_counter())
    assert other.state() is None
    other.stop()
    prediction.threads.shutdown()


def test_a_restart_goes_on(studio: Studio) -> None:
    studio.shadow.start(studio.version("same"), 100)
    studio.predict(2)
    studio.shadow.stop()
    studio.shadow = studio.new_shadow()
    studio.shadow.refresh()
    studio.prediction = studio.prediction_with(studio.shadow)
    studio.predict(1)
    assert studio.seen() == 3


def test_a_version_whose_file_is_gone_is_no_shadow_any_more(studio: Studio, caplog: pytest.LogCaptureFixture) -> None:
    studio.shadow.start(studio.version("same"), 100)
    studio.shadow.stop()
    studio.machine.files.file_of("same").unlink()
    studio.shadow = studio.new_shadow()
    studio.shadow.refresh()
    assert studio.shadow.state() is None
    assert "is no shadow any more" in caplog.text


def test_what_cannot_be_a_shadow(studio: Studio) -> None:
    with pytest.raises(NotFound, match="Expected a version that GET /models lists"):
        studio.shadow.start("none", 10)
    with pytest.raises(InvalidRequest, match="Expected a version that is not live"):
        studio.shadow.start(studio.live, 10)
    with pytest.raises(NotFound, match="'none' does not"):
        studio.shadow.end("none")


@pytest.mark.parametrize(
    ("shadow_right", "live_right", "p_value", "conclusion"),
    [
        (5, 0, None, "too_few_reviewed"),
        (6, 0, 0.0312, "better"),
        (0, 6, 0.0312, "worse"),
        (5, 1, 0.2188, "no_difference"),
        (10, 10, 1.0, "no_difference"),
        (20, 5, 0.0041, "better"),
    ],
)
def test_mcnemar(shadow_right: int, live_right: int, p_value: float | None, conclusion: str) -> None:
    """The figures are those of `scipy.stats.binomtest(k, n)`."""
    result = verdict(shadow_right, live_right, 30)
    assert (result.p_value, result.conclusion) == (p_value, conclusion)
