"""A project that was set up with any earlier text of the migrations is brought to the newest, with its rows."""

import json
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from helpers.rows import learned_rows
from helpers.service import make_settings, wait_for
from helpers.supabase_stack import MIGRATIONS, ROOT, Stack
from shoe_classifier.errors import NotFound, StoreUnavailable
from shoe_classifier.storage.supabase.outbox import RELEASED
from shoe_classifier.storage.supabase.setup_check import REVISION
from shoe_classifier.storage.supabase.store import SupabaseStore
from shoe_classifier.storage.tables import TABLES
from shoe_classifier.types import LabelChange, LabelCounts, PredictionFilter, RetrainJob, new_id, utc_now

pytestmark = pytest.mark.supabase

FOLDER = ROOT / "supabase" / "migrations"
FIRST = FOLDER / "20261123000000_shoe_classifier.sql"
# The first migration was edited after it had landed: projects may have run this text, the later one, or both.
FIRST_AS_IT_LANDED = Path(__file__).parent / "earlier" / "20261123000000_as_first_landed.sql"
SECOND = FOLDER / "20261124000000_learned_pictures.sql"
ID = "019a0000-0000-7000-8000-0000000000"
ROWS = f"""
insert into public."Training_Data" values
    ('{ID}11', 'images/cd/cd01.jpg', 'cd01', 'Boot', true, 'train', 'zip', '{ID}20', '2026-11-19T10:00:00Z'),
    ('{ID}12', 'images/cd/cd02.jpg', 'cd02', 'Shoe', true, 'holdout', 'zip', '{ID}20', '2026-11-19T10:00:00Z'),
    ('{ID}13', 'images/cd/cd03.jpg', 'cd03', 'Hat', false, 'train', 'zip', '{ID}21', '2026-11-20T10:00:00Z');
insert into public."Model_Versions" values
    ('v1', 'sha-v1', '["a", "b"]', null, null, 'archived', 'versions/v1.h5', '2026-11-18T10:00:00Z'),
    ('v2', 'sha-v2', '["a", "b"]', null, 'v1', 'live', 'versions/v2.h5', '2026-11-19T10:00:00Z');
insert into public."Retrain_Jobs" values
    ('{ID}31', 'published', 'quick', 'published', 1, 'Published.', 2, '[]', null, null, 'v2', null, false, null,
     '2026-11-19T10:00:00Z', '2026-11-19T10:00:01Z', '2026-11-19T10:00:02Z', '{ID}99', now());
insert into public."Predict" values
    ('{ID}01', null, 'Boot', 0.9, 'accepted', '{{"Boot": 0.9}}', 'v2', 1.5, '2026-11-20T10:00:00Z');
insert into public."System_Metrics" values ('{ID}41', '2026-11-20T10:00:00Z', 5, 1.5, 'ready');
"""


@pytest.fixture
def rebuilt(stack: Stack) -> Iterator[Stack]:
    """A stack whose schema a test may change."""
    yield stack
    stack.rebuild()


@pytest.fixture
def store(tmp_path: Path, project: dict[str, object]) -> Iterator[SupabaseStore]:
    (tmp_path / "dataset").mkdir()
    with closing(SupabaseStore(make_settings(tmp_path, **project))) as store:
        store.start()
        yield store


@pytest.mark.parametrize(
    "earlier",
    [[FIRST_AS_IT_LANDED], [FIRST], [FIRST_AS_IT_LANDED, FIRST], [FIRST, SECOND]],
    ids=["as it landed", "as it was edited", "both", "with the second"],
)
def test_an_earlier_project_is_upgraded(rebuilt: Stack, store: SupabaseStore, earlier: list[Path]) -> None:
    rebuilt.rebuild(earlier)
    rebuilt.sql(ROWS)
    assert any(f"Expected revision {REVISION}" in text for text in store.problems())
    for path in (*MIGRATIONS[1:], *MIGRATIONS):  # all of them are safe to run again, as compose.yaml does
        rebuilt.sql(path.read_text())
    rebuilt.await_schema()
    assert store.problems() == []
    assert [row.id for row in store.predictions(10, None)] == [f"{ID}01"]
    assert_counts_are_right(rebuilt)
    assert store.count_matching(PredictionFilter(label="Boot")) == 1
    assert store.label_counts() == {
        "Boot": LabelCounts(1, 0, 1), "Shoe": LabelCounts(1, 1, 1), "Hat": LabelCounts(1, 0, 0)
    }  # fmt: skip
    assert len(store.minutes(10)) == 1
    done = store.job(f"{ID}31")
    assert done and (done.state, done.model_version, done.loss) == ("published", "v2", None)
    assert [row.sha256 for row in learned_rows(store)] == ["cd01", "cd02"]
    store.set_live("v1")
    assert learned_rows(store) == []
    store.set_live("v2")
    assert [row.sha256 for row in learned_rows(store)] == ["cd01", "cd02"]
    job = RetrainJob()
    assert store.start_job(job)
    store.finish_job(replace(job, state="published", model_version="v1"))
    assert learned_rows(store) == []


def test_without_a_live_version_the_newest_one_knows_what_was_processed(rebuilt: Stack, store: SupabaseStore) -> None:
    rebuilt.rebuild([FIRST])
    rebuilt.sql(
        ROWS
        + "update public.\"Model_Versions\" set state = 'archived';"
        + "".join(path.read_text() for path in MIGRATIONS[1:])
    )
    rebuilt.await_schema()
    store.set_live("v2")
    assert [row.sha256 for row in learned_rows(store)] == ["cd01", "cd02"]


def test_an_upgraded_project_has_the_schema_of_a_new_one(rebuilt: Stack) -> None:
    describe = "select public.describe_shoe_classifier()"
    assert MIGRATIONS[:2] == [FIRST, SECOND]
    new = json.loads(rebuilt.sql(describe))
    rebuilt.rebuild([FIRST_AS_IT_LANDED, *MIGRATIONS])
    assert json.loads(rebuilt.sql(describe)) == new


def test_the_columns_are_the_fields_of_the_dataclasses(stack: Stack) -> None:
    only_here = {"Retrain_Jobs": {"claimed_by", "heartbeat_at"}, "System_Metrics": {"id"}}
    for table in TABLES:
        query = f"select column_name from information_schema.columns where table_name = '{table.name}'"
        columns = set(stack.sql(query + " and table_schema = 'public'").split())
        assert columns == {*table.columns, *only_here.get(table.name, ())}, table.name


@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_only_the_service_key_reads_what_was_learned(stack: Stack, role: str) -> None:
    for table in (
        "Learned_Pictures",
        "Deleted_Pictures",
        "Audit_Log",
        "Label_Changes",
        "Changed_Pictures",
        "Kept_Pictures",
    ):
        for privilege in ("select", "insert", "update", "delete"):
            query = f"select has_table_privilege('{role}', 'public.\"{table}\"', '{privilege}')"
            assert stack.sql(query) == "f"
    functions = stack.sql(
        "select p.oid::regprocedure from pg_proc p where pronamespace = 'public'::regnamespace"
        f" and proname not like 'mark%' and has_function_privilege('{role}', p.oid, 'execute')"
    )
    assert functions == ""


def test_a_version_that_does_not_exist_leaves_the_live_one(stack: Stack, store: SupabaseStore) -> None:
    stack.sql(ROWS)
    with pytest.raises(NotFound, match="nosuch"):
        store.set_live("nosuch")
    assert stack.sql("select version from public.\"Model_Versions\" where state = 'live'") == "v2"


def test_a_publication_waits_for_a_relabelling_that_is_being_committed(stack: Stack, store: SupabaseStore) -> None:
    """It would otherwise take the old label for learned, and the new one would never be."""
    stack.sql(ROWS)
    stack.sql(f"insert into public.\"Learned_Pictures\" values ('v2', '{ID}11')")
    store.set_live("v1")
    slowly = f"begin; select public.relabel_training_data('{ID}11', 'Hat'); select pg_sleep(0.5); commit;"
    relabelling = threading.Thread(target=stack.sql, args=(slowly,))
    relabelling.start()
    wait_for(lambda: stack.sql("select count(*) from pg_stat_activity where query like '%pg_sleep(0.5)%'") > "1")
    store.set_live("v2")
    relabelling.join()
    assert f"{ID}11" in {row.id for row in store.unprocessed()}


def assert_counts_are_right(stack: Stack) -> None:
    for counts, counted, table in (
        (
            "Prediction_Counts",
            "(created_at at time zone 'UTC')::date, predicted_class, model_version, decision",
            "Predict",
        ),
        ("Training_Counts", "shoe_class, split, is_processed", "Training_Data"),
    ):
        kept = stack.sql(f'select * from public."{counts}" where rows <> 0 order by 1, 2, 3, 4')
        assert kept == stack.sql(
            f'select {counted}, count(*) from public."{table}" group by {counted} order by {counted}'
        )


def test_the_counts_follow_every_change(stack: Stack, store: SupabaseStore) -> None:
    stack.sql(ROWS)
    assert_counts_are_right(stack)
    row = store.predictions(1, None)[0]
    rows = [asdict(replace(row, id=new_id(), decision=decision)) for decision in ("unknown", "unknown", "accepted")]
    for _ in range(2):  # as after a lost answer
        store.send_rows("Predict", rows)
    assert_counts_are_right(stack)
    assert store.count_matching(PredictionFilter(decision="unknown")) == 2
    store.send_rows(RELEASED, [{"kind": "Deleted", "ids": [rows[0]["id"]], "paths": []}])
    assert_counts_are_right(stack)
    store.relabel_all([f"{ID}11", f"{ID}12"], "Hat")
    store.change_label(LabelChange(new_id(), "Hat", "Cap", utc_now()))
    store.delete_all(store.training_pictures([f"{ID}13"]))
    store.set_live("v1")
    store.set_live("v2")
    assert_counts_are_right(stack)
    assert store.label_counts() == {"Cap": LabelCounts(2, 1, 0)}
    assert (store.training_labels(), store.count_unprocessed()) == ({"Cap": 2}, 2)


def test_machines_that_send_at_once_do_not_hold_each_other_up(stack: Stack, store: SupabaseStore) -> None:
    """Each batch changes the same counts, in another order of its rows."""
    stack.sql(ROWS)
    row, labels = store.predictions(1, None)[0], [f"label {number}" for number in range(20)]

    def send(machine: int) -> None:
        for _ in range(5):
            order = random.Random(machine).sample(labels, len(labels))
            store.send_rows("Predict", [asdict(replace(row, id=new_id(), predicted_class=label)) for label in order])

    deadlocks = "select deadlocks from pg_stat_database where datname = 'postgres'"
    before = stack.sql(deadlocks)
    with ThreadPoolExecutor(4) as machines:
        list(machines.map(send, range(4)))
    assert_counts_are_right(stack)
    assert stack.sql(deadlocks) == before


def test_a_publication_may_take_longer_than_other_statements(rebuilt: Stack, store: SupabaseStore) -> None:
    """A hosted project ends statements after 8 seconds, which is too short where a million pictures were learned."""
    rebuilt.sql(ROWS + "alter role service_role set statement_timeout = '200ms'; notify pgrst, 'reload config'")
    try:
        with locked(rebuilt, "System_Metrics"), pytest.raises(StoreUnavailable):
            store.minutes(10)
        with locked(rebuilt, "Model_Versions"):
            store.set_live("v1")
    finally:
        rebuilt.sql("alter role service_role reset statement_timeout; notify pgrst, 'reload config'")
    assert rebuilt.sql("select version from public.\"Model_Versions\" where state = 'live'") == "v1"


@contextmanager
def locked(stack: Stack, table: str) -> Iterator[None]:
    """Lock a table for longer than three attempts of a call take."""
    statements = f'begin; lock table public."{table}" in access exclusive mode; select pg_sleep(3); commit;'
    locking = threading.Thread(target=stack.sql, args=(statements,))
    locking.start()
    wait_for(lambda: stack.sql("select count(*) from pg_stat_activity where query like '%pg_sleep(3)%'") > "1")
    yield
    locking.join()
