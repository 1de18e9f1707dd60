"""Versions of the model, their trials and their exports."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from shoe_classifier.api.schemas.retrain import METRICS
from shoe_classifier.api.schemas.row import row
from shoe_classifier.ml.exports.parity import ParityReport
from shoe_classifier.types import ModelVersion

_VERSION = {
    "version": "20261122-040103-07bc",
    "sha256": "b1946ac92492d2347c6235b4d2611184b1946ac92492d2347c6235b4d2611184",
    "labels": ["Boot", "Sandal", "Shoe", "hat"],
    "metrics": METRICS,
    "parent": "20261122-034512-9f3a",
    "state": "live",
    "file_path": "versions/20261122-040103-07bc.h5",
    "created_at": "2026-11-22T04:01:03.300Z",
}
_SHADOW: dict[str, Any] = {
    "version": "20261122-040103-07bc",
    "live_version": "20261122-034512-9f3a",
    "wanted": 200,
    "seen": 200,
    "agreed": 191,
    "started_at": "2026-11-22T05:00:00.120Z",
    "running": False,
    "verdict": {"reviewed": 9, "shadow_right": 8, "live_right": 1, "p_value": 0.0391, "conclusion": "better"},
}
_PARITY: dict[str, Any] = {
    "runtime": "LiteRT 2.3.0",
    "stored": 612,
    "drawn": 1000,
    "label_changes": 0,
    "decision_changes": 0,
    "largest_difference": 7.1e-07,
    "mean_difference": 1.9e-07,
    "service_ms": 4.2,
    "export_ms": 4.2,
    "measured_at": "2026-11-22T05:00:00.120Z",
}
ModelBody = row("ModelBody", ModelVersion, _VERSION)
ParityBody = row("ParityBody", ParityReport, _PARITY)
ActivationBody = row(
    "ActivationBody",
    ModelVersion,
    {
        **_VERSION,
        "waiting": 300,
        "message": "Of the training pictures, 300 are not in this version; they wait for the next retrain.",
    },
    waiting=int,
    message=str,
)


class VerdictBody(BaseModel):
    """McNemar's test on reviewed disagreements. `p_value` is None while there are too few; `conclusion` is about the
    shadow.
    """

    reviewed: int
    shadow_right: int
    live_right: int
    p_value: float | None
    conclusion: Literal["too_few_reviewed", "no_difference", "better", "worse"]


class ShadowBody(BaseModel):
    """A version that answers live pictures silently: `seen` so far of `wanted`, `agreed` with the live version."""

    version: str
    live_version: str
    wanted: int
    seen: int
    agreed: int
    started_at: str
    running: bool
    verdict: VerdictBody

    model_config = ConfigDict(json_schema_extra={"example": _SHADOW})


OneModelBody = row(
    "OneModelBody",
    ModelVersion,
    {**_VERSION, "waiting": 0, "shadow": None},
    waiting=int,
    shadow=ShadowBody | None,
)
