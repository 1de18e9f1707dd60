from pathlib import Path

import numpy as np
import pytest

from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml.label_changes import kept_outputs, names_of, present_answers, present_labels, take_over

FIXTURES = Path(__file__).parent.parent / "fixtures"


@pytest.mark.parametrize(
    ("changes", "names", "outputs"),
    [
        ([], ["a", "b", "c"], [0, 1, 2]),
        ([("a", "x")], ["x", "b", "c"], [0, 1, 2]),
        ([("a", "x"), ("x", "y")], ["y", "b", "c"], [0, 1, 2]),
        ([("a", "x"), ("x", "a")], ["a", "b", "c"], [0, 1, 2]),
        ([("a", "c")], ["c", "b", "c"], [1, 2]),  # the place of the one merged into
        ([("a", "x"), ("b", "x")], ["x", "x", "c"], [0, 2]),
        ([("b", None)], ["a", None, "c"], [0, 2]),
        ([("b", "c"), ("c", None)], ["a", None, None], [0]),
        ([("new", "a")], ["a", "b", "c"], [0, 1, 2]),  # a label that this model never had
    ],
)
def test_names_follow_all_changes(
    changes: list[tuple[str, str | None]], names: list[str | None], outputs: list[int]
) -> None:
    assert names_of(["a", "b", "c"], changes) == names
    assert kept_outputs(["a", "b", "c"], names) == outputs
    assert present_labels(["a", "b", "c"], names) == [names[output] for output in outputs]


@pytest.mark.parametrize("file", ["shapes.h5", "shapes_format2.h5"])
def test_samples_and_head_follow_their_labels(file: str) -> None:
    path = FIXTURES / file
    live, buffer = bundles.read(path), bundles.read_replay_buffer(path)
    bundle, moved = take_over(live, buffer, ["Boot", None, "triangle"])
    assert bundle.labels == ("Boot", "triangle")
    assert len(moved) == int((buffer.labels != 1).sum())
    assert int((moved.labels == 1).sum()) == int((buffer.labels == 2).sum())
    assert int((moved.labels == -1).sum()) == int((buffer.labels == -1).sum())
    features = moved.features.astype(np.float32)
    assert np.allclose(bundle.head.logits(features), live.head.logits(features)[:, [0, 2]])
    assert len(bundle.head.decide(features, bundle.head.probabilities(features))) == len(moved)


def test_merged_samples_have_one_label() -> None:
    path = FIXTURES / "shapes.h5"
    live, buffer = bundles.read(path), bundles.read_replay_buffer(path)
    bundle, moved = take_over(live, buffer, ["Shoe", "Sandal", "Shoe"])
    assert bundle.labels == ("Sandal", "Shoe")
    assert int((moved.labels == 1).sum()) == int(np.isin(buffer.labels, [0, 2]).sum())
    assert bundle.head.unknown_thresholds[1] == min(live.head.unknown_thresholds[[0, 2]])


@pytest.mark.parametrize("file", ["shapes.h5", "shapes_format2.h5"])
@pytest.mark.parametrize("names", [["Shoe", "Sandal", "Shoe"], ["x", None, "x"], ["a", "a", "a"], ["x", "y", "z"]])
def test_present_answers_are_those_of_the_model_by_their_present_names(file: str, names: list[str | None]) -> None:
    live, buffer = bundles.read(FIXTURES / file), bundles.read_replay_buffer(FIXTURES / file)
    answers = present_answers(live, names)
    assert answers.labels == tuple(present_labels(live.labels, names))
    stay = [output for output, name in enumerate(names) if name]
    features = buffer.features[np.isin(buffer.labels, [-1, *stay])].astype(np.float32)
    said = [names[stay[output]] for output in live.head.logits(features)[:, stay].argmax(axis=1)]
    probabilities = answers.head.probabilities(features)
    assert [answers.labels[output] for output in probabilities.argmax(axis=1)] == said
    assert np.allclose(probabilities.sum(axis=1), 1)
    if None not in names:
        decisions = live.head.decide(features, live.head.probabilities(features))
        assert answers.head.decide(features, probabilities) == decisions
