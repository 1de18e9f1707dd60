"""The rows of `Learned_Pictures`, and `is_processed` of `Training_Data`, which follows from them and the live version.

A version has also learned what its ancestors learned.
"""

import json
import sqlite3
from collections.abc import Mapping

COUNT_UNLEARNED = """
with recursive lineage (version) as (
    select ? union select parent from Model_Versions join lineage using (version) where parent is not null
)
select count(*) n from Training_Data
    where id not in (select training_id from Learned_Pictures join lineage using (version))
"""
_ADD_LEARNED = """
insert or ignore into Learned_Pictures (version, training_id)
    select ?, id from Training_Data where (id, shoe_class) in (select key, value from json_each(?))
"""
_RECOMPUTE_PROCESSED = """
with recursive lineage (version) as (
    select version from Model_Versions where state = 'live'
    union
    select parent from Model_Versions join lineage using (version) where parent is not null
)
update Training_Data set is_processed = not is_processed
    where is_processed <> (id in (select training_id from Learned_Pictures join lineage using (version)))
"""
_CHANGE_PROCESSED = """
with recursive known (version) as (
    select :version union select parent from Model_Versions join known using (version) where parent is not null
), known_before (version) as (
    select :before union select parent from Model_Versions join known_before using (version) where parent is not null
), differing as (
    select version from (select version from known union select version from known_before)
        where version not in (select version from known intersect select version from known_before)
)
update Training_Data set is_processed = not is_processed
    where id in (select training_id from Learned_Pictures where version in (select version from differing))
        and is_processed <> exists (
            select 1 from Learned_Pictures
                where training_id = Training_Data.id and version in (select version from known)
        )
"""


def add_learned(db: sqlite3.Connection, version: str, learned: Mapping[str, str]) -> None:
    """Keep what a version learned; see `protocols.VersionStore.prepare_publication`."""
    db.execute(_ADD_LEARNED, [version, json.dumps(dict(learned))])


def recompute_processed(db: sqlite3.Connection) -> None:
    """Mark all training rows as processed or not, whatever they say now."""
    db.execute(_RECOMPUTE_PROCESSED)


def change_processed(db: sqlite3.Connection, version: str, before: str) -> None:
    """Mark only what one live version has learned and the one before has not, or the other way round."""
    db.execute(_CHANGE_PROCESSED, {"version": version, "before": before})
