from pathlib import Path

from shoe_classifier.files import sha256_of
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.services.model_registry import identity_of, version_row


def test_a_file_keeps_its_identity_when_renamed_and_not_when_replaced(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"1")
    identity = identity_of(first)
    first.rename(second)
    assert identity_of(second) == identity
    assert identity_of(first) is None
    first.write_bytes(b"1")
    first.replace(second)
    assert identity_of(second) != identity


def test_a_row_describes_its_file(model_file: Path) -> None:
    bundle = bundles.read(model_file)
    row = version_row(bundle, sha256_of(model_file), "candidate")
    assert (row.version, row.labels, row.parent) == (bundle.version, list(bundle.labels), bundle.parent)
    assert (row.sha256, row.state) == (sha256_of(model_file), "candidate")
    assert row.file_path == f"versions/{bundle.version}.h5"
