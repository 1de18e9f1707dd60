"""Ordered migrations of a SQLite file; the number of those that were applied is the file's `user_version`.

A migration that has been released is never edited. A change of the schema is a new one at the end.
"""

import sqlite3
from collections.abc import Iterator, Sequence

from shoe_classifier.errors import ConfigurationError

# Files of 0.1.0 have these tables and `user_version` 0, so the first migration must pass over what exists.
_RELEASE_0_1_0 = """
create table if not exists Predict (
    id text primary key, image_path text, predicted_class text not null, confidence_score real not null,
    decision text not null, probabilities text not null, model_version text not null,
    response_time real not null, created_at text not null
) without rowid;
create table if not exists Training_Data (
    id text primary key, image_path text not null, sha256 text not null unique, shoe_class text not null,
    is_processed integer not null default 0, split text not null, source text not null,
    upload_id text not null, uploaded_at text not null
) without rowid;
create index if not exists training_data_unprocessed on Training_Data (id) where is_processed = 0;
create index if not exists training_data_class on Training_Data (shoe_class);
create table if not exists Model_Versions (
    version text primary key, sha256 text not null, labels text not null, metrics text, parent text,
    state text not null, file_path text not null, created_at text not null
) without rowid;
create index if not exists model_versions_sha256 on Model_Versions (sha256);
create table if not exists Retrain_Jobs (
    job_id text primary key, state text not null, mode text not null, phase text not null, progress real not null,
    message text not null, samples integer not null, labels text not null, metrics text, baseline text,
    model_version text, error text, force integer not null, seconds_left real,
    created_at text not null, started_at text, finished_at text
) without rowid;
create table if not exists System_Metrics (
    timestamp text primary key, request_count integer not null, avg_response_time real not null,
    model_uptime_status text not null
) without rowid;
"""

# Until now a row was marked as processed without saying by which version. The live version knows all of them; without
# one, it is the newest that has been live, which a start makes live again. Without any version, they are to be learned.
_LEARNED_PICTURES = """
create table Learned_Pictures (
    version text not null, training_id text not null, primary key (version, training_id)
) without rowid;
create index learned_pictures_training_id on Learned_Pictures (training_id);
insert into Learned_Pictures
    select seed.version, picture.id
    from (
        select version from Model_Versions where state in ('live', 'archived')
        order by state = 'live' desc, created_at desc limit 1
    ) seed
    join Training_Data picture on picture.is_processed = 1;
create table Deleted_Pictures (sha256 text primary key, deleted_at text not null) without rowid;
alter table Retrain_Jobs add column epoch integer;
alter table Retrain_Jobs add column epochs integer;
alter table Retrain_Jobs add column loss real;
"""

# Who changed what, and what people say about predictions and labels; and how many rows there are of each kind, kept by
# triggers, because a count of rows holds up predictions. Of the indexes, some answer without the table: the rows of a
# picture and its size, and what waits for a review.
_TEACHING_LOOP = """
create table Audit_Log (
    id text primary key, created_at text not null, action text not null, target text not null, key_fingerprint text,
    client_address text not null, status integer not null, calls integer not null
) without rowid;
create index audit_log_refused on Audit_Log (id) where status in (401, 403);
alter table Predict add column reviewed_label text;
alter table Predict add column reviewed_at text;
alter table Predict add column review_kind text;
alter table Predict add column image_bytes integer;
create index predict_pictures on Predict (image_path, reviewed_at, image_bytes) where image_path is not null;
create index predict_unreviewed on Predict (id) where image_path is not null and reviewed_at is null;
create index predict_undecided on Predict (decision, id)
    where review_kind is null and reviewed_at is null and image_path is not null;
create index predict_drawn on Predict (review_kind, id, reviewed_at, image_path)
    where review_kind is not null and reviewed_at is null and image_path is not null;
create index predict_reviewed on Predict (review_kind, id) where review_kind is not null and reviewed_at is not null;
create index predict_class on Predict (predicted_class);
create index predict_decision on Predict (decision);
create index predict_version on Predict (model_version);
create index training_data_split on Training_Data (split);
create index training_data_waiting on Training_Data (shoe_class) where is_processed = 0;
create table Label_Changes (
    id text primary key, label text not null, name text, changed_at text not null
) without rowid;
create table Changed_Pictures (
    change_id text not null, training_id text not null, sha256 text not null, picture text, versions text not null,
    primary key (change_id, training_id)
) without rowid;
create index changed_pictures_sha256 on Changed_Pictures (sha256) where picture is not null;
create table Kept_Pictures (
    training_id text not null, kind text not null, shoe_class text not null, kept_at text not null,
    primary key (training_id, kind)
) without rowid;
create table Prediction_Counts (
    day text not null, predicted_class text not null, model_version text not null, decision text not null,
    rows integer not null, primary key (day, predicted_class, model_version, decision)
) without rowid;
insert into Prediction_Counts
    select substr(created_at, 1, 10), predicted_class, model_version, decision, count(*) from Predict
    group by 1, 2, 3, 4;
create trigger count_added_prediction after insert on Predict begin
    insert into Prediction_Counts
        values (substr(new.created_at, 1, 10), new.predicted_class, new.model_version, new.decision, 1)
        on conflict do update set rows = rows + 1;
end;
create trigger count_deleted_prediction after delete on Predict begin
    update Prediction_Counts set rows = rows - 1 where day = substr(old.created_at, 1, 10)
        and predicted_class = old.predicted_class and model_version = old.model_version and decision = old.decision;
end;
create table Training_Counts (
    shoe_class text not null, split text not null, is_processed integer not null, rows integer not null,
    primary key (shoe_class, split, is_processed)
) without rowid;
insert into Training_Counts select shoe_class, split, is_processed, count(*) from Training_Data group by 1, 2, 3;
create trigger count_added_picture after insert on Training_Data begin
    insert into Training_Counts values (new.shoe_class, new.split, new.is_processed, 1)
        on conflict do update set rows = rows + 1;
end;
create trigger count_deleted_picture after delete on Training_Data begin
    update Training_Counts set rows = rows - 1
        where shoe_class = old.shoe_class and split = old.split and is_processed = old.is_processed;
end;
create trigger count_changed_picture after update of shoe_class, split, is_processed on Training_Data begin
    update Training_Counts set rows = rows - 1
        where shoe_class = old.shoe_class and split = old.split and is_processed = old.is_processed;
    insert into Training_Counts values (new.shoe_class, new.split, new.is_processed, 1)
        on conflict do update set rows = rows + 1;
end;
"""

RECORDS = (_RELEASE_0_1_0, _LEARNED_PICTURES, _TEACHING_LOOP)


def migrate(connection: sqlite3.Connection, migrations: Sequence[str]) -> None:
    """Apply the migrations that a file still lacks, each in a transaction of its own.

    Args:
        connection: in autocommit mode (`isolation_level=None`).
        migrations: SQL scripts, oldest first.

    Raises:
        ConfigurationError: a newer release has migrated the file further than this one knows.
    """
    while (version := _version(connection)) < len(migrations):
        _apply(connection, version, migrations[version])
    if version > len(migrations):
        raise ConfigurationError(
            f"Expected a database with schema version {len(migrations)} or older; received version {version} in"
            f" {_path(connection)}. A newer release has written it: use that release, or restore a backup."
        )


def _apply(connection: sqlite3.Connection, version: int, script: str) -> None:
    connection.execute("begin immediate")
    try:
        if _version(connection) == version:  # otherwise another process was faster
            for statement in _statements(script):
                connection.execute(statement)
            connection.execute(f"pragma user_version = {version + 1}")
        connection.execute("commit")
    except BaseException:  # whatever interrupted it, the old version must stay complete
        if connection.in_transaction:
            connection.execute("rollback")
        raise


def _statements(script: str) -> Iterator[str]:
    """Split a script. `executescript` would commit the transaction first."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("pragma user_version").fetchone()[0])


def _path(connection: sqlite3.Connection) -> str:
    return str(connection.execute("pragma database_list").fetchone()[2])
