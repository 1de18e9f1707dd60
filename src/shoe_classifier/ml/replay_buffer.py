"""The replay memory: what stands in for pictures learnt before, so that learning something new forgets nothing.

Features are for the head, latents (activations of a middle layer) for a full retrain: Pellegrini et al. 2020,
"Latent Replay for Real-Time Continual Learning".
"""

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Capacity:
    """How many samples fit: `in_all` shared by the groups (see `ReplayBuffer.trimmed`), and at most `per_group`."""

    in_all: int
    per_group: int

    def share(self, groups: int) -> int:
        return min(self.per_group, self.in_all // groups)


FEATURES, HELD_OUT_FEATURES = Capacity(6000, 600), Capacity(3000, 300)
LATENTS, HELD_OUT_LATENTS = Capacity(2400, 300), Capacity(1200, 150)  # 5 KB each
_NO_LATENT = -1


@dataclass(frozen=True)
class ReplayBuffer:
    """Samples, in columns.

    Attributes:
        features: `float16 (n, d)`.
        labels: `int16 (n,)`, places in the list of labels, or `BACKGROUND`.
        held_out: `bool (n,)`.
        photo: `bool (n,)`, as users take pictures: the few photos of the first training, and all that was taught.
        keys: `uint64 (n,)`, the first 8 bytes of each picture's SHA-256.
        latents: `int8 (m, h, w, c)`, in steps of `latent_scale`.
        latent_rows: `int32 (n,)`, the place of each sample's latent, or -1.
    """

    features: np.ndarray
    labels: np.ndarray
    held_out: np.ndarray
    photo: np.ndarray
    keys: np.ndarray
    latents: np.ndarray
    latent_rows: np.ndarray
    latent_scale: float

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, keep: np.ndarray) -> "ReplayBuffer":
        rows = self.latent_rows[keep]
        kept = np.flatnonzero(rows != _NO_LATENT)
        latent_rows = np.full(len(rows), _NO_LATENT, np.int32)
        latent_rows[kept] = np.arange(len(kept))
        latents = self.latents[rows[kept]]
        return ReplayBuffer(
            self.features[keep],
            self.labels[keep],
            self.held_out[keep],
            self.photo[keep],
            self.keys[keep],
            latents,
            latent_rows,
            self.latent_scale,
        )

    @property
    def has_latent(self) -> np.ndarray:
        return self.latent_rows != _NO_LATENT

    def float_latents(self) -> np.ndarray:
        """The latents of the samples that have one, in sample order, as `float32`."""
        return self.latents[self.latent_rows[self.has_latent]].astype(np.float32) * self.latent_scale

    def add(self, other: "ReplayBuffer") -> "ReplayBuffer":
        """Join two memories and forget what is too much."""
        return self.joined(other).trimmed()

    def joined(self, other: "ReplayBuffer") -> "ReplayBuffer":
        """Join two memories; a sample of `other` with a known key takes the old one's place."""
        old = self[~np.isin(self.keys, other.keys)]
        shifted = np.where(other.has_latent, other.latent_rows + len(old.latents), _NO_LATENT).astype(np.int32)
        ratio = other.latent_scale / self.latent_scale
        rescaled = other.latents if ratio == 1 else _to_steps(other.latents.astype(np.float32), 1 / ratio)
        return ReplayBuffer(
            np.concatenate([old.features, other.features]),
            np.concatenate([old.labels, other.labels]),
            np.concatenate([old.held_out, other.held_out]),
            np.concatenate([old.photo, other.photo]),
            np.concatenate([old.keys, other.keys]),
            np.concatenate([old.latents, rescaled]),
            np.concatenate([old.latent_rows, shifted]),
            self.latent_scale,
        )

    def trimmed(self) -> "ReplayBuffer":
        """Keep a fair share of each group: of each label, those that are photos, and those that are not.

        The keys decide, as a hash does: a uniform sample, the same each time.
        """
        groups = self.labels.astype(np.int64) * 2 + self.photo
        shares = max(1, len(np.unique(groups)))
        order = np.argsort(
            self.keys * np.uint64(0x9E3779B97F4A7C15), kind="stable"
        )  # another order than the hold-out's
        kept, with_latent = [np.arange(0)], [np.arange(0)]
        for group in np.unique(groups):
            for held_out in (False, True):
                features, latents = (HELD_OUT_FEATURES, HELD_OUT_LATENTS) if held_out else (FEATURES, LATENTS)
                members = order[(groups[order] == group) & (self.held_out[order] == held_out)]
                kept.append(members[: features.share(shares)])
                with_latent.append(members[self.has_latent[members]][: latents.share(shares)])
        rows = np.full(len(self), _NO_LATENT, np.int32)
        latent_samples = np.concatenate(with_latent)
        rows[latent_samples] = self.latent_rows[latent_samples]
        return replace(self, latent_rows=rows)[np.unique(np.concatenate(kept + with_latent))]


def _to_steps(latents: np.ndarray, scale: float) -> np.ndarray:
    return np.clip(np.rint(latents / scale), -127, 127).astype(np.int8)


class ReplayBufferBuilder:
    """Collects samples one by one. Of each label it keeps no more latents than a memory has room for."""

    def __init__(self, latent_scale: float):
        self._scale = latent_scale
        self._features: list[np.ndarray] = []
        self._latents: list[np.ndarray] = []
        self._rows: list[int] = []
        self._kept: Counter[tuple[int, bool]] = Counter()

    def record(self, features: np.ndarray, latent: np.ndarray, label: int, held_out: bool) -> None:
        """Take one sample: features `(d,)` and latent `(h, w, c)`, `float32`."""
        self._features.append(features.astype(np.float16))
        room = HELD_OUT_LATENTS if held_out else LATENTS
        if self._kept[label, held_out] < room.per_group:
            self._kept[label, held_out] += 1
            self._rows.append(len(self._latents))
            self._latents.append(_to_steps(latent, self._scale))
        else:
            self._rows.append(_NO_LATENT)

    def memory(self, labels: np.ndarray, held_out: np.ndarray, keys: np.ndarray, *, photo: bool) -> ReplayBuffer:
        """The memory of what was recorded; labels, `held_out` and keys `(n,)` in the same order, at least one."""
        return ReplayBuffer(
            np.stack(self._features),
            labels.astype(np.int16),
            held_out,
            np.full(len(labels), photo),
            keys,
            np.stack(self._latents),
            np.array(self._rows, np.int32),
            self._scale,
        )
