"""What a candidate does worse than the live model, for people who decide whether to publish it all the same."""

from typing import Any

from shoe_classifier.ml.gate import GateEvidence

_LISTED_CONFUSIONS = 12  # pairs of labels


def what_got_worse(evidence: GateEvidence, reasons: list[str]) -> dict[str, Any]:
    """Compare a candidate with the live model on the pictures that were held out before the retrain.

    Args:
        reasons: why the gate rejects the candidate.

    Returns:
        `reasons`; `labels` whose recall fell, the largest loss first: `label`, `support`, `before`, `after`, 0..1;
        `confusions` that are more frequent than before: `label`, `predicted_class`, and their numbers `before` and
        `after`; `mistakes` of the candidate, the most confident first, that are not among those of the live model (see
        `evaluation.evaluate`).
    """
    before, after = evidence.baseline, evidence.retained
    known = [mistake["picture"] for mistake in before.get("mistakes", [])]
    return {
        "reasons": list(reasons),
        "labels": _lost_labels(before, after),
        "confusions": _confusions(before, after),
        "mistakes": [mistake for mistake in after.get("mistakes", []) if mistake["picture"] not in known],
    }


def _lost_labels(before: dict[str, Any], after: dict[str, Any]) -> list[dict[str, Any]]:
    rows = [
        {
            "label": name,
            "support": figures["support"],
            "before": figures["recall"],
            "after": after["per_class"][name]["recall"],
        }
        for name, figures in before["per_class"].items()
        if after["per_class"][name]["recall"] < figures["recall"]
    ]
    return sorted(rows, key=lambda row: row["after"] - row["before"])


def _confusions(before: dict[str, Any], after: dict[str, Any]) -> list[dict[str, Any]]:
    """New labels are columns of which the live model knows nothing: it never named them."""
    known = len(before["labels"])
    rows = []
    for label in range(known):
        for predicted, count in enumerate(after["confusion_matrix"][label]):
            earlier = before["confusion_matrix"][label][predicted] if predicted < known else 0
            if predicted != label and count > earlier:
                names = {"label": after["labels"][label], "predicted_class": after["labels"][predicted]}
                rows.append({**names, "before": earlier, "after": count})
    return sorted(rows, key=lambda row: row["before"] - row["after"])[:_LISTED_CONFUSIONS]
