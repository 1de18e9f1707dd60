from pathlib import Path

import keras

from shoe_classifier.ml.checkpoint import Checkpoint


def test_a_checkpoint_of_another_training_or_a_damaged_one_is_not_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    kept, fresh = keras.Variable([1.0, 2.0]), keras.Variable([0.0, 0.0])
    assert Checkpoint(path, "a").restore([fresh]) == 0
    Checkpoint(path, "a").save([kept], 3)
    assert Checkpoint(path, "b").restore([fresh]) == 0
    assert fresh.numpy().tolist() == [0.0, 0.0]
    assert Checkpoint(path, "a").restore([fresh]) == 3
    assert fresh.numpy().tolist() == [1.0, 2.0]
    path.write_bytes(path.read_bytes()[:100])
    assert Checkpoint(path, "a").restore([fresh]) == 0
