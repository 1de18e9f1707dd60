"""What the settings ask for: which store, and a model of this service or a plain Keras model."""

from collections.abc import Callable
from pathlib import Path

from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml.external_model import ExternalModel, open_external
from shoe_classifier.ml.live_model import LiveModel, Model
from shoe_classifier.settings import Settings
from shoe_classifier.storage.model_files import sha256_of
from shoe_classifier.storage.protocols import Store
from shoe_classifier.storage.sqlite.store import SqliteStore


def open_store(settings: Settings) -> Store:
    """The store of the settings. Raises `ConfigurationError` when SUPABASE_URL or SUPABASE_KEY cannot be one."""
    if not settings.supabase:
        return SqliteStore(settings.dataset_dir)
    from shoe_classifier.storage.supabase.store import SupabaseStore  # takes half a second, and memory

    return SupabaseStore(settings)


def external_opener(settings: Settings) -> Callable[[Path, str], ExternalModel] | None:
    """How to open a plain Keras file with its SHA-256; None when the settings name none."""
    labels = settings.external_labels
    if labels is None:
        return None
    cache = settings.models_dir / "compiled"
    return lambda path, sha256: open_external(path, sha256, labels, settings.model_input, cache)


def open_model(settings: Settings) -> Model:
    """Open the model that the service would serve. Raises `InvalidModel`."""
    path, opener = settings.live_model, external_opener(settings)
    return opener(path, sha256_of(path)) if opener else LiveModel(bundles.read(path))
