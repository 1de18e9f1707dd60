"""The rows of `Retrain_Jobs`, each of which belongs to the machine that runs it."""

from dataclasses import asdict
from functools import cached_property

from shoe_classifier.errors import RetrainRunning
from shoe_classifier.storage.supabase.records import Records
from shoe_classifier.storage.tables import RETRAIN_JOBS
from shoe_classifier.types import CANCELLING, RetrainJob, new_id

_LOST_SECONDS = 90.0  # without a report, after which a job counts as lost
_LOST = "The machine that ran this retrain has stopped. Its pictures stay for the next one."


class RetrainJobs(Records):
    """See `protocols.JobStore`."""

    @cached_property
    def _instance(self) -> str:
        return self._outbox.instance()

    def start_job(self, job: RetrainJob) -> bool:
        self.fail_unfinished_jobs(_LOST)
        return bool(self._client.rpc("start_retrain", job=asdict(job), instance=self._instance))

    def report_job(self, job: RetrainJob) -> bool:
        return bool(self._client.rpc("report_retrain", job=asdict(job), instance=self._instance))

    def finish_job(self, job: RetrainJob) -> None:
        if not self._client.rpc("finish_retrain", job=asdict(job), instance=self._instance):
            raise RetrainRunning(f"Expected job {job.job_id} to belong to this machine; it was marked as lost.")

    def request_cancel(self, job_id: str) -> None:
        query = self._client.table("Retrain_Jobs").update({"phase": CANCELLING}).eq("job_id", job_id)
        self._client.call(query.in_("state", ["queued", "running"]).execute)

    def jobs(self, limit: int, before: str | None) -> list[RetrainJob]:
        return self._rows.newest(RETRAIN_JOBS, limit, before)

    def job(self, job_id: str) -> RetrainJob | None:
        return self._rows.one(RETRAIN_JOBS, "job_id", job_id)

    def fail_unfinished_jobs(self, error: str) -> None:
        self._fail_jobs(self._instance, error)

    def fail_lost_jobs(self) -> None:
        self._fail_jobs(new_id(), _LOST)  # an id that no instance has

    def _fail_jobs(self, instance: str, reason: str) -> None:
        self._client.rpc("fail_lost_jobs", instance=instance, silent_seconds=_LOST_SECONDS, reason=reason)
