import json
import zipfile
from pathlib import Path

import onnx
import pytest

from helpers.pictures import draw
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml.exports import packing
from shoe_classifier.ml.exports.formats import ExportFormat


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "1").write_bytes(draw("Boot", 1))
    return folder


def write(kind: ExportFormat, model_file: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(packing.os, "nice", lambda by: by)  # it cannot be undone, and belongs to the child process
    target = pictures.parent / f"export.{kind}"
    packing.write_export(kind, model_file, pictures, 3, 60, target)
    return target


def check(description: dict[str, object], target: Path, model_file: Path) -> None:
    bundle = bundles.read(model_file)
    report = json.loads(target.with_suffix(".json").read_text())
    assert description["labels"] == ["Boot", "Sandal", "Shoe"]
    assert description["version"] == bundle.version
    assert description["temperature"] == bundle.head.temperature
    assert description["uncertain_threshold"] == bundle.head.uncertain_threshold
    assert description["unknown_thresholds"] == dict(
        zip(bundle.labels, bundle.head.unknown_thresholds.tolist(), strict=True)
    )
    assert description["parity"] == report
    assert (report["stored"], report["drawn"], report["label_changes"]) == (1, 3, 0)


def test_tflite_is_a_zip_as_well(model_file: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = write("tflite", model_file, pictures, monkeypatch)
    with zipfile.ZipFile(target) as archive:
        check(json.loads(archive.read("metadata.json")), target, model_file)
        assert archive.read("labels.txt").decode().split() == ["Boot", "Sandal", "Shoe"]


def test_a_page_has_it_in_a_script(model_file: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = write("web", model_file, pictures, monkeypatch)
    description = target.read_text().partition('type="application/json">')[2].partition("</script>")[0]
    check(json.loads(description), target, model_file)


def test_onnx_has_it_among_its_metadata(model_file: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = write("onnx", model_file, pictures, monkeypatch)
    (entry,) = onnx.load(target).metadata_props
    assert entry.key == "shoe_classifier"
    check(json.loads(entry.value), target, model_file)
