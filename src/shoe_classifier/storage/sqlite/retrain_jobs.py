"""The rows of `Retrain_Jobs`."""

from shoe_classifier.storage.sqlite.model_versions import make_live
from shoe_classifier.storage.sqlite.records import Records, insert
from shoe_classifier.storage.tables import RETRAIN_JOBS
from shoe_classifier.types import CANCELLING, FINISHED, RetrainJob, utc_now


class RetrainJobs(Records):
    """See `protocols.JobStore`."""

    def start_job(self, job: RetrainJob) -> bool:
        with self._db.transaction() as db:
            return insert(db, RETRAIN_JOBS, job)

    def report_job(self, job: RetrainJob) -> bool:
        with self._db.transaction() as db:
            found = db.execute("select state, phase from Retrain_Jobs where job_id = ?", [job.job_id]).fetchone()
            if found and (found["phase"] == CANCELLING or found["state"] in FINISHED):
                return False
            return insert(db, RETRAIN_JOBS, job, "insert or replace")

    def finish_job(self, job: RetrainJob) -> None:
        with self._db.transaction(durable=True) as db:
            insert(db, RETRAIN_JOBS, job, "insert or replace")
            if job.state == "published" and job.model_version:
                make_live(db, job.model_version)

    def request_cancel(self, job_id: str) -> None:
        change = "update Retrain_Jobs set phase = ? where job_id = ? and state in ('queued', 'running')"
        with self._db.transaction() as db:
            db.execute(change, [CANCELLING, job_id])

    def jobs(self, limit: int, before: str | None) -> list[RetrainJob]:
        return self._page(RETRAIN_JOBS, limit, before)

    def job(self, job_id: str) -> RetrainJob | None:
        return self._one(RETRAIN_JOBS, "job_id", job_id)

    def fail_unfinished_jobs(self, error: str) -> None:
        change = (
            "update Retrain_Jobs set state = 'failed', phase = 'failed', error = ?, message = ?, finished_at = ?"
            " where state in ('queued', 'running')"
        )
        with self._db.transaction() as db:
            db.execute(change, [error, error, utc_now()])

    def fail_lost_jobs(self) -> None:
        pass
