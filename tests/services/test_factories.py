import shutil
from pathlib import Path

import pytest

from helpers.service import make_settings
from shoe_classifier.errors import InvalidModel
from shoe_classifier.files import sha256_of
from shoe_classifier.ml.live_model import LiveModelHolder
from shoe_classifier.services import factories
from shoe_classifier.services.external_registry import ExternalModelRegistry
from shoe_classifier.services.factories import external_opener, open_model, open_registry, open_store
from shoe_classifier.services.local_registry import LocalModelRegistry
from shoe_classifier.services.model_registry import KeepPolicy
from shoe_classifier.services.shared_registry import SharedModelRegistry
from shoe_classifier.settings import Settings
from shoe_classifier.storage.model_files import ModelFiles


class Store:
    def __init__(self, shared: bool):
        self.shared = shared


@pytest.mark.parametrize(
    ("shared", "class_names", "kind"),
    [
        (False, None, LocalModelRegistry),
        (True, None, SharedModelRegistry),
        (False, "a,b", ExternalModelRegistry),
        (True, "a,b", ExternalModelRegistry),
    ],
)
def test_the_registry_fits_the_store_and_the_model(
    tmp_path: Path, shared: bool, class_names: str | None, kind: type
) -> None:
    settings = make_settings(tmp_path, class_names=class_names, model_path=tmp_path / "x.h5", keep_versions=3)
    registry = open_registry(
        settings,
        Store(shared),
        ModelFiles(settings.live_model),
        LiveModelHolder(1000),  # type: ignore[arg-type]
    )
    assert type(registry) is kind
    if kind is ExternalModelRegistry:
        assert registry._marks_live is not shared
    else:
        assert registry._keep == KeepPolicy(3, 3, 72)  # type: ignore[attr-defined]


def test_the_store_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "dataset").mkdir()
    local = open_store(make_settings(tmp_path))
    assert (local.kind, local.shared) == ("sqlite", False)
    local.close()


def test_open_model(settings: Settings) -> None:
    assert open_model(settings).bundle.labels == ("Boot", "Sandal", "Shoe")
    settings.live_model.write_text("text")
    with pytest.raises(InvalidModel):
        open_model(settings)


def test_an_external_model_is_opened_with_its_labels(
    tmp_path: Path, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copy(model_file, tmp_path / "keras.h5"))
    settings = make_settings(tmp_path, class_names="a, b", model_path=path, model_input="-1..1")
    calls: list[object] = []
    monkeypatch.setattr(factories, "open_external", lambda *arguments: calls.append(arguments))
    open_model(settings)
    assert calls == [(path, sha256_of(path), ("a", "b"), "-1..1", tmp_path / "models" / "compiled")]
    assert external_opener(make_settings(tmp_path)) is None
