"""Which pictures count as learned, in both stores."""

import random
from dataclasses import replace
from pathlib import Path

from helpers.rows import added, ids, learned_rows, prepare, published
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import RetrainJob


def test_a_rollback_makes_pictures_wait_again_and_rolling_forward_does_not(store: Store, tmp_path: Path) -> None:
    rows = added(store, tmp_path, 4)
    published(store, "v1", rows[:1])
    published(store, "v2", rows[1:2], parent="v1")
    published(store, "v3", rows[2:3], parent="v2")
    assert ids(learned_rows(store)) == ids(rows[:3])
    store.set_live("v1")
    assert (ids(learned_rows(store)), ids(store.unprocessed())) == (ids(rows[:1]), ids(rows[1:]))
    store.set_live("v3")
    assert (ids(learned_rows(store)), ids(store.unprocessed())) == (ids(rows[:3]), ids(rows[3:]))


def test_what_a_version_has_not_learned_is_counted(store: Store, tmp_path: Path) -> None:
    rows = added(store, tmp_path, 4)
    published(store, "v1", rows[:1])
    published(store, "v2", rows[1:3], parent="v1")
    assert [store.count_unlearned(name) for name in ("v1", "v2", "none")] == [3, 1, 4]


def test_a_version_does_not_know_what_its_siblings_learned(store: Store, tmp_path: Path) -> None:
    rows = added(store, tmp_path, 3)
    published(store, "v1", rows[:1])
    published(store, "v2", rows[1:2], parent="v1")
    store.set_live("v1")
    published(store, "v3", rows[2:3], parent="v1")
    assert ids(learned_rows(store)) == [rows[0].id, rows[2].id]


def test_whichever_version_goes_live_knows_what_its_ancestors_learned(store: Store, tmp_path: Path) -> None:
    rows, rng = added(store, tmp_path, 12), random.Random(0)
    parents: dict[str, str | None] = {}
    learned: dict[str, set[str]] = {}
    for number in range(7):
        name, parent = f"v{number}", rng.choice([*parents, None])
        lesson = rng.sample(rows, 3)
        published(store, name, lesson, parent=parent)
        parents[name], learned[name] = parent, {row.id for row in lesson}
    for name in rng.choices([*parents], k=12):
        store.set_live(name)
        known, ancestor = set[str](), name
        while ancestor:
            known |= learned[ancestor]
            ancestor = parents[ancestor] or ""
        assert {row.id for row in store.training_rows() if row.is_processed} == known
        assert store.count_unprocessed() == len(rows) - len(known)


def test_a_picture_relabelled_during_a_job_is_not_learned(store: Store, tmp_path: Path) -> None:
    rows = added(store, tmp_path, 3)
    job = RetrainJob()
    assert store.start_job(job)
    store.relabel(rows[0].id, "Shoe")  # before the candidate is prepared, and after
    prepare(store, "v1", rows)
    store.relabel(rows[1].id, "Shoe")
    store.finish_job(replace(job, state="published", model_version="v1"))
    assert (ids(learned_rows(store)), ids(store.unprocessed())) == ([rows[2].id], ids(rows[:2]))


def test_a_relabelled_picture_waits_whatever_version_is_live(store: Store, tmp_path: Path) -> None:
    rows = added(store, tmp_path, 2)
    published(store, "v1", rows)
    published(store, "v2", rows, parent="v1")
    store.relabel(rows[0].id, "Shoe")
    for name in ("v1", "v2"):
        store.set_live(name)
        assert ids(store.unprocessed()) == [rows[0].id]
    published(store, "v3", store.unprocessed(), parent="v2")
    assert store.count_unprocessed() == 0


def test_a_picture_deleted_during_a_job_is_no_obstacle(store: Store, tmp_path: Path) -> None:
    rows = added(store, tmp_path, 3)
    job = RetrainJob()
    assert store.start_job(job)
    store.delete_training(rows[0])
    prepare(store, "v1", rows)
    store.delete_training(rows[1])
    store.finish_job(replace(job, state="published", model_version="v1"))
    assert ids(learned_rows(store)) == [rows[2].id] == ids(store.training_data(10, None))
