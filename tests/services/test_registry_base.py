"""What both registries have in common; `test_local_registry` and `test_shared_registry` test what they do with it."""

import pytest

from helpers.retraining import Machine
from shoe_classifier.errors import NotFound
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.settings import Settings


@pytest.mark.parametrize("shared", [False, True])
def test_only_listed_versions_are_known(settings: Settings, shared: bool) -> None:
    machine = Machine(settings, shared=shared).start()
    version = bundles.read(settings.live_model).version
    assert machine.registry.known(version).version == version
    assert machine.registry.file_of(version) == settings.live_model
    for call in (machine.registry.known, machine.registry.file_of, machine.registry.activate):
        with pytest.raises(NotFound, match="received 'none'"):
            call("none")
