import logging
import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from shoe_classifier.storage.outcome_file import OutcomeFile


@dataclass(frozen=True)
class Sum:
    total: float = 0.0
    parts: list[tuple[int, ...]] = field(default_factory=list)


def outcome_file(folder: Path) -> OutcomeFile[Sum]:
    return OutcomeFile(folder / "sum.json", Sum())


def test_all_read_what_one_has_written(tmp_path: Path) -> None:
    one, two = outcome_file(tmp_path), outcome_file(tmp_path)
    assert one.read() == two.read() == Sum()
    one.write(Sum(np.float64(3), [(1, 2)]))  # type: ignore[arg-type]
    assert one.read() == two.read() == outcome_file(tmp_path).read() == Sum(3.0, [(1, 2)])
    assert two.read() is two.read()  # the file is read once
    two.write(Sum(4.0))
    assert one.read() == Sum(4.0)


def test_a_file_of_another_shape_counts_as_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "sum.json").write_text('{"total": "many"}')
    with caplog.at_level(logging.WARNING):
        assert outcome_file(tmp_path).read() == Sum()
    assert "sum.json cannot be read" in caplog.text


def test_without_a_place_on_the_disk_this_worker_knows_it(tmp_path: Path) -> None:
    file = OutcomeFile(tmp_path / "sum.json", Sum())
    (tmp_path / "sum.json").mkdir()
    file.write(Sum(1.0))
    assert file.read() == Sum(1.0)


def test_one_at_a_time(tmp_path: Path) -> None:
    one, two, calls = outcome_file(tmp_path), outcome_file(tmp_path), threading.Event()

    def give_up() -> None:
        calls.set()
        raise InterruptedError

    with one.turn():
        with pytest.raises(InterruptedError), two.turn(give_up):
            pass
        assert calls.is_set()
    with two.turn(give_up):
        pass
