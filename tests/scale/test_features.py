import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies
from hypothesis import settings as hypothesis_settings

from helpers.buffers import assert_same
from helpers.bulk import folder_of
from helpers.pictures import SHAPES, draw
from shoe_classifier.ml import replay_buffer
from shoe_classifier.ml.backbone import Backbone
from shoe_classifier.ml.dataset import held_out
from shoe_classifier.ml.live_model import open_model_file
from shoe_classifier.ml.preprocessing import decode
from shoe_classifier.ml.replay_buffer import NO_LATENT, Capacity, ReplayBuffer, keys_of
from shoe_classifier.scale import output
from shoe_classifier.scale.features import _keep_latents, collect, feature_parts, features_of, known_hashes
from shoe_classifier.scale.job import Progress, Request
from shoe_classifier.scale.manifest import Entry
from shoe_classifier.scale.output import open_output
from shoe_classifier.scale.worker import Eye, Fetched, PictureLimits
from shoe_classifier.settings import Settings
from shoe_classifier.storage.feature_cache import FeatureCache
from shoe_classifier.storage.sqlite.store import SqliteStore
from shoe_classifier.types import TrainingPicture, new_id, picture_path, utc_now


def features(settings: Settings, source: object, out: Path, actors: int = 1) -> Progress:
    return collect(Request("features", features_of, str(source), str(out), actors), settings, lambda _: None)


def rows_of(settings: Settings, out: Path) -> list[dict[str, Any]]:
    backbone = open_model_file(settings.live_model, trusted=True).backbone_sha256
    columns = ["path", "label", "sha256", "features", "latent"]
    return [row for table in feature_parts(open_output(str(out)), backbone, columns) for row in table.to_pylist()]


def test_each_picture_is_looked_at_once(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "SHARD_PICTURES", 4)
    pictures, out = folder_of(tmp_path / "pictures", 12, drawn=6), tmp_path / "features"
    (pictures / "Boot" / "bad.jpg").touch()
    end = features(settings, pictures, out)
    assert (end.done, end.failed, end.job.shards) == (7, 1, 2)
    rows = rows_of(settings, out)
    assert sorted(row["label"] for row in rows) == ["Boot", "Boot", "Sandal", "Sandal", "Shoe", "Shoe"]
    live = open_model_file(settings.live_model, trusted=True)
    for row in rows:
        picture = decode((pictures / row["path"]).read_bytes(), live.size)
        assert np.array_equal(np.array(row["features"], np.float16), live.backbone.features(picture).astype(np.float16))
    (pictures / "Shoe" / "new.jpg").write_bytes(draw("Shoe", 77))
    shutil.rmtree(pictures / "Boot")
    again = features(settings, pictures, out)
    assert (again.done, again.failed) == (1, 0)
    assert len(known_hashes(open_output(str(out)), live.backbone_sha256)) == len(rows_of(settings, out)) == 7
    nothing = features(settings, pictures, out)
    assert (nothing.job.task, nothing.earlier) == ("hashes", nothing.done)


def test_an_interrupted_pass_goes_on(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "SHARD_PICTURES", 4)
    pictures, out = folder_of(tmp_path / "pictures", 9), tmp_path / "features"
    features(settings, pictures, out)
    (out / "pass-0000" / "features" / "part-000001.parquet").unlink()
    again = features(settings, pictures, out)
    assert (again.earlier, again.done) == (5, 9)
    assert [path.name for path in out.iterdir()] == ["pass-0000"]


def test_what_is_stored_need_not_be_computed_by_the_service(settings: Settings) -> None:
    store, digest = SqliteStore(settings.dataset_dir), hashlib.sha256(draw("Boot", 1)).hexdigest()
    path = settings.dataset_dir / "upload.jpg"
    path.write_bytes(draw("Boot", 1))
    row = TrainingPicture(
        new_id(), picture_path(digest, ".jpg"), digest, "Boot", False, "train", "upload", new_id(), utc_now()
    )
    store.add_training([row], [path])
    store.close()
    features(settings, "stored", settings.models_dir / "features")
    live = open_model_file(settings.live_model, trusted=True)
    cache = FeatureCache(settings.dataset_dir / "features.sqlite3")
    kept = cache.get(live.backbone_sha256, [digest])[digest]
    cache.close()
    expected = live.backbone.features(decode(draw("Boot", 1), live.size)).astype(np.float16)
    assert np.array_equal(kept.features, expected)


def test_only_latents_that_a_buffer_would_keep_are_kept(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_buffer, "LATENTS", Capacity(4, 3))
    monkeypatch.setattr(replay_buffer, "HELD_OUT_LATENTS", Capacity(2, 1))
    live = open_model_file(model_file, trusted=True)
    assert isinstance(live.backbone, Backbone)
    eye = Eye(live, PictureLimits(1 << 20, 1 << 20, 100), 0.05)
    drawn = [(label, draw(label, seed)) for label in ("Boot", "Shoe") for seed in range(20)]
    pictures = [
        Fetched(Entry(f"{number}.jpg", label, hashlib.sha256(data).hexdigest()), data, None)
        for number, (label, data) in enumerate(drawn)
    ]
    pictures.append(Fetched(Entry("changed.jpg", "Boot", "0" * 64), draw("Boot", 50), None))
    rows = features_of(eye, iter(pictures)).to_pylist()
    assert 4 <= sum(row["latent"] is not None for row in rows) <= 6
    assert [row["error"] for row in rows[:-1]] == [None] * 40
    assert "it has changed since" in rows[-1]["error"]


@given(data=strategies.data())
@hypothesis_settings(max_examples=40, deadline=None)
def test_the_buffer_of_many_shards_is_that_of_one(data: strategies.DataObject) -> None:
    """The latents that the shards keep are all that the buffer of all pictures keeps."""
    count, shards = data.draw(strategies.integers(1, 60)), data.draw(strategies.integers(1, 5))
    rng = np.random.default_rng(data.draw(strategies.integers(0, 2**32 - 1)))
    rows = [
        {"sha256": rng.bytes(32).hex(), "label": SHAPES[label], "features": rng.random(2).astype(np.float16)}
        for label in rng.integers(0, 3, count)
    ]
    latents = [rng.random((1, 1, 2)).astype(np.float32) for _ in rows]
    place = rng.integers(0, shards, count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay_buffer, "TAUGHT_FEATURES", Capacity(12, 5))
        patch.setattr(replay_buffer, "HELD_OUT_TAUGHT_FEATURES", Capacity(6, 3))
        patch.setattr(replay_buffer, "LATENTS", Capacity(7, 3))
        patch.setattr(replay_buffer, "HELD_OUT_LATENTS", Capacity(4, 2))
        one, many = [dict(row) for row in rows], [dict(row) for row in rows]
        _keep_latents(one, list(latents), 0.01)
        for shard in range(shards):
            mine = np.flatnonzero(place == shard)
            _keep_latents([many[i] for i in mine], [latents[i] for i in mine], 0.01)
        assert_same(buffer_of(many).trimmed(), buffer_of(one).trimmed())
        assert {i for i, row in enumerate(one) if "latent" in row} <= {
            i for i, row in enumerate(many) if "latent" in row
        }


def buffer_of(rows: list[dict[str, Any]]) -> ReplayBuffer:
    """The samples of pictures, with those latents that their rows have."""
    hashes = [row["sha256"] for row in rows]
    latents = [np.frombuffer(row["latent"], np.int8).reshape(1, 1, 2) for row in rows if "latent" in row]
    has_latent = np.array(["latent" in row for row in rows])
    return ReplayBuffer(
        features=np.stack([row["features"] for row in rows]),
        labels=np.array([SHAPES.index(row["label"]) for row in rows], np.int16),
        held_out=held_out(hashes),
        photo=np.ones(len(rows), bool),
        shipped=np.zeros(len(rows), bool),
        named=np.zeros(len(rows), bool),
        keys=keys_of(hashes),
        latents=np.array(latents, np.int8).reshape(-1, 1, 1, 2),
        latent_rows=np.where(has_latent, np.cumsum(has_latent) - 1, NO_LATENT).astype(np.int32),
        latent_scale=0.01,
    )
