from dataclasses import replace
from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings, strategies

from helpers.buffers import assert_same
from shoe_classifier.ml import replay_buffer
from shoe_classifier.ml.replay_buffer import Capacity, ReplayBuffer, ReplayBufferBuilder


def samples(
    count: int, label: int, first_key: int = 0, scale: float = 0.1, *, photo: bool = True, shipped: bool = False
) -> ReplayBuffer:
    rng = np.random.default_rng([label, first_key])
    held_out = np.arange(count) % 5 == 0
    builder = ReplayBufferBuilder(scale)
    keys = rng.permutation(count).astype(np.uint64) * np.uint64(1 << 40) + np.uint64(first_key)
    for i in range(count):
        features, latent = np.full(4, i, np.float32), np.full((2, 2, 3), i / 10 - 0.5, np.float32)
        builder.add(features, latent, label, bool(held_out[i]), int(keys[i]))
    return builder.build(np.full(count, label), held_out, keys, photo=photo, shipped=shipped)


def test_latents_come_back_within_a_step() -> None:
    buffer = samples(20, 0)
    expected = np.arange(20, dtype=np.float32) / 10 - 0.5
    assert np.abs(buffer.float_latents()[:, 0, 0, 0] - expected).max() <= 0.05 + 1e-6


def test_choosing_samples_takes_their_latents_along() -> None:
    buffer = samples(20, 0)
    chosen = buffer[buffer.features[:, 0] >= 15]
    assert len(chosen) == 5
    assert len(chosen.latents) == 5
    assert np.allclose(chosen.float_latents()[:, 0, 0, 0], chosen.features[:, 0] / 10 - 0.5, atol=0.051)


def test_add_replaces_known_keys() -> None:
    old, new = samples(20, 0), samples(20, 1)
    new = replace(new, keys=old.keys)
    both = old.add(new)
    assert len(both) == 20
    assert set(both.labels) == {1}


def test_other_scales_are_converted() -> None:
    both = samples(10, 0, scale=0.1).add(samples(10, 1, first_key=7, scale=0.02))
    of_second = both[both.labels == 1]
    assert np.allclose(of_second.float_latents()[:, 0, 0, 0], of_second.features[:, 0] / 10 - 0.5, atol=0.11)


def test_full_buffer_keeps_a_fair_share_and_always_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_buffer, "FEATURES", Capacity(40, 30))
    monkeypatch.setattr(replay_buffer, "HELD_OUT_FEATURES", Capacity(20, 8))
    monkeypatch.setattr(replay_buffer, "LATENTS", Capacity(10, 5))
    monkeypatch.setattr(replay_buffer, "HELD_OUT_LATENTS", Capacity(6, 3))
    both = samples(100, 0, shipped=True).add(samples(100, 1, first_key=7, shipped=True))
    for label in (0, 1):
        of_label = both.labels == label
        assert 20 <= (of_label & ~both.held_out).sum() <= 25  # those with latents stay, too
        assert 8 <= (of_label & both.held_out).sum() <= 11
        assert (of_label & both.has_latent).sum() == 8
    assert np.array_equal(np.sort(both.trimmed().keys), np.sort(both.keys))


def test_few_photos_are_not_lost_among_other_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_buffer, "FEATURES", Capacity(40, 30))
    monkeypatch.setattr(replay_buffer, "LATENTS", Capacity(40, 20))
    both = samples(400, 0, photo=False, shipped=True).add(samples(10, 0, first_key=7, photo=True, shipped=True))
    assert (both.photo & both.has_latent & ~both.held_out).sum() == 8
    assert 20 <= (~both.photo & ~both.held_out).sum() <= 40


def test_nothing_that_is_taught_displaces_what_was_shipped() -> None:
    shipped = samples(400, 0, photo=False, shipped=True).add(samples(100, 1, first_key=1, shipped=True))
    buffer = shipped
    for lesson in range(2, 8):  # 6,000 samples, of old labels and of new ones
        buffer = buffer.add(samples(1000, lesson % 4, first_key=lesson))
    kept = buffer[buffer.shipped]
    assert set(kept.keys) == set(shipped.keys)
    assert kept.has_latent.sum() == shipped.has_latent.sum()
    assert np.array_equal(kept.float_latents(), shipped.float_latents())
    assert len(buffer) < len(shipped) + 2 * (
        replay_buffer.TAUGHT_FEATURES.in_all + replay_buffer.HELD_OUT_TAUGHT_FEATURES.in_all
    )


def test_what_is_taught_shares_a_place_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_buffer, "TAUGHT_FEATURES", Capacity(40, 30))
    monkeypatch.setattr(replay_buffer, "HELD_OUT_TAUGHT_FEATURES", Capacity(12, 8))
    monkeypatch.setattr(replay_buffer, "LATENTS", Capacity(20, 5))
    monkeypatch.setattr(replay_buffer, "HELD_OUT_LATENTS", Capacity(6, 3))
    shipped = samples(1000, 0, shipped=True)
    both = shipped.joined(samples(100, 1, first_key=7)).joined(samples(100, 2, first_key=9)).trimmed()
    for label in (1, 2):
        of_label = both.labels == label
        assert 20 <= (of_label & ~both.held_out).sum() <= 25  # half of the place for both of them, and the latents'
        assert 6 <= (of_label & both.held_out).sum() <= 9
    of_one = shipped.joined(samples(100, 1, first_key=7)).trimmed()
    assert 30 <= ((of_one.labels == 1) & ~of_one.held_out).sum() <= 35


def test_choosing_and_joining_keep_all_columns_in_line() -> None:
    first, second = samples(20, 0, shipped=True), samples(20, 1, first_key=7, photo=False)
    second = replace(second, named=np.arange(20) % 3 == 0)
    both = first.joined(second)
    chosen = both[(both.labels == 1) & both.named]
    assert len(chosen) == 7
    assert not (chosen.shipped | chosen.photo).any()
    assert set(chosen.keys) == set(second.keys[second.named])
    assert both.shipped.sum() == both.photo.sum() == 20


def test_builder_keeps_no_more_latents_than_fit() -> None:
    buffer = samples(1000, 0)
    assert buffer.has_latent.sum() == replay_buffer.LATENTS.per_group + replay_buffer.HELD_OUT_LATENTS.per_group
    assert len(buffer) == 1000


@settings(max_examples=60, deadline=None)
@given(data=strategies.data())
def test_parts_that_are_trimmed_and_added_end_as_the_whole(data: strategies.DataObject) -> None:
    """However many samples there are, and on whatever machine and in whatever order each was seen."""
    count = data.draw(strategies.integers(1, 120))
    rng = np.random.default_rng(data.draw(strategies.integers(0, 2**32 - 1)))
    labels, held_out = rng.integers(-1, 4, count), rng.random(count) < 0.3
    keys = rng.choice(1 << 40, count, replace=False).astype(np.uint64) << np.uint64(20)
    place = rng.integers(0, data.draw(strategies.integers(1, 6)), count)

    def buffer(chosen: np.ndarray) -> ReplayBuffer:
        builder = ReplayBufferBuilder(0.1)
        for i in chosen:
            latent = np.full((1, 1, 2), i / 20, np.float32)
            builder.add(np.full(2, i, np.float32), latent, int(labels[i]), bool(held_out[i]), int(keys[i]))
        return builder.build(labels[chosen], held_out[chosen], keys[chosen], photo=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay_buffer, "TAUGHT_FEATURES", Capacity(20, 7))
        patch.setattr(replay_buffer, "HELD_OUT_TAUGHT_FEATURES", Capacity(8, 3))
        patch.setattr(replay_buffer, "LATENTS", Capacity(9, 4))
        patch.setattr(replay_buffer, "HELD_OUT_LATENTS", Capacity(5, 2))
        parts = [buffer(rng.permutation(np.flatnonzero(place == number))) for number in np.unique(place)]
        merged = reduce(ReplayBuffer.add, parts[1:], parts[0].trimmed())
        assert_same(merged, buffer(np.arange(count)).trimmed())
