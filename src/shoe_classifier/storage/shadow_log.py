"""Which version answers live pictures silently on this machine, and where it disagreed with the live one."""

from dataclasses import dataclass
from pathlib import Path

from shoe_classifier.storage.sqlite.database import Database

_MIGRATIONS = (
    """
create table Runs (
    version text primary key, live_version text not null, wanted integer not null, seen integer not null default 0,
    agreed integer not null default 0, started_at text not null
) without rowid;
create table Disagreements (
    prediction_id text primary key, live_label text, shadow_label text
) without rowid;
""",
)
_MOST_DISAGREEMENTS = 500  # kept for review; further ones are only counted


@dataclass(frozen=True)
class ShadowRun:
    """A version that runs as shadow of the live one.

    Attributes:
        version, live_version: which ones are compared.
        wanted: how many predictions it is to answer.
        seen, agreed: how many it has answered, and how many of them as the live version did.
        started_at: see `types.utc_now`.
    """

    version: str
    live_version: str
    wanted: int
    seen: int
    agreed: int
    started_at: str

    @property
    def running(self) -> bool:
        return self.seen < self.wanted


@dataclass(frozen=True)
class Disagreement:
    """A prediction with both answers; None stands for `unknown`."""

    prediction_id: str
    live_label: str | None
    shadow_label: str | None


class ShadowLog:
    """One run in one SQLite file, which survives a restart and is shared by the workers of one machine.

    Raises:
        ConfigurationError: a newer release has written the file.
    """

    def __init__(self, path: Path):
        self._db = Database(path, _MIGRATIONS)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def begin(self, version: str, live_version: str, wanted: int, started_at: str) -> None:
        """Begin a run; what an earlier one has found is deleted."""
        with self._db.transaction(durable=True) as db:
            db.execute("delete from Runs")
            db.execute("delete from Disagreements")
            values = [version, live_version, wanted, started_at]
            db.execute("insert into Runs (version, live_version, wanted, started_at) values (?, ?, ?, ?)", values)

    def end(self) -> None:
        """Delete the run, and what it has found."""
        with self._db.transaction(durable=True) as db:
            db.execute("delete from Runs")
            db.execute("delete from Disagreements")

    def run(self) -> ShadowRun | None:
        """Return the run that was begun last, finished or not."""
        rows = self._db.select("select version, live_version, wanted, seen, agreed, started_at from Runs")
        return ShadowRun(**rows[0]) if rows else None

    def add(self, version: str, answers: Disagreement) -> None:
        """Count a pair of answers of a run that still wants some, and keep it if they disagree."""
        agrees = answers.live_label == answers.shadow_label
        count = "update Runs set seen = seen + 1, agreed = agreed + ? where version = ? and seen < wanted"
        room = f"(select count(*) from Disagreements) < {_MOST_DISAGREEMENTS}"
        keep = f"insert into Disagreements select ?, ?, ? where {room}"
        with self._db.transaction() as db:
            if db.execute(count, [agrees, version]).rowcount and not agrees:
                db.execute(keep, [answers.prediction_id, answers.live_label, answers.shadow_label])

    def disagreements(self) -> list[Disagreement]:
        """Return the predictions that were answered differently, newest first."""
        query = "select prediction_id, live_label, shadow_label from Disagreements order by prediction_id desc"
        return [Disagreement(**row) for row in self._db.select(query)]
