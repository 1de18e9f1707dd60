"""Webhooks on this machine's disk that are still to be delivered."""

from dataclasses import dataclass
from pathlib import Path

from shoe_classifier.storage.sqlite.database import Database

_MIGRATIONS = (
    """
create table Deliveries (
    id text primary key, body text not null, attempts integer not null default 0, due_at real not null
) without rowid;
create index deliveries_due on Deliveries (due_at);
""",
    """
create table Attempts (id integer primary key, type text not null, at text not null, error text);
""",
)
_ATTEMPTS_KEPT = 10


@dataclass(frozen=True)
class Delivery:
    """A webhook to deliver. `attempts`: how often it was tried in vain."""

    id: str
    body: str
    attempts: int


@dataclass(frozen=True)
class Attempt:
    """A delivery that was tried: the `type` of its event, when, and why the receiver did not take it, or None."""

    type: str
    at: str
    error: str | None


class WebhookQueue:
    """Deliveries in one SQLite file, which survives a killed process and is shared by the workers of one machine.

    Args:
        path: the file.
        max_waiting: the most deliveries that wait; a further one is not taken.

    Raises:
        ConfigurationError: a newer release has written the file.
    """

    def __init__(self, path: Path, max_waiting: int):
        self._db = Database(path, _MIGRATIONS)
        self._max_waiting = max_waiting

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def add(self, delivery_id: str, body: str, due_at: float) -> bool:
        """Append a delivery; return False when too many wait already. `due_at` is Unix time, as in all methods."""
        if self.waiting() >= self._max_waiting:
            return False
        with self._db.transaction(durable=True) as db:
            db.execute("insert into Deliveries (id, body, due_at) values (?, ?, ?)", [delivery_id, body, due_at])
        return True

    def due(self, now: float) -> Delivery | None:
        """Return the delivery that has been due for longest."""
        query = "select id, body, attempts from Deliveries where due_at <= ? order by due_at, id limit 1"
        rows = self._db.select(query, now)
        return Delivery(**rows[0]) if rows else None

    def postpone(self, delivery_id: str, due_at: float) -> None:
        """Count an attempt in vain, and try again at `due_at`."""
        change = "update Deliveries set attempts = attempts + 1, due_at = ? where id = ?"
        self._db.execute(change, [due_at, delivery_id])

    def remove(self, delivery_id: str) -> None:
        """Forget a delivery."""
        self._db.execute("delete from Deliveries where id = ?", [delivery_id])

    def note(self, attempt: Attempt) -> None:
        """Keep an attempt in the place of the oldest one."""
        with self._db.transaction() as db:
            values = [attempt.type, attempt.at, attempt.error]
            db.execute("insert into Attempts (type, at, error) values (?, ?, ?)", values)
            db.execute("delete from Attempts where id <= (select max(id) from Attempts) - ?", [_ATTEMPTS_KEPT])

    def attempts(self) -> list[Attempt]:
        """Return the latest attempts of all workers, newest first."""
        return [Attempt(**row) for row in self._db.select("select type, at, error from Attempts order by id desc")]

    def waiting(self) -> int:
        """Return how many deliveries wait."""
        return int(self._db.select("select count(*) n from Deliveries")[0]["n"])
