"""Retrain jobs."""

from typing import Any

from pydantic import computed_field

from shoe_classifier.api.schemas.row import row
from shoe_classifier.types import RetrainJob

METRICS: dict[str, Any] = {
    "accuracy": 0.985,
    "macro_f1": 0.985,
    "ece": 0.006,
    "samples": 900,
    "labels": ["Boot", "Sandal", "Shoe"],
    "per_class": {"Boot": {"precision": 0.99, "recall": 0.98, "f1": 0.985, "support": 300}},
    "confusion_matrix": [[294, 1, 5], [2, 296, 2], [4, 1, 295]],
}
JOB: dict[str, Any] = {
    "job_id": "019a8f70-11aa-7c3e-8f00-5d2f4f8f3f10",
    "state": "published",
    "mode": "quick",
    "phase": "published",
    "progress": 1.0,
    "message": "Accuracy 97.8 % on 936 test pictures; on the earlier 900 test pictures: 98.2 %, was 98.5 %.",
    "epoch": None,
    "epochs": None,
    "loss": None,
    "samples": 240,
    "labels": ["Boot", "Sandal", "Shoe", "hat"],
    "metrics": METRICS,
    "baseline": METRICS,
    "model_version": "20261122-040103-07bc",
    "error": None,
    "force": False,
    "seconds_left": 0.0,
    "created_at": "2026-11-22T04:01:00.120Z",
    "started_at": "2026-11-22T04:01:00.121Z",
    "finished_at": "2026-11-22T04:01:03.480Z",
}


class JobBody(row("JobRow", RetrainJob, JOB)):  # type: ignore[misc] # a model that is made at run time
    """A retrain job. `issues_url` lists what is suspect among the pictures of a rejected one."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def issues_url(self) -> str | None:
        rejected = self.state == "rejected"
        return f"/training-data/issues?learnt=false&until={self.started_at}" if rejected else None
