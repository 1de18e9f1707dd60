"""What both registries have in common; `test_local_registry` and `test_shared_registry` test what they do with it."""

from pathlib import Path

import pytest

from helpers.retraining import Machine
from shoe_classifier.errors import NotFound
from shoe_classifier.files import sha256_of
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.services.model_registry import identity_of, version_row
from shoe_classifier.settings import Settings


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


@pytest.mark.parametrize("shared", [False, True])
def test_only_listed_versions_are_known(settings: Settings, shared: bool) -> None:
    machine = Machine(settings, shared=shared).start()
    version = bundles.read(settings.live_model).version
    assert machine.registry.known(version).version == version
    assert machine.registry.file_of(version) == settings.live_model
    for call in (machine.registry.known, machine.registry.file_of, machine.registry.activate):
        with pytest.raises(NotFound, match="received 'none'"):
            call("none")
