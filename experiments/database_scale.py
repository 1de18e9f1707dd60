"""Time and plan of each query that the service makes, on many rows.

    python experiments/database_scale.py [--store sqlite] [--predictions 10000000] [--pictures 1000000]

A throwaway PostgreSQL behind a PostgREST, as in the tests (`make test-supabase` installs both), or a SQLite file, is
filled with predictions of 100 days and training pictures. Then the store of the service is called as the service calls
it. For each call: milliseconds in the database, milliseconds until the answer was here, and what was scanned. A call is
made six times first, because PostgreSQL may then change to a plan that does not know the values.
"""

import argparse
import json
import re
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple, TextIO
from uuid import UUID

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from helpers.service import make_settings
from helpers.supabase_stack import MIGRATIONS, Stack, token
from shoe_classifier.storage.protocols import Store
from shoe_classifier.storage.sqlite.store import SqliteStore
from shoe_classifier.storage.supabase.outbox import RELEASED
from shoe_classifier.storage.supabase.store import SupabaseStore
from shoe_classifier.storage.tables import MODEL_VERSIONS, PREDICT, TRAINING_DATA
from shoe_classifier.types import (
    EVERY_PICTURE,
    EVERY_PREDICTION,
    QUEUED_KINDS,
    LabelChange,
    ModelVersion,
    PredictionFilter,
    PredictionRecord,
    Split,
    TrainingFilter,
    TrainingPicture,
    new_id,
    to_iso,
    utc_now,
)

DAYS, VERSIONS, CHUNK, WARM = 100, 20, 50_000, 6
FIRST_ID, LAST_ID = str(UUID(int=0)), str(UUID(int=(1 << 128) - 1))
LABELS = [f"label-{number}" for number in range(50)]
NOW = datetime.now(UTC)
EXPLAIN = "".join(
    f"alter database postgres set {name} = '{value}';"
    for name, value in {
        "session_preload_libraries": "auto_explain",
        "auto_explain.log_min_duration": 0,
        "auto_explain.log_analyze": "on",
        "auto_explain.log_timing": "off",
        "auto_explain.log_nested_statements": "on",
        "auto_explain.log_format": "json",
    }.items()
)
PLAN = re.compile(r"duration: ([\d.]+) ms  plan:\n((?:\t.*\n)+)")


DROP_INDEXES = """
do $$ declare name text; begin
    for name in select indexrelid::regclass::text from pg_index
        where indrelid in ('public."Predict"'::regclass, 'public."Training_Data"'::regclass) and not indisunique
    loop execute 'drop index public.' || name; end loop;
end $$
"""
LEARN = f"""
insert into "Learned_Pictures" (version, training_id)
    select 'v' || substr(cast(99 + ntile({VERSIONS}) over (order by id) as text), 2), id
        from "Training_Data" where is_processed
"""
SIZES = """
select relname || ': ' || pg_size_pretty(pg_relation_size(oid)) from pg_class
    where relnamespace = 'public'::regnamespace and relkind in ('r', 'i') and pg_relation_size(oid) > 1e6
    order by pg_relation_size(oid) desc
"""
Call = Callable[[], object]


class Statement(NamedTuple):
    """What a database did for a call: milliseconds, which SQLite does not tell (0), and what it scanned."""

    milliseconds: float
    scans: list[str]


Observer = Callable[[], list[Statement]]  # the statements since it was last asked


def main() -> None:
    """Fill a store, call it, and print the table."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="database-scale-") as folder:
        measure = _measure_sqlite if options.store == "sqlite" else _measure_supabase
        measure(Path(folder), options.predictions, options.pictures)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", choices=["supabase", "sqlite"], default="supabase")
    parser.add_argument("--predictions", type=int, default=10_000_000)
    parser.add_argument("--pictures", type=int, default=1_000_000)
    return parser.parse_args()


# ------------------------------------------------------------ rows


def _predictions(total: int) -> Iterator[PredictionRecord]:
    """Oldest first; the newest tenth with pictures, a hundredth drawn at random, of which one in ten was reviewed."""
    for number in range(total):
        moment, row_id = _moment(number, total)
        label, drawn, kept = _label(number), number % 100 == 7, number >= total * 0.9
        reviewed = number % 1000 == 107
        yield PredictionRecord(
            id=row_id,
            image_path=f"images/{number % 256:02x}/{number:064x}.jpg" if kept else None,
            predicted_class=label,
            confidence_score=0.93,
            decision="uncertain" if number % 33 == 0 else "unknown" if number % 50 == 0 else "accepted",
            probabilities={label: 0.93, "second": 0.04, "third": 0.03},
            model_version=f"v{number * VERSIONS // total:02}",
            response_time=2.5,
            created_at=moment,
            reviewed_label=label if reviewed else None,
            reviewed_at=moment if reviewed else None,
            review_kind="random" if drawn else None,
            image_bytes=49_000 if kept else None,
        )


def _pictures(total: int) -> Iterator[TrainingPicture]:
    """Oldest first; the newest hundredth waits to be learned."""
    for number in range(total):
        moment, row_id = _moment(number, total)
        sha256 = f"{number + (1 << 60):064x}"
        split: Split = "holdout" if number % 7 == 0 else "train"
        path, learned = f"images/{number % 256:02x}/{sha256}.jpg", number < total * 0.99
        yield TrainingPicture(row_id, path, sha256, _label(number), learned, split, "zip", row_id, moment)


def _versions() -> Iterator[ModelVersion]:
    """Each has learned a twentieth of the pictures; the last is live."""
    names = [f"v{number:02}" for number in range(VERSIONS)]
    for parent, name in zip([None, *names], names, strict=False):
        state = "live" if name == names[-1] else "archived"
        yield ModelVersion(name, f"sha-{name}", LABELS, None, parent, state, f"versions/{name}.h5", utc_now())


def _label(number: int) -> str:
    return LABELS[number * number % 997 % len(LABELS)]


def _moment(number: int, total: int) -> tuple[str, str]:
    """The time of a row and its id, a UUIDv7."""
    moment = NOW - timedelta(days=DAYS * (1 - number / total))
    digits = f"{int(moment.timestamp() * 1000):012x}"
    return to_iso(moment), f"{digits[:8]}-{digits[8:]}-7000-8000-{number:012x}"


def _chunks(rows: Iterable[Any], size: int) -> Iterator[list[Any]]:
    source = iter(rows)
    while chunk := list(islice(source, size)):
        yield chunk


# ------------------------------------------------------------ calls


def _calls(store: Store, predictions: int, pictures: int) -> Iterator[tuple[str, Call]]:
    """What the service asks a store, by name."""
    month = NOW - timedelta(days=30)
    some_label, some_version = LABELS[4], f"v{VERSIONS // 2:02}"
    middle = _moment(predictions // 2, predictions)[1]
    filters = {
        "no filter": EVERY_PREDICTION,
        "label": PredictionFilter(label=some_label),
        "decision": PredictionFilter(decision="unknown"),
        "version": PredictionFilter(version=some_version),
        "a day of 100": PredictionFilter(since=to_iso(month), until=to_iso(month + timedelta(days=1))),
        "label, decision": PredictionFilter(label=some_label, decision="unknown"),
        "label, decision, version": PredictionFilter(label=some_label, decision="unknown", version="v00"),
        "label that is not there": PredictionFilter(label="none"),
        "version, without a match": PredictionFilter(label="none", version=some_version),
    }
    for name, which in filters.items():
        yield f"page of predictions: {name}", partial(store.predictions, 50, None, which)
        yield f"count of predictions: {name}", partial(store.count_matching, which)
    yield "page of predictions: deep, decision", lambda: store.predictions(50, middle, filters["decision"])
    yield "one prediction", lambda: store.prediction(middle)
    ids = [row.id for row in store.predictions(100, middle)]
    yield "100 predictions by id", lambda: store.predictions_with(ids)
    for kind in QUEUED_KINDS:
        yield f"to review: {kind}", partial(store.to_review, kind, 300)
        yield f"number to review: {kind}", partial(store.count_to_review, kind)
    yield "reviewed at random, 30 days", lambda: store.reviewed_at_random(month)
    yield "counts by day, version and decision, 30 days", lambda: store.decision_counts(month)
    yield "what is kept", store.count_predictions
    oldest = partial(store.expendable_predictions, FIRST_ID, limit=50)
    yield "oldest to delete: any", lambda: oldest(middle, with_picture=False)
    yield "oldest to delete: with a picture", lambda: oldest(LAST_ID, with_picture=True)
    yield from _training_calls(store, pictures)
    yield from _changes(store, predictions, pictures)


def _training_calls(store: Store, pictures: int) -> Iterator[tuple[str, Call]]:
    filters = {
        "no filter": EVERY_PICTURE,
        "label": TrainingFilter(label=LABELS[4]),
        "split": TrainingFilter(split="holdout"),
        "learned": TrainingFilter(learnt=True),
        "waiting": TrainingFilter(learnt=False),
        "label, split, waiting": TrainingFilter(LABELS[4], "holdout", learnt=False),
    }
    for name, which in filters.items():
        yield f"page of pictures: {name}", partial(store.training_data, 50, None, which)
        yield f"count of pictures: {name}", partial(store.count_training, which)
    rows = store.training_data(1000, _moment(pictures // 2, pictures)[1])
    yield "one picture by its hash", lambda: store.training_with(rows[0].sha256)
    yield "1,000 pictures by id", lambda: store.training_pictures([row.id for row in rows])
    yield "labels of 1,000 hashes", lambda: store.labels_of(row.sha256 for row in rows)
    yield "labels", store.training_labels
    yield "counts by label", store.label_counts
    yield "number that waits", store.count_unprocessed
    yield "number that the version before has not learned", lambda: store.count_unlearned(f"v{VERSIONS - 2:02}")
    yield "hashes of what was deleted", store.deleted_pictures
    yield "versions", store.versions
    yield "page of the audit log", lambda: store.audit_log(50, None)
    yield "1,000 of all pictures", lambda: list(islice(store.training_rows(), 1000))
    yield "pictures that wait (a hundredth)", store.unprocessed


def _changes(store: Store, predictions: int, pictures: int) -> Iterator[tuple[str, Call]]:
    """Calls that write; each may be repeated."""
    turn = count()
    waiting = iter(store.to_review("random", 300))
    some = [row.id for row in store.training_data(1000, _moment(pictures // 3, pictures)[1])]
    pages = iter([store.training_data(100, _moment(pictures * n // 20, pictures)[1]) for n in range(1, 1 + WARM)])
    old = iter([store.predictions(50, _moment(predictions * n // 20, predictions)[1]) for n in range(1, 1 + WARM)])
    yield "add 200 predictions", lambda: _add_predictions(store, 200)
    yield "record a review", lambda: store.review_prediction(next(waiting).id, LABELS[1], "random", utc_now())
    yield "delete 50 predictions", lambda: _delete_predictions(store, next(old))
    with_picture = iter(
        _chunks(store.expendable_predictions(FIRST_ID, LAST_ID, with_picture=True, limit=50 * WARM), 50)
    )
    yield "delete the pictures of 50 predictions", lambda: _drop_pictures(store, next(with_picture))
    yield "relabel 1,000 pictures", lambda: store.relabel_all(some, LABELS[next(turn) % len(LABELS)])
    yield "delete 100 pictures", lambda: store.delete_all(next(pages))
    yield "rename a label (a fiftieth)", lambda: _rename(store, next(turn))
    yield "undo that", lambda: store.undo_change(store.label_changes()[-1].id)
    removed = iter(LABELS[10 : 10 + WARM])
    yield (
        "remove a label (a fiftieth)",
        lambda: store.change_label(LabelChange(new_id(), next(removed), None, utc_now())),
    )
    yield "undo that, too", lambda: store.undo_change(store.label_changes()[-1].id)
    lesson = {row.id: row.shoe_class for row in store.unprocessed()}
    yield "keep what a candidate learned (a hundredth)", lambda: _prepare(store, lesson)
    yield "a version goes live", lambda: store.set_live(f"v{VERSIONS - 1 - next(turn) % 2:02}")


def _add_predictions(store: Store, rows: int) -> None:
    new = [replace(row, id=new_id(), created_at=utc_now()) for row in _predictions(rows)]
    if isinstance(store, SupabaseStore):
        store.send_rows(PREDICT.name, [asdict(row) for row in new])  # as the relay of the outbox does
    else:
        for row in new:
            store.add_prediction(row, None)


def _delete_predictions(store: Store, rows: Sequence[PredictionRecord]) -> None:
    if isinstance(store, SupabaseStore):
        released = {"kind": "Deleted", "ids": [row.id for row in rows], "paths": []}
        store.send_rows(RELEASED, [released])
    else:
        store.delete_predictions(rows)


def _drop_pictures(store: Store, rows: Sequence[PredictionRecord]) -> None:
    if isinstance(store, SupabaseStore):
        store.send_rows(RELEASED, [{"kind": "Without picture", "ids": [row.id for row in rows], "paths": []}])
    else:
        store.drop_pictures(rows)


def _prepare(store: Store, lesson: dict[str, str]) -> None:
    name = new_id()
    row = ModelVersion(name, f"sha-{name}", LABELS, None, f"v{VERSIONS - 1:02}", "candidate", f"{name}.h5", utc_now())
    with tempfile.NamedTemporaryFile() as file:
        store.prepare_publication(row, Path(file.name), lesson)


def _rename(store: Store, turn: int) -> None:
    names = [LABELS[4], "renamed"]
    store.change_label(LabelChange(new_id(), names[turn % 2], names[1 - turn % 2], utc_now()))


def _measure(store: Store, predictions: int, pictures: int, observe: Observer) -> None:
    """Print a row of the table for each call."""
    print("| call | ms in the database | ms | scanned: rows read, and dropped |\n|---|---|---|---|")
    for name, call in _calls(store, predictions, pictures):
        for _ in range(WARM):
            observe()
            started = time.perf_counter()
            call()
            seconds = time.perf_counter() - started
        statements = observe()
        scans = dict.fromkeys(scan for statement in statements for scan in statement.scans)
        inside = sum(statement.milliseconds for statement in statements)
        print(f"| {name} | {inside:.1f} | {seconds * 1e3:.1f} | {'; '.join(scans)} |", flush=True)


# ------------------------------------------------------------ PostgreSQL


def _measure_supabase(folder: Path, predictions: int, pictures: int) -> None:
    stack = Stack(folder / "stack")
    try:
        stack.start()
        _fill_postgres(stack, predictions, pictures)
        settings = make_settings(folder, supabase_url=stack.gateway.url, supabase_key=token("service_role"))
        settings.dataset_dir.mkdir()
        patient = settings.model_copy(update={"supabase_timeout_seconds": 300.0})
        with closing(SupabaseStore(patient)) as store, (folder / "stack/postgres.log").open() as log:
            _measure(store, predictions, pictures, lambda: _postgres_statements(log))
    finally:
        stack.stop()


def _fill_postgres(stack: Stack, predictions: int, pictures: int) -> None:
    """Rows first, then the indexes, which the migrations create again."""
    started = time.monotonic()
    stack.sql(DROP_INDEXES)
    for table, rows in (
        (PREDICT, _predictions(predictions)),
        (TRAINING_DATA, _pictures(pictures)),
        (MODEL_VERSIONS, _versions()),
    ):
        for chunk in _chunks(rows, CHUNK):
            lines = "\n".join("\t".join(map(_copied, vars(row).values())) for row in chunk)
            stack.sql(f'copy public."{table.name}" ({", ".join(table.columns)}) from stdin;\n{lines}\n\\.\n')
    stack.sql(LEARN)
    _report("rows", started)
    for path in MIGRATIONS:
        stack.sql(path.read_text())
    stack.sql("vacuum analyze")
    _report("rows and indexes", started)
    print(stack.sql(SIZES))
    stack.sql(EXPLAIN + "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'authenticator'")
    stack.await_schema()


def _report(what: str, started: float) -> None:
    print(f"{what}: {time.monotonic() - started:.0f} s", flush=True)


def _copied(value: object) -> str:
    """A value in the text format of `copy`."""
    if value is None:
        return "\\N"
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


def _postgres_statements(log: TextIO) -> list[Statement]:
    """What auto_explain has logged since the last call."""
    found = [(float(milliseconds), json.loads(plan)) for milliseconds, plan in PLAN.findall(log.read())]
    return [
        Statement(milliseconds if "pgrst_" in plan["Query Text"] else 0, [*_scans(plan["Plan"])])
        for milliseconds, plan in found  # statements of functions are part of the call's own
    ]


def _scans(node: dict[str, Any]) -> Iterator[str]:
    if "Scan" in node["Node Type"] and ("Relation Name" in node or "Index Name" in node):
        loops = node["Actual Loops"]
        dropped = node.get("Rows Removed by Filter", 0) * loops
        rest = f" -{dropped:,.0f}" if dropped else ""
        name = node.get("Index Name", node.get("Relation Name"))
        yield f"{node['Node Type']} {name} {node['Actual Rows'] * loops:,.0f}{rest}"
    for child in node.get("Plans", ()):
        yield from _scans(child)


# ------------------------------------------------------------ SQLite


def _measure_sqlite(folder: Path, predictions: int, pictures: int) -> None:
    started = time.monotonic()
    with closing(SqliteStore(folder)) as store:
        db = store._db._opened()  # the store's own connection: what it runs is seen there
        for table, rows in (
            (PREDICT, _predictions(predictions)),
            (TRAINING_DATA, _pictures(pictures)),
            (MODEL_VERSIONS, _versions()),
        ):
            values = ", ".join("?" * len(table.columns))
            for chunk in _chunks(rows, CHUNK):
                db.execute("begin")
                db.executemany(
                    f"insert into {table.name} ({', '.join(table.columns)}) values ({values})",
                    ([json.dumps(v) if isinstance(v, dict | list) else v for v in vars(row).values()] for row in chunk),
                )
                db.execute("commit")
        db.execute(LEARN)
        _report("rows and indexes", started)
        seen: list[str] = []
        db.set_trace_callback(seen.append)
        with closing(sqlite3.connect(folder / "records.sqlite3")) as other:
            _measure(store, predictions, pictures, lambda: _sqlite_statements(other, seen))


def _sqlite_statements(db: sqlite3.Connection, seen: list[str]) -> list[Statement]:
    """The plans of the statements that the store has run since the last call."""
    texts = dict.fromkeys(text for text in seen if text.split()[0] in ("select", "insert", "update", "delete", "with"))
    seen.clear()
    return [Statement(0, [row[3] for row in db.execute(f"explain query plan {text}")]) for text in texts]


if __name__ == "__main__":
    main()
