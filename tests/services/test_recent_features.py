import numpy as np
import pytest

from shoe_classifier.ml.live_model import Prediction
from shoe_classifier.services import recent_features
from shoe_classifier.services.recent_features import RecentFeatures


def prediction(value: float | None, backbone: str | None = "b") -> Prediction:
    features = None if value is None else np.full(4, value, np.float32)
    return Prediction("Boot", 0.9, "accepted", {"Boot": 0.9}, "v1", features, backbone)


def test_features_come_back_with_their_backbone_only() -> None:
    recent = RecentFeatures()
    recent.add("1", prediction(0.5))
    recent.add("2", prediction(None, None))
    assert recent.get("b", ["1", "2", "3"]).keys() == {"1"}
    assert recent.get("b", ["1"])["1"].tolist() == [0.5] * 4
    assert recent.get("other", ["1"]) == {}


def test_the_oldest_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent_features, "_NEWEST", 2)
    recent = RecentFeatures()
    for name in "123":
        recent.add(name, prediction(1.0))
    assert recent.get("b", "123").keys() == {"2", "3"}


def test_what_was_chosen_stays_until_others_are() -> None:
    recent = RecentFeatures()
    recent.choose("b", {"old": np.ones(4, np.float16)})
    assert recent.get("b", ["old"]).keys() == {"old"} and recent.get("other", ["old"]) == {}
    recent.choose("b", {})
    assert recent.get("b", ["old"]) == {}
