import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from shoe_classifier.storage.feature_cache import FeatureCache
from shoe_classifier.types import PictureFeatures


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[FeatureCache]:
    with closing(FeatureCache(tmp_path / "features.sqlite3")) as cache:
        yield cache


def picture(seed: int) -> PictureFeatures:
    rng = np.random.default_rng(seed)
    return PictureFeatures(rng.random(20).astype(np.float16), rng.integers(0, 256, (16, 16)).astype(np.uint8))


def test_features_come_back_as_they_were(cache: FeatureCache) -> None:
    cache.put("first", {"a": picture(1), "b": picture(2)})
    found = cache.get("first", ["a", "b", "missing"])
    assert found.keys() == {"a", "b"}
    assert np.array_equal(found["b"].features, picture(2).features)
    assert np.array_equal(found["b"].thumbnail, picture(2).thumbnail)


def test_features_belong_to_a_backbone(cache: FeatureCache) -> None:
    cache.put("first", {"a": picture(1)})
    cache.put("second", {"a": picture(2)})
    assert np.array_equal(cache.get("second", ["a"])["a"].features, picture(2).features)
    cache.keep_backbones(["second"])
    assert not cache.get("first", ["a"])
    assert cache.get("second", ["a"])


def test_a_deleted_picture_is_forgotten_for_all_backbones(cache: FeatureCache) -> None:
    cache.put("first", {"a": picture(1), "b": picture(2)})
    cache.put("second", {"a": picture(1)})
    cache.forget(["a"])
    assert not cache.get("first", ["a"])
    assert not cache.get("second", ["a"])
    assert cache.get("first", ["b"])


def test_processes_share_the_file(cache: FeatureCache, tmp_path: Path) -> None:
    with closing(FeatureCache(tmp_path / "features.sqlite3")) as other:
        threads = [
            threading.Thread(target=lambda i=i: (cache, other)[i % 2].put("first", {str(i): picture(i)}))
            for i in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(other.get("first", map(str, range(20)))) == 20
