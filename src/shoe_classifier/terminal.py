"""What the commands have in common: settings, errors and progress on a terminal."""

import sys
import time
from collections.abc import Callable
from typing import Any, Self, TypeVar

from shoe_classifier.errors import AppError, ConfigurationError
from shoe_classifier.settings import Settings, load_settings
from shoe_classifier.types import Report

T = TypeVar("T")
_LINE_SECONDS = 5.0  # between two lines that differ only in their numbers


def read_settings(**overrides: Any) -> Settings:
    """Read the settings; exits with a message if they are wrong."""
    return or_exit(load_settings, **overrides)


def or_exit(function: Callable[..., T], *values: Any, **options: Any) -> T:
    """Call a function; exits with the message of an error that the user can fix."""
    try:
        return function(*values, **options)
    except (AppError, ConfigurationError) as error:
        sys.exit(str(error))


def console() -> Any:
    from rich.console import Console

    return Console()


class ProgressLines:
    """Stands for rich's progress bar where there is no terminal: a line for each step, and now and then in between."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def add_task(self, description: str, total: float | None = None) -> dict[str, Any]:
        return {"total": total, "step": "", "due": 0.0}

    def update(self, task: dict[str, Any], *, description: str, completed: float, total: float | None = None) -> None:
        task["total"] = total or task["total"]
        step = "".join(letter for letter in description if not letter.isdigit())
        if step != task["step"] or time.monotonic() > task["due"]:
            share = f"{completed / task['total']:4.0%}  " if task["total"] else ""
            print(f"{share}{description}", flush=True)
            task.update(step=step, due=time.monotonic() + _LINE_SECONDS)


def progress_bar(*, disable: bool = False) -> Any:
    """Return a progress bar or, where there is no terminal, `ProgressLines`."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    if not (disable or console().is_terminal):
        return ProgressLines()
    return Progress(
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
        disable=disable,
    )


def show_on(progress: Any, task: Any) -> Report:
    """A report that moves a progress bar."""
    return lambda event: progress.update(task, description=event.message, completed=event.progress)


def print_metrics(metrics: dict[str, Any], title: str) -> None:
    """Print what `evaluation` measured: a row for each label, and the figures of all."""
    from rich.table import Table

    table = Table("label", "precision", "recall", "F1", "pictures", title=title)
    for name, figures in metrics["per_class"].items():
        table.add_row(name, *(f"{figures[key]:.3f}" for key in ("precision", "recall", "f1")), str(figures["support"]))
    console().print(table)
    low, high = metrics["accuracy_interval"]
    console().print(
        f"accuracy {metrics['accuracy']:.4f} (95 % interval {low:.3f} to {high:.3f}, {metrics['samples']} pictures), "
        f"balanced accuracy {metrics['balanced_accuracy']:.4f}, macro-F1 {metrics['macro_f1']:.4f}, "
        f"calibration error {metrics['ece']:.4f}"
    )
