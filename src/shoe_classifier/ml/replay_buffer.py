"""The replay buffer: samples of what was learned before, so that learning something new does not forget it.

The head learns from features; a full retrain starts from latents, the activations of a middle layer (Pellegrini et
al. 2020, "Latent Replay for Real-Time Continual Learning").
"""

from collections import defaultdict
from dataclasses import dataclass, replace
from heapq import heappush, heappushpop

import numpy as np


@dataclass(frozen=True)
class Capacity:
    """How many samples fit: `in_all` shared by all groups (see `ReplayBuffer.trimmed`), at most `per_group` in each."""

    in_all: int
    per_group: int

    def share(self, groups: int) -> int:
        """How many samples fit into each of so many groups."""
        return min(self.per_group, self.in_all // groups)


# Of the shipped samples and of those that users taught, which never displace the former: nothing else keeps these.
FEATURES, HELD_OUT_FEATURES = Capacity(4000, 500), Capacity(1600, 200)
TAUGHT_FEATURES, HELD_OUT_TAUGHT_FEATURES = Capacity(1000, 250), Capacity(300, 80)
LATENTS, HELD_OUT_LATENTS = Capacity(500, 70), Capacity(200, 30)  # 7 KB each, as are those of taught pictures
NO_LATENT = -1  # in `ReplayBuffer.latent_rows`


@dataclass(frozen=True)
class ReplayBuffer:
    """Samples, in columns.

    Attributes:
        features: `float16 (n, d)`.
        labels: `int16 (n,)`, indices into the list of labels, or `head.BACKGROUND`.
        held_out: `bool (n,)`, never learned from.
        photo: `bool (n,)`, pictures as users take them: the photos of the first training, and every retrain's.
        shipped: `bool (n,)`, learned in the first training; the others were taught by users.
        named: `bool (n,)`, whether the version that first had the sample named its label, as later ones should.
        keys: `uint64 (n,)`, see `keys_of`.
        latents: `int8 (m, h, w, c)`, -127..127, in steps of `latent_scale`.
        latent_rows: `int32 (n,)`, the row of each sample's latent in `latents`, or -1.
        latent_scale: the activation that one step of `latents` stands for.
    """

    features: np.ndarray
    labels: np.ndarray
    held_out: np.ndarray
    photo: np.ndarray
    shipped: np.ndarray
    named: np.ndarray
    keys: np.ndarray
    latents: np.ndarray
    latent_rows: np.ndarray
    latent_scale: float

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, keep: np.ndarray) -> "ReplayBuffer":
        """Choose samples, with their latents, by `bool (n,)` or by indices `int (k,)`."""
        rows = self.latent_rows[keep]
        kept = np.flatnonzero(rows != NO_LATENT)
        latent_rows = np.full(len(rows), NO_LATENT, np.int32)
        latent_rows[kept] = np.arange(len(kept))
        latents = self.latents[rows[kept]]
        return ReplayBuffer(
            self.features[keep],
            self.labels[keep],
            self.held_out[keep],
            self.photo[keep],
            self.shipped[keep],
            self.named[keep],
            self.keys[keep],
            latents,
            latent_rows,
            self.latent_scale,
        )

    @property
    def has_latent(self) -> np.ndarray:
        """`bool (n,)`."""
        return self.latent_rows != NO_LATENT

    def float_latents(self) -> np.ndarray:
        """The latents of the samples that have one, in sample order, as activations `float32 (m, h, w, c)`."""
        return self.latents[self.latent_rows[self.has_latent]].astype(np.float32) * self.latent_scale

    def add(self, other: "ReplayBuffer") -> "ReplayBuffer":
        """Join two buffers and drop what does not fit."""
        return self.joined(other).trimmed()

    def joined(self, other: "ReplayBuffer") -> "ReplayBuffer":
        """Join two buffers; a sample of `other` replaces the one with the same key. Keeps this one's `latent_scale`."""
        old = self[~np.isin(self.keys, other.keys)]
        shifted = np.where(other.has_latent, other.latent_rows + len(old.latents), NO_LATENT).astype(np.int32)
        ratio = other.latent_scale / self.latent_scale
        rescaled = other.latents if ratio == 1 else to_steps(other.latents.astype(np.float32), 1 / ratio)
        return ReplayBuffer(
            np.concatenate([old.features, other.features]),
            np.concatenate([old.labels, other.labels]),
            np.concatenate([old.held_out, other.held_out]),
            np.concatenate([old.photo, other.photo]),
            np.concatenate([old.shipped, other.shipped]),
            np.concatenate([old.named, other.named]),
            np.concatenate([old.keys, other.keys]),
            np.concatenate([old.latents, rescaled]),
            np.concatenate([old.latent_rows, shifted]),
            self.latent_scale,
        )

    def trimmed(self) -> "ReplayBuffer":
        """Keep a fair share of each group: the photos of each label, and its other pictures, shipped and taught apart.

        Within a group the keys decide. They are parts of hashes, so this is a uniform sample, and always the same one:
        buffers of parts, trimmed and added in any grouping, end as the buffer of the whole.
        """
        groups = self.labels.astype(np.int64) * 2 + self.photo
        order = np.argsort(rank(self.keys), kind="stable")
        kept, with_latent = [np.arange(0)], [np.arange(0)]
        for shipped, held_out in ((True, False), (True, True), (False, False), (False, True)):
            mine = order[(self.shipped[order] == shipped) & (self.held_out[order] == held_out)]
            features, latents = _capacities(shipped=shipped, held_out=held_out)
            shares = max(1, len(np.unique(groups[self.shipped == shipped])))
            for group in np.unique(groups[mine]):
                members = mine[groups[mine] == group]
                kept.append(members[: features.share(shares)])
                with_latent.append(members[self.has_latent[members]][: latents.share(shares)])
        rows = np.full(len(self), NO_LATENT, np.int32)
        latent_samples = np.concatenate(with_latent)
        rows[latent_samples] = self.latent_rows[latent_samples]
        return replace(self, latent_rows=rows)[np.unique(np.concatenate(kept + with_latent))]


def _capacities(*, shipped: bool, held_out: bool) -> tuple[Capacity, Capacity]:
    """For features, and for latents."""
    if shipped:
        return (HELD_OUT_FEATURES, HELD_OUT_LATENTS) if held_out else (FEATURES, LATENTS)
    return (HELD_OUT_TAUGHT_FEATURES, HELD_OUT_LATENTS) if held_out else (TAUGHT_FEATURES, LATENTS)


def keys_of(hashes: list[str]) -> np.ndarray:
    """SHA-256 digests, hexadecimal, to keys: their first 8 bytes, `uint64 (n,)`."""
    return np.array([int(value[:16], 16) for value in hashes], np.uint64)


def rank(keys: np.ndarray) -> np.ndarray:
    """Fibonacci hashing of `uint64 (n,)`: an order without regard to the hold-out, which the same bytes decide."""
    ranks: np.ndarray = keys * np.uint64(0x9E3779B97F4A7C15)
    return ranks


def to_steps(latents: np.ndarray, scale: float) -> np.ndarray:
    """Activations of any shape to `int8`, -127..127; what is beyond is clipped."""
    return np.clip(np.rint(latents / scale), -127, 127).astype(np.int8)


class ReplayBufferBuilder:
    """Collects samples one by one. It keeps no more latents of each label than a buffer has room for."""

    def __init__(self, latent_scale: float):
        self._scale = latent_scale
        self._features: list[np.ndarray] = []
        self._latents: list[np.ndarray] = []
        self._rows: list[int] = []
        self._kept: defaultdict[tuple[int, bool], list[tuple[int, int]]] = defaultdict(list)

    def add(self, features: np.ndarray, latent: np.ndarray, label: int, held_out: bool, key: int) -> None:
        """Add one sample: features `float32 (d,)`, latent `float32 (h, w, c)`, and the key that `build` is given."""
        self._features.append(features.astype(np.float16))
        row = self._row_for(len(self._rows), label, held_out, key)
        self._rows.append(row)
        if row != NO_LATENT:
            self._latents[row : row + 1] = [to_steps(latent, self._scale)]

    def _row_for(self, sample: int, label: int, held_out: bool, key: int) -> int:
        """Where the latent of a sample goes. Of a full group, those stay that `ReplayBuffer.trimmed` would keep."""
        kept = self._kept[label, held_out]  # a heap, with the sample that would go next on top
        entry = (-int(rank(np.array([key], np.uint64))[0]), sample)
        if len(kept) < (HELD_OUT_LATENTS if held_out else LATENTS).per_group:
            heappush(kept, entry)
            return len(self._latents)
        dropped = heappushpop(kept, entry)[1]
        if dropped == sample:
            return NO_LATENT
        row, self._rows[dropped] = self._rows[dropped], NO_LATENT
        return row

    def build(
        self, labels: np.ndarray, held_out: np.ndarray, keys: np.ndarray, *, photo: bool, shipped: bool = False
    ) -> ReplayBuffer:
        """The buffer of all samples, at least one.

        Args:
            labels: `int (n,)`, in the order in which the samples were added, as are the next two.
            held_out: `bool (n,)`.
            keys: `uint64 (n,)`.
            photo: whether they all are photos.
            shipped: whether they all belong to the first training.
        """
        return ReplayBuffer(
            np.stack(self._features),
            labels.astype(np.int16),
            held_out,
            np.full(len(labels), photo),
            np.full(len(labels), shipped),
            np.zeros(len(labels), bool),  # until a head was fitted
            keys,
            np.stack(self._latents),
            np.array(self._rows, np.int32),
            self._scale,
        )
