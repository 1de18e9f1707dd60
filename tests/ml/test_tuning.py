import pickle
from pathlib import Path

import numpy as np
import pytest

from shoe_classifier.ml.batches import Share
from shoe_classifier.ml.tuning import Tuning


def tuning(pictures: int, latents: int) -> Tuning:
    def share(total: int) -> Share:
        return Share(np.zeros((total, 2)), np.zeros(total, np.int64), total)

    return Tuning(Path("live.h5"), share(pictures), share(latents), 0.1, 3, 100.0, "fingerprint", batch=10)


@pytest.mark.parametrize(("pictures", "latents", "steps"), [(600, 400, 50), (601, 418, 50), (10, 0, 20)])
def test_an_epoch_shows_all_and_a_small_one_has_steps_enough(pictures: int, latents: int, steps: int) -> None:
    assert tuning(pictures, latents).steps == steps


def test_it_can_be_sent_to_another_process() -> None:
    sent = pickle.loads(pickle.dumps(tuning(6, 4)))
    assert (sent.source, sent.fingerprint, sent.steps) == (Path("live.h5"), "fingerprint", 20)
    assert sent.pictures.total == 6
