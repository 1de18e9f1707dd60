"""How good predictions were: accuracy on what people reviewed at random, and how often the model was unsure."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from shoe_classifier.ml.evaluation import interval
from shoe_classifier.types import SKIPPED, Decision, DecisionCount, PredictionRecord


def figures_of(counts: list[DecisionCount], reviewed: list[PredictionRecord]) -> dict[str, Any]:
    """Rates of all predictions, and the accuracy of those that were drawn at random and answered."""
    total = sum(group.count for group in counts)
    judged = [row for row in reviewed if row.reviewed_label != SKIPPED]
    right = sum(map(is_right, judged))
    return {
        "predictions": total,
        "unknown_rate": _share_of(counts, "unknown", total),
        "uncertain_rate": _share_of(counts, "uncertain", total),
        "reviewed": len(judged),
        "skipped": len(reviewed) - len(judged),
        "accuracy": round(right / len(judged), 5) if judged else None,
        "accuracy_interval": interval(right, len(judged)),
    }


def figures_by(
    counts: list[DecisionCount],
    reviewed: list[PredictionRecord],
    group_of: Callable[[DecisionCount], str],
    row_group_of: Callable[[PredictionRecord], str],
) -> dict[str, dict[str, Any]]:
    """Return the figures of each group, by its name."""
    groups: dict[str, tuple[list[DecisionCount], list[PredictionRecord]]] = defaultdict(lambda: ([], []))
    for count in counts:
        groups[group_of(count)][0].append(count)
    for row in reviewed:
        groups[row_group_of(row)][1].append(row)
    return {name: figures_of(*group) for name, group in groups.items()}


def is_right(row: PredictionRecord) -> bool:
    """Whether a person agreed with a prediction. Of none of the labels, `unknown` is right; of a label, it is not."""
    if row.reviewed_label is None:
        return row.decision == "unknown"
    return row.decision != "unknown" and row.predicted_class == row.reviewed_label


def _share_of(counts: list[DecisionCount], decision: Decision, total: int) -> float | None:
    return round(sum(group.count for group in counts if group.decision == decision) / total, 5) if total else None
