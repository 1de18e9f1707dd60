"""Builds what the settings ask for: the store, the webhooks, the model registry, and the model that would serve."""

from collections.abc import Callable
from pathlib import Path

from shoe_classifier.files import sha256_of
from shoe_classifier.ml.external_model import ExternalModel, open_external
from shoe_classifier.ml.live_model import LiveModelHolder, Model, open_model_file
from shoe_classifier.services.external_registry import ExternalModelRegistry
from shoe_classifier.services.local_registry import LocalModelRegistry
from shoe_classifier.services.model_registry import KeepPolicy, ModelRegistry
from shoe_classifier.services.shared_registry import SharedModelRegistry
from shoe_classifier.services.webhooks import Webhooks
from shoe_classifier.settings import Settings
from shoe_classifier.storage.model_files import ModelFiles
from shoe_classifier.storage.protocols import Store
from shoe_classifier.storage.sqlite.store import SqliteStore


def open_store(settings: Settings) -> Store:
    """Open the store. Raises `ConfigurationError` if SUPABASE_URL or SUPABASE_KEY are malformed."""
    if not settings.supabase:
        return SqliteStore(settings.dataset_dir)
    from shoe_classifier.storage.supabase.store import SupabaseStore  # its import takes half a second, and memory

    return SupabaseStore(settings)


def open_webhooks(settings: Settings) -> Webhooks | None:
    """Open the delivery of webhooks, if the settings name a receiver."""
    if settings.webhook_url is None:
        return None
    from shoe_classifier.services.webhook_endpoint import WebhookEndpoint  # its HTTP client takes time and memory

    return Webhooks(settings.dataset_dir, WebhookEndpoint(settings))


def open_registry(settings: Settings, store: Store, files: ModelFiles, holder: LiveModelHolder) -> ModelRegistry:
    """Create the registry that fits the store and the kind of model; `ModelRegistry.restore` makes a model serve."""
    keep = KeepPolicy(settings.keep_versions, settings.keep_rejected, settings.keep_rejected_hours)
    open_external_file = external_opener(settings)
    if open_external_file:
        return ExternalModelRegistry(files, store, holder, open_external_file, marks_live=not store.shared)
    if store.shared:
        return SharedModelRegistry(files, store, holder, keep)
    return LocalModelRegistry(files, store, holder, keep)


def external_opener(settings: Settings) -> Callable[[Path, str], ExternalModel] | None:
    """Return what opens a plain Keras file, given its SHA-256; None if the settings name no such file."""
    labels = settings.external_labels
    if labels is None:
        return None
    cache = settings.models_dir / "compiled"
    return lambda path, sha256: open_external(path, sha256, labels, settings.model_input, cache)


def open_model(settings: Settings) -> Model:
    """Open the model that the service would serve. Raises `InvalidModel`."""
    path, opener = live_model_file(settings), external_opener(settings)
    return opener(path, sha256_of(path)) if opener else open_model_file(path, trusted=True)


def live_model_file(settings: Settings) -> Path:
    """Return the live model's file or, while there is none yet, the shipped one that it begins as."""
    files = ModelFiles(settings.live_model)
    return files.live if files.live.exists() or not files.shipped.exists() else files.shipped
