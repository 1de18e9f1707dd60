import shutil
import signal
import sys
import time
from pathlib import Path

import h5py
import pytest

from shoe_classifier.ml.sandbox import SandboxError, run_sandboxed


def test_a_whole_file_passes(model_file: Path) -> None:
    run_sandboxed("open", model_file, seconds=60)


def test_the_reason_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("text")
    with pytest.raises(SandboxError, match=r"^Expected a model file of this service; text\.h5 does not read"):
        run_sandboxed("open", tmp_path / "text.h5", seconds=60)


def test_an_unforeseen_error_has_a_reason_too() -> None:
    with pytest.raises(SandboxError, match=r"^KeyError: 'no such task'$"):
        run_sandboxed("no such task", seconds=60)


def test_a_crash_stays_in_the_child(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(crashing_python(tmp_path, f"kill -{int(signal.SIGSEGV)} $$")))
    with pytest.raises(SandboxError, match=r"^The process ended with status -11\.$"):
        run_sandboxed("open", seconds=60)


def test_a_child_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(crashing_python(tmp_path, "exec sleep 60")))
    begun = time.monotonic()
    with pytest.raises(SandboxError, match=r"^It did not finish within 0\.2 s\.$"):
        run_sandboxed("open", seconds=0.2)
    assert time.monotonic() - begun < 30


def crashing_python(folder: Path, program: str) -> Path:
    """A stand-in for the interpreter."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{program}\n")
    path.chmod(0o755)
    return path


def test_a_model_with_code_is_refused_before_tensorflow_sees_it(model_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    shutil.copy(model_file, path)
    with h5py.File(path, "r+") as file:
        del file["shoe_classifier"]
        file.attrs["model_config"] = file.attrs["model_config"].replace('"ReLU"', '"Lambda"')
    with pytest.raises(SandboxError, match="without code; received one with a Lambda layer"):
        run_sandboxed("compile", path, "auto", tmp_path / "m.tflite", seconds=60)
    assert not (tmp_path / "m.tflite").exists()
