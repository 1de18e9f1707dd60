"""What the commands have in common: settings, errors and progress on a terminal."""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

from shoe_classifier.errors import AppError, ConfigurationError
from shoe_classifier.settings import Settings, load_settings
from shoe_classifier.types import Report

T = TypeVar("T")


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


def progress_bar(*, disable: bool = False) -> Any:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

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
