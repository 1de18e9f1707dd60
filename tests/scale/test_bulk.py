from pathlib import Path

import pytest

from helpers.bulk import predict, rows_of
from shoe_classifier.errors import AppError
from shoe_classifier.ml.live_model import LiveModelHolder, open_model_file
from shoe_classifier.settings import Settings

pytestmark = pytest.mark.usefixtures("small_shards")


def test_rows_equal_single_predictions(pictures: Path, tmp_path: Path, settings: Settings) -> None:
    (pictures / "bad.jpg").write_bytes(b"text")
    (pictures / "empty.jpg").touch()
    end = predict(settings, pictures, tmp_path / "out")
    assert (end.done, end.failed, end.earlier, end.job.shards) == (25, 2, 0, 5)
    assert "1 process of this machine, because RAY_ADDRESS names no cluster" in end.where
    holder = LiveModelHolder(settings.max_image_pixels)
    holder.swap(open_model_file(settings.live_model, trusted=True))
    rows = rows_of(tmp_path / "out")
    assert [row["path"] for row in rows] == sorted(p.relative_to(pictures).as_posix() for p in pictures.rglob("*.jpg"))
    for row in rows:
        try:
            expected = holder.predict((pictures / row["path"]).read_bytes(), row["path"])
        except AppError as error:
            assert (row["error"], row["label"], row["probabilities"]) == (error.detail, None, None)
            continue
        assert (row["label"], row["confidence"]) == (expected.predicted_class, expected.confidence)
        assert (row["decision"], row["probabilities"]) == (expected.decision, expected.probabilities)
        assert (row["model_version"], row["error"]) == (expected.model_version, None)
