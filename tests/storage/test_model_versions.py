"""The rows of `Model_Versions`, in both stores."""

from dataclasses import replace
from pathlib import Path

import pytest

from helpers.rows import MODEL_FILE, added, ids, learned_rows, prepare, published, version
from shoe_classifier.errors import NotFound
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import RetrainJob


def test_one_version_is_live(store: Store) -> None:
    assert store.live_version() is None
    for name in ("v1", "v2"):
        store.save_version(version(name))
        store.set_live(name)
    assert {row.version: row.state for row in store.versions()} == {"v1": "archived", "v2": "live"}
    found = store.version_with("sha-v1")
    assert found and found == replace(version("v1"), state="archived", created_at=found.created_at)
    assert store.version("none") is None
    with pytest.raises(NotFound):
        store.set_live("none")
    live = store.live_version()
    assert live and live.version == "v2"


def test_a_candidate_is_kept_but_not_live(store: Store, tmp_path: Path) -> None:
    rows = added(store, tmp_path, 2)
    store.save_version(replace(version("v1"), state="live"))
    row = replace(version("v2"), state="archived")
    for _ in range(2):
        store.prepare_publication(row, MODEL_FILE, {rows[0].id: "Boot"})
    kept, live = store.version("v2"), store.live_version()
    assert kept == replace(row, state="candidate")
    assert live and live.version == "v1"
    assert store.count_unprocessed() == 2


def test_preparing_a_version_again_does_not_take_it_out_of_service(store: Store, tmp_path: Path) -> None:
    rows = added(store, tmp_path, 1)
    published(store, "v1", rows)
    prepare(store, "v1", rows)
    live = store.live_version()
    assert live and live.version == "v1" and learned_rows(store) == [replace(rows[0], is_processed=True)]


def test_versions_that_are_not_live_can_be_dropped(store: Store) -> None:
    for name in ("v1", "v2"):
        store.save_version(version(name))
        store.set_live(name)
    prepare(store, "v3", [])
    dropped = {name: store.drop_model(version(name)) for name in ("v1", "v2", "v3")}
    assert dropped == {"v1": True, "v2": False, "v3": True}
    assert {row.version: row.state for row in store.versions()} == {"v1": "deleted", "v2": "live", "v3": "deleted"}
    assert not store.drop_model(version("v1"))


def test_a_rejected_version_can_be_kept_published_and_dropped(store: Store, tmp_path: Path) -> None:
    rows = added(store, tmp_path, 2)
    published(store, "v1", rows[:1])
    for name in ("v2", "v3"):
        prepare(store, name, rows[1:], parent="v1")
        store.save_version(replace(version(name), parent="v1", state="rejected"))
    assert ids(store.unprocessed()) == [rows[1].id]
    rejected = store.version("v3")
    assert rejected and rejected.state == "rejected" and store.drop_model(rejected)
    job = RetrainJob(state="running", phase="publish", model_version="v2")
    assert store.start_job(job)
    store.finish_job(replace(job, state="published", phase="published"))
    assert (store.count_unprocessed(), store.version("v2").state) == (0, "live")  # type: ignore[union-attr]
    store.set_live("v3")  # what it had learned is forgotten with it
    assert ids(store.unprocessed()) == [rows[1].id]
