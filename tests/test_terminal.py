"""Progress where there is no terminal."""

import pytest

from shoe_classifier.terminal import ProgressLines, progress_bar


def test_lines_for_each_step_but_not_for_each_number(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar() as progress:
        assert isinstance(progress, ProgressLines)
        task = progress.add_task("Starting", total=10.0)
        for number in range(5):
            progress.update(task, description=f"Picture {number}.", completed=number)
        progress.update(task, description="Fitting.", completed=10)
    assert capsys.readouterr().out.splitlines() == ["  0%  Picture 0.", "100%  Fitting."]
