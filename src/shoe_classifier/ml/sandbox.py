"""Work on files that may have been crafted, and work that takes much memory, in a process of its own.

A crafted file can crash the HDF5 library, and TensorFlow takes seconds and 450 MB. Both end with the child process,
while the service carries on. `python -m shoe_classifier.ml.sandbox` is that child.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from shoe_classifier.errors import InvalidModel
from shoe_classifier.ml.exports.formats import ExportFormat

_LONGEST_REASON = 400  # characters of the child's last line


class SandboxError(Exception):
    """The child process failed, crashed, or took too long. The text says which, in one line."""


def run_sandboxed(
    task: str,
    *arguments: str | Path | float,
    seconds: float,
    started: Callable[[subprocess.Popen[str]], None] = lambda child: None,
) -> None:
    """Run one of `TASKS` in a child process.

    Args:
        task: its name.
        arguments: of the task's function.
        seconds: time after which the child is killed.
        started: is given the child, which it may kill later.

    Raises:
        SandboxError: with the reason.
    """
    command = [sys.executable, "-m", "shoe_classifier.ml.sandbox", task, *map(str, arguments)]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1"}  # a GPU helps none of them, and starting it takes time
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    ) as child:
        started(child)
        try:
            _, output = child.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            raise SandboxError(f"It did not finish within {seconds:g} s.") from None
    if child.returncode:
        reason = (output.strip().splitlines() or [f"The process ended with status {child.returncode}."])[-1]
        raise SandboxError(reason[-_LONGEST_REASON:])


def _open(path: str) -> None:
    from shoe_classifier.ml import bundle, live_model

    live_model.LiveModel(bundle.read(Path(path)))


def _compile(path: str, input_range: str, target: str) -> None:
    from shoe_classifier.ml import bundle

    bundle.check_external(Path(path))  # before TensorFlow sees the file
    from shoe_classifier.ml import architecture

    Path(target).write_bytes(architecture.compile_external(Path(path), input_range))


def _export(kind: ExportFormat, model: str, pictures: str, drawn: str, seconds: str, target: str) -> None:
    from shoe_classifier.ml.exports import packing

    packing.write_export(kind, Path(model), Path(pictures), int(drawn), float(seconds), Path(target))


TASKS: dict[str, Callable[..., None]] = {
    "open": _open,  # path: read a model file of this service and predict one picture
    "compile": _compile,  # path, input range, target: compile a plain Keras model to a LiteRT file
    "export": _export,  # format, model file, folder of pictures, number of drawn ones, seconds for them, target
}


def _main() -> None:
    task, *arguments = sys.argv[1:]
    try:
        TASKS[task](*arguments)
    except InvalidModel as error:
        sys.exit(error.detail)


if __name__ == "__main__":
    _main()
