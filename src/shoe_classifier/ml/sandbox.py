"""Work on files that may have been crafted, in a process of its own.

A crafted file can crash the HDF5 library, and TensorFlow takes seconds and 450 MB. Both end with the child process,
while the service carries on. `python -m shoe_classifier.ml.sandbox` is that child.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from shoe_classifier.errors import InvalidModel

_LONGEST_REASON = 400  # characters of the child's last line


class SandboxError(Exception):
    """The child process failed, crashed, or took too long. The text says which, in one line."""


def run_sandboxed(task: str, *arguments: str | Path, seconds: float) -> None:
    """Run one of `TASKS` in a child process.

    Args:
        task: its name.
        arguments: of the task's function.
        seconds: time after which the child is killed.

    Raises:
        SandboxError: with the reason.
    """
    command = [sys.executable, "-m", "shoe_classifier.ml.sandbox", task, *map(str, arguments)]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise SandboxError(f"It did not finish within {seconds:g} s.") from None
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or [f"The process ended with status {result.returncode}."])[-1]
        raise SandboxError(reason[-_LONGEST_REASON:])


def _open(path: str) -> None:
    from shoe_classifier.ml import bundle, live_model

    live_model.LiveModel(bundle.read(Path(path)))


def _compile(path: str, input_range: str, target: str) -> None:
    from shoe_classifier.ml import bundle

    bundle.check_external(Path(path))  # before TensorFlow sees the file
    from shoe_classifier.ml import architecture

    Path(target).write_bytes(architecture.compile_external(Path(path), input_range))


TASKS: dict[str, Callable[..., None]] = {
    "open": _open,  # path: read a model file of this service and predict one picture
    "compile": _compile,  # path, input range, target: compile a plain Keras model to a LiteRT file
}


def _main() -> None:
    task, *arguments = sys.argv[1:]
    try:
        TASKS[task](*arguments)
    except InvalidModel as error:
        sys.exit(error.detail)


if __name__ == "__main__":
    _main()
