import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.pictures import draw
from helpers.service import make_settings
from shoe_classifier.errors import InvalidImage, NotReady, Overloaded
from shoe_classifier.ml.live_model import LiveModelHolder, open_model_file
from shoe_classifier.services.prediction import PredictionService
from shoe_classifier.storage.sqlite.store import SqliteStore


class Desk:
    def __init__(self, folder: Path, model_file: Path, **settings: object):
        (folder / "dataset").mkdir()
        self.store = SqliteStore(folder / "dataset")
        self.holder = LiveModelHolder(1_000_000)
        self.holder.swap(open_model_file(model_file, trusted=True))
        self.service = PredictionService(make_settings(folder, **settings), self.holder, self.store)

    def predict(self, data: bytes) -> dict[str, Any]:
        return self.service.predict(data, "x.jpg", time.perf_counter() - 1)

    def close(self) -> None:
        self.service.threads.shutdown()
        self.store.close()


@pytest.fixture
def desk(tmp_path: Path, model_file: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path, model_file, max_pending=2)
    yield desk
    desk.close()


def test_a_prediction_and_its_record_agree(desk: Desk) -> None:
    picture = draw("Boot", 1)
    answer = desk.predict(picture)
    row = desk.store.prediction(answer["prediction_id"])
    assert row is not None and row.image_path is not None
    assert answer["predicted_class"] == row.predicted_class == max(row.probabilities, key=row.probabilities.__getitem__)
    assert answer["confidence"] == row.confidence_score == row.probabilities[row.predicted_class]
    assert (answer["decision"], answer["probabilities"]) == (row.decision, row.probabilities)
    assert answer["model_version"] == row.model_version == desk.holder.live.bundle.version
    assert answer["response_time_ms"] == row.response_time >= 1000
    assert answer["file_url"] == f"/files/{Path(row.image_path).stem}"
    assert next(desk.store.pictures([row.image_path])) == picture


def test_without_pictures_only_the_row_is_kept(tmp_path: Path, model_file: Path) -> None:
    desk = Desk(tmp_path, model_file, store_prediction_images=False)
    answer = desk.predict(draw("Boot", 1))
    assert answer["file_url"] is None
    row = desk.store.prediction(answer["prediction_id"])
    assert row is not None and row.image_path is None
    assert not list((tmp_path / "dataset" / "images").rglob("*.jpg"))
    desk.close()


def test_a_record_that_fails_does_not_fail_the_prediction(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(row: object, picture: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(desk.store, "add_prediction", full)
    answer = desk.predict(draw("Boot", 1))
    assert answer["predicted_class"]
    assert answer["file_url"] is None
    assert desk.service.unrecorded == 1


def test_what_is_no_picture_is_not_recorded(desk: Desk) -> None:
    with pytest.raises(InvalidImage):
        desk.predict(b"text")
    desk.service._holder = LiveModelHolder(1000)
    with pytest.raises(NotReady):
        desk.predict(draw("Boot", 1))
    assert desk.store.predictions(10, None) == []


def test_at_most_so_many_in_flight(desk: Desk) -> None:
    with desk.service.slot(), desk.service.slot():
        with pytest.raises(Overloaded, match="at most 2") as error, desk.service.slot():
            pass
        assert error.value.headers == {"Retry-After": "1", "Connection": "close"}
    with pytest.raises(ZeroDivisionError), desk.service.slot():
        _ = 1 / 0
    with desk.service.slot(), desk.service.slot():
        pass  # a failure has given its place back


def test_slots_are_counted_across_threads(desk: Desk) -> None:
    refused, barrier = [], threading.Barrier(6)

    def use() -> None:
        barrier.wait()
        try:
            with desk.service.slot():
                time.sleep(0.2)
        except Overloaded:
            refused.append(1)

    threads = [threading.Thread(target=use) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 4
