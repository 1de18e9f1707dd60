"""Whether it is still good."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from shoe_classifier.api.schemas.predict import PREDICTION


class DriftBody(BaseModel):
    """How well a classifier tells recent pictures from held-out ones: `score` is its area under the ROC curve, about
    0.5 without a difference. `expected` holds 95 % of the scores without one."""

    score: float | None
    expected: tuple[float, float] | None
    raised: bool
    raised_from: float
    pictures: int
    detail: str
    measured_at: str | None


class FiguresBody(BaseModel):
    """Rates of all predictions, 0..1, and the accuracy of the `reviewed` ones that were drawn at random.

    An answer counts as right when it named the label that a person named, or `unknown` for none of the labels.
    """

    predictions: int
    unknown_rate: float | None
    uncertain_rate: float | None
    reviewed: int
    skipped: int
    accuracy: float | None
    accuracy_interval: tuple[float, float]


class DayBody(FiguresBody):
    day: str


class VersionFiguresBody(FiguresBody):
    version: str


_FIGURES: dict[str, Any] = {
    "predictions": 2100,
    "unknown_rate": 0.02143,
    "uncertain_rate": 0.06905,
    "reviewed": 20,
    "skipped": 1,
    "accuracy": 0.95,
    "accuracy_interval": [0.76387, 0.99113],
}


class MonitoringBody(FiguresBody):
    """Of the last `days`; days are in UTC, today included."""

    days: int
    drift: DriftBody
    by_day: list[DayBody]
    by_version: list[VersionFiguresBody]

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "days": 30,
                **_FIGURES,
                "drift": {
                    "score": 0.53,
                    "expected": [0.43, 0.57],
                    "raised": False,
                    "raised_from": 0.75,
                    "pictures": 200,
                    "detail": "Recent pictures are like those that were held out.",
                    "measured_at": "2026-11-22T03:51:00.000Z",
                },
                "by_day": [{"day": "2026-11-22", **_FIGURES}],
                "by_version": [{"version": PREDICTION["model_version"], **_FIGURES}],
            }
        }
    )
