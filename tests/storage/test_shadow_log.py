from pathlib import Path

import pytest

from shoe_classifier.storage import shadow_log
from shoe_classifier.storage.shadow_log import Disagreement, ShadowLog, ShadowRun


def test_it_counts_up_to_what_is_wanted_and_survives_a_restart(tmp_path: Path) -> None:
    log = ShadowLog(tmp_path / "shadow.sqlite3")
    assert log.run() is None
    log.begin("v2", "v1", 3, "now")
    log.add("v2", Disagreement("1", "Boot", "Boot"))
    log.add("v2", Disagreement("2", "Boot", None))
    log.close()
    log = ShadowLog(tmp_path / "shadow.sqlite3")
    assert log.run() == ShadowRun("v2", "v1", 3, 2, 1, "now")
    log.add("other", Disagreement("3", "Boot", "Shoe"))
    log.add("v2", Disagreement("4", None, None))
    log.add("v2", Disagreement("5", "Boot", "Shoe"))
    run = log.run()
    assert run and (run.seen, run.agreed, run.running) == (3, 2, False)
    assert log.disagreements() == [Disagreement("2", "Boot", None)]
    log.end()
    assert (log.run(), log.disagreements()) == (None, [])
    log.close()


def test_a_new_run_replaces_the_last(tmp_path: Path) -> None:
    log = ShadowLog(tmp_path / "shadow.sqlite3")
    log.begin("v2", "v1", 3, "now")
    log.add("v2", Disagreement("1", "Boot", "Shoe"))
    log.begin("v3", "v1", 3, "later")
    assert log.run() == ShadowRun("v3", "v1", 3, 0, 0, "later")
    assert log.disagreements() == []
    log.close()


def test_disagreements_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow_log, "_MOST_DISAGREEMENTS", 2)
    log = ShadowLog(tmp_path / "shadow.sqlite3")
    log.begin("v2", "v1", 9, "now")
    for number in range(4):
        log.add("v2", Disagreement(str(number), "Boot", "Shoe"))
    run = log.run()
    assert run and run.seen == 4
    assert [one.prediction_id for one in log.disagreements()] == ["1", "0"]
    log.close()
