"""One story about every rejected candidate, on a Supabase project: outages from any call on, and kills between any two.

`test_retraining.py` does the same at the methods of a store on this machine.
"""

import contextlib
import hashlib
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from helpers.retraining import Machine, Story, train_by_copying
from helpers.service import make_settings
from helpers.supabase_stack import Dump, Stack
from shoe_classifier.errors import AppError
from shoe_classifier.ml import finetune
from shoe_classifier.settings import Settings

pytestmark = pytest.mark.supabase

Project = dict[str, object]
OUTAGES = pytest.mark.parametrize("after", [False, True], ids=["before the work", "after the work"])


@pytest.fixture(autouse=True)
def rejecting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetune, "retrain_head", train_by_copying)
    monkeypatch.setattr("shoe_classifier.services.candidate_trainer.judge", lambda evidence: ["it is worse"])


@pytest.fixture
def machine(settings: Settings, project: Project) -> Iterator[Machine]:
    machine = Machine(make_settings(settings.models_dir.parent, **project), shared=True).start()
    machine.upload()
    yield machine
    machine.close()


@contextlib.contextmanager
def outage(stack: Stack, call: str, *, after: bool) -> Iterator[None]:
    """Nothing is answered from this call on."""
    stack.gateway.away_at, stack.gateway.away_after = call, after
    yield
    assert stack.gateway.away, "the call was not made"
    stack.gateway.come_back()


@OUTAGES
@pytest.mark.parametrize(
    "call",
    [
        "POST /storage/v1/object/models",
        "POST /rest/v1/rpc/prepare_publication",
        "POST /rest/v1/Model_Versions",
        "POST /rest/v1/rpc/finish_retrain",
    ],
)
def test_an_outage_while_a_rejected_candidate_is_kept(machine: Machine, stack: Stack, call: str, after: bool) -> None:
    with outage(stack, call, after=after):
        job = machine.retrain(force=False)
    assert job.state == "rejected"
    assert (job.model_version is None) == ("finish_retrain" not in call)
    machine.retrainer.beat()
    assert machine.real_store.job(job.job_id) == machine.retrainer.job(job.job_id)
    assert_one_story_after_restart(machine, stack)


@OUTAGES
@pytest.mark.parametrize("call", ["POST /rest/v1/rpc/start_retrain", "POST /rest/v1/rpc/finish_retrain"])
def test_an_outage_while_a_rejected_candidate_is_published(
    machine: Machine, stack: Stack, call: str, after: bool
) -> None:
    version = machine.retrain(force=False).model_version
    assert version
    with outage(stack, call, after=after), contextlib.suppress(AppError):
        machine.retrainer.activate(version)
    machine.retrainer.beat()
    machine.registry.follow()
    live = machine.story().serving
    assert (live == version) == (after and "finish_retrain" in call)  # what the project has done, though unanswered
    assert_one_story_after_restart(machine, stack)
    assert machine.retrainer.activate(version).state == "live"
    assert machine.story() == Story.published(version)


@OUTAGES
@pytest.mark.parametrize(
    "call",
    ["PATCH /rest/v1/Model_Versions", "DELETE /rest/v1/Learned_Pictures", "DELETE /storage/v1/object/models"],
)
def test_an_outage_while_a_rejected_candidate_is_deleted(
    machine: Machine, stack: Stack, call: str, after: bool
) -> None:
    machine.retrain(force=False)
    hasty = Machine(machine.settings.model_copy(update={"keep_rejected": 0}), shared=True)
    with outage(stack, call, after=after):
        hasty.registry.remove_unpublished()
    assert_one_story_after_restart(hasty, stack)
    hasty.close()


def test_a_kill_between_any_two_calls(machine: Machine, stack: Stack, tmp_path: Path, project: Project) -> None:
    killed: dict[Path, Dump] = {}

    def keep_all() -> None:
        dump = stack.dump()
        if dump in killed.values():
            return
        folder = tmp_path / f"killed {len(killed)}"
        for name in ("models", "dataset"):
            shutil.copytree(tmp_path / name, folder / name)
        killed[folder] = dump

    stack.gateway.observer = keep_all
    version = machine.retrain(force=False).model_version
    assert version
    machine.retrainer.activate(version)
    machine.close()
    stack.gateway.observer = lambda: None
    ends = set()
    for folder, dump in killed.items():
        stack.load(dump)
        again = Machine(make_settings(folder, **project), shared=True)
        assert_one_story_after_restart(again, stack)
        ends.update(job.state for job in again.real_store.jobs(1, None))
        again.close()
    assert ends == {"failed", "rejected", "published"}


def assert_one_story_after_restart(machine: Machine, stack: Stack) -> None:
    """Start the machine again; jobs, live version, files, objects and rows agree then."""
    machine.start()
    rows, jobs = machine.real_store.versions(), machine.real_store.jobs(10, None)
    assert all(job.finished for job in jobs)
    states = {row.version: row.state for row in rows}
    published = [job.model_version for job in jobs if job.state == "published"]
    [live] = [version for version, state in states.items() if state == "live"]
    assert machine.story() == (Story.published(published[0]) if published else Story.unchanged(live))
    assert set(states.values()) <= {"live", "archived", "rejected", "deleted"}
    if machine.settings.keep_rejected:
        named = [states[job.model_version] for job in jobs if job.state == "rejected" and job.model_version]
        assert set(named) <= {"rejected", "live"}
    assert_only_listed_files(machine, stack)


def assert_only_listed_files(machine: Machine, stack: Stack) -> None:
    stack.gateway.age = timedelta(hours=2)  # then no file waits for its row any more
    machine.real_store.forget_unused()
    rows = machine.real_store.versions()
    kept = {row.file_path: row.sha256 for row in rows if row.state != "deleted"}
    objects = stack.gateway.buckets["models"]
    assert {path: hashlib.sha256(data).hexdigest() for path, (_, data) in objects.items()} == kept
    archived = {str(file.relative_to(machine.settings.models_dir)) for file in machine.files.archive.glob("*")}
    assert archived <= set(kept)
    assert not list(machine.settings.models_dir.glob(".*"))
