import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from helpers.retraining import Machine, derive_version
from helpers.service import wait_for
from shoe_classifier.errors import (
    AppError,
    ExportDiffers,
    ExportFailed,
    ExportUnavailable,
    InvalidModel,
    NotFound,
    NotOffered,
    NotReady,
    Overloaded,
)
from shoe_classifier.files import sha256_of
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml.exports import formats
from shoe_classifier.ml.sandbox import SandboxError
from shoe_classifier.services import model_export
from shoe_classifier.services.model_export import ModelExport, ParityPictures
from shoe_classifier.services.model_registry import version_row
from shoe_classifier.settings import Settings
from shoe_classifier.types import RetrainJob

FORMAT_2 = Path(__file__).parent.parent / "fixtures" / "shapes_format2.h5"


@pytest.fixture
def machine(settings: Settings) -> Iterator[Machine]:
    machine = Machine(settings, shared=False).start()
    yield machine
    machine.close()


@pytest.fixture
def export(machine: Machine, settings: Settings) -> ModelExport:
    return ModelExport(settings, machine.real_store, machine.registry, ParityPictures(stored=2, drawn=2))


@pytest.fixture
def version(machine: Machine) -> str:
    return machine.holder.live.bundle.version


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stands in for the child process, which other tests run: it writes this report."""
    report = {"stored": 3, "drawn": 4, "label_changes": 0, "runs": 0}

    def run(task: str, kind: str, model: Path, *rest: Any, **options: Any) -> None:
        report["runs"] += 1
        rest[-1].write_bytes(b"export")
        rest[-1].with_suffix(".json").write_bytes(orjson.dumps(report))

    monkeypatch.setattr(model_export, "run_sandboxed", run)
    return report


def test_stored_and_drawn_pictures_are_compared(export: ModelExport, machine: Machine, version: str) -> None:
    machine.upload(count=3)
    report = export.report(version, "tflite")
    assert (report["stored"], report["drawn"], report["label_changes"]) == (2, 2, 0)
    assert export.export(version, "tflite").read_bytes()[4:8] == b"TFL3"


def test_an_export_is_made_once(export: ModelExport, version: str, quick: dict[str, Any]) -> None:
    assert export.export(version, "tflite") == export.export(version, "tflite")
    assert export.report(version, "tflite")["stored"] == 3
    assert quick["runs"] == 1


def test_few_are_kept(
    export: ModelExport,
    machine: Machine,
    settings: Settings,
    version: str,
    quick: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(model_export, "_KEPT", 1)
    first = export.export(version, "tflite")
    candidate = derive_version(settings.live_model, machine.files.candidate("second"), "second")
    row = version_row(bundles.read(candidate), sha256_of(candidate), "candidate")
    job = RetrainJob(state="published", phase="published", model_version="second")
    machine.registry.publish(candidate, row, job, {})
    second = export.export("second", "tflite")
    assert {path.name for path in second.parent.iterdir()} == {second.name, second.with_suffix(".json").name}
    assert export.export(version, "tflite") == first  # which is archived now, and made again
    assert quick["runs"] == 3


def test_changed_labels_are_refused(
    export: ModelExport, version: str, quick: dict[str, Any], settings: Settings
) -> None:
    quick["label_changes"] = 1
    for _ in range(2):
        with pytest.raises(ExportDiffers, match=r"label for all of 7 pictures; it names another one for 1\."):
            export.export(version, "tflite")
    assert list((settings.models_dir / "exports").iterdir()) == []
    assert list(settings.temp_uploads_dir.iterdir()) == []


def test_one_at_a_time(export: ModelExport, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*values: Any, **options: Any) -> None:
        with pytest.raises(Overloaded, match="Expected one export at a time"):
            export.export(version, "tflite")
        raise SandboxError("ended")

    monkeypatch.setattr(model_export, "run_sandboxed", run)
    for _ in range(2):  # one that failed is out of the way
        with pytest.raises(ExportFailed, match="Try again"):
            export.export(version, "tflite")


def test_the_child_ends_with_the_service(settings: Settings, machine: Machine, version: str) -> None:
    export = ModelExport(settings, machine.real_store, machine.registry, ParityPictures(0, 1_000_000, 600))
    failed: list[Exception] = []

    def make() -> None:
        with pytest.raises(ExportFailed) as raised:
            export.export(version, "tflite")
        failed.append(raised.value)

    thread = threading.Thread(target=make)
    thread.start()
    wait_for(lambda: export._child)
    export.stop()
    thread.join(60)
    assert str(failed[0].__cause__) == "The process ended with status -9."
    assert "-9" not in str(failed[0])
    assert export._child is None


def test_unknown_and_deleted_versions(export: ModelExport, machine: Machine, version: str) -> None:
    with pytest.raises(NotFound, match="Expected a version that GET /models lists; received 'none'"):
        export.export("none", "tflite")
    row = machine.real_store.version(version)
    assert row
    machine.real_store.save_version(replace(row, version="old", state="deleted"))
    with pytest.raises(NotFound, match="Expected a version whose file is kept; that of 'old' was deleted"):
        export.export("old", "tflite")


def test_a_foreign_model(export: ModelExport, machine: Machine, version: str) -> None:
    row = machine.real_store.version(version)
    assert row
    machine.real_store.save_version(replace(row, version="keras-1", metrics={}))
    with pytest.raises(NotOffered, match="'keras-1' is a plain Keras model made elsewhere"):
        export.export("keras-1", "tflite")


def test_a_model_of_the_first_release(settings: Settings) -> None:
    shutil.copy(FORMAT_2, settings.live_model)
    machine = Machine(settings, shared=False).start()
    export = ModelExport(settings, machine.real_store, machine.registry)
    with pytest.raises(NotOffered, match=r"was made by 0\.1\.0\. Export the next version"):
        export.export(machine.holder.live.bundle.version, "tflite")
    machine.close()


@pytest.mark.parametrize(("damage", "error"), [(b"text", InvalidModel), (None, NotReady)])
def test_a_live_file_that_is_replaced_meanwhile(
    export: ModelExport, settings: Settings, version: str, damage: bytes | None, error: type[AppError]
) -> None:
    settings.live_model.write_bytes(damage or settings.live_model.read_bytes() + b"x")
    with pytest.raises(error):
        export.export(version, "tflite")


def test_missing_packages_are_named_with_the_way_to_get_them(
    export: ModelExport, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(formats.FORMATS, "onnx", replace(formats.FORMATS["onnx"], packages=("onnx", "no_such_package")))
    with pytest.raises(
        ExportUnavailable, match=r"no_such_package is not installed.*pip install 'shoe-classifier\[export"
    ):
        export.export(version, "onnx")
