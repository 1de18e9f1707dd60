import pytest

from shoe_classifier.services.prediction_figures import is_right
from shoe_classifier.types import Decision, PredictionRecord, utc_now


@pytest.mark.parametrize(
    ("decision", "said", "right"),
    [
        ("accepted", "Boot", True),
        ("uncertain", "Boot", True),
        ("accepted", "Shoe", False),
        ("accepted", None, False),
        ("unknown", None, True),
        ("unknown", "Boot", False),
    ],
)
def test_what_counts_as_right(decision: Decision, said: str | None, right: bool) -> None:
    row = PredictionRecord("1", None, "Boot", 0.9, decision, {"Boot": 0.9}, "v1", 1.0, utc_now(), said, utc_now())
    assert is_right(row) == right
