"""What the tuning of a full retrain learns from, wherever it runs."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shoe_classifier.ml.batches import Share
from shoe_classifier.types import Report


@dataclass(frozen=True)
class Tuning:
    """New pictures and the latents of what was learned before. It can be sent to another process.

    Attributes:
        source: the live model's file.
        pictures: at the network's own size; their label `classes` stands for negatives.
        latents: `int8 (m, h, w, c)`, in steps of `latent_scale`, labelled as the pictures are.
        latent_scale: the activation that one step of the latents stands for.
        classes: number of labels, old and new, without the negatives.
        deadline: `time.monotonic()` at which the tuning ends.
        fingerprint: of all this. A checkpoint of another tuning is not taken over.
        checkpoint: file from which a tuning that was killed goes on after its last whole epoch.
        epochs: passes over pictures and latents, about.
        batch: pictures, and latents, of one step, of all workers together.
    """

    source: Path
    pictures: Share
    latents: Share
    latent_scale: float
    classes: int
    deadline: float
    fingerprint: str
    checkpoint: Path | None = None
    epochs: int = 6
    batch: int = 64

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return max(20, (self.pictures.total + self.latents.total) // (2 * self.batch))


Tune = Callable[[Any, Tuning, Report], None]  # tunes the upper layers of the Keras model of `source`, in place
