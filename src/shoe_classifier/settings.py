"""All settings, read once from the environment or `.env`."""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from shoe_classifier.errors import ConfigurationError
from shoe_classifier.types import MAX_IMAGE_PIXELS

InputRange = Literal["auto", "0..255", "0..1", "-1..1"]


class Settings(BaseSettings):
    """Typed settings. Names in the environment are the same in capitals."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", env_ignore_empty=True, frozen=True)

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 in a container.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on.")
    api_key: SecretStr | None = Field(None, description="Key that writing calls must send as X-API-Key.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="What is logged.")

    supabase_url: str | None = Field(None, description="Supabase project; set it together with SUPABASE_KEY.")
    supabase_key: SecretStr | None = Field(None, description="Its service key.")
    supabase_bucket: str = Field("uploads", description="Its bucket for pictures.")
    supabase_timeout_seconds: float = Field(10, gt=0, description="Longest wait for one of its answers.")
    file_url_seconds: int = Field(3600, gt=0, description="Lifetime of the signed addresses of pictures there.")
    model_poll_seconds: float = Field(10, gt=0, description="Interval at which its live version is looked up.")
    outbox_max_rows: int = Field(1_000_000, gt=0, description="Most rows waiting to be sent there.")
    outbox_max_bytes: int = Field(1 << 30, gt=0, description="Most bytes of pictures waiting to be sent there.")
    store_cache_bytes: int = Field(1 << 30, gt=0, description="Most bytes of its pictures cached here.")

    models_dir: Path = Field(Path("models"), description="Folder of the live model and of earlier versions.")
    model_path: Path | None = Field(None, description="Another live model file; a plain Keras .h5 with CLASS_NAMES.")
    class_names: str | None = Field(None, description="Labels of a plain Keras model, in output order: a,b,c.")
    model_input: InputRange = Field("auto", description="Its pixel range; auto: 0..1, or 0..255 if it rescales.")
    dataset_dir: Path = Field(Path("dataset"), description="Folder of the records and the stored pictures.")
    temp_uploads_dir: Path = Field(Path("temp_uploads"), description="Folder of uploads in flight.")
    store_prediction_images: bool = Field(True, description="Keep predicted pictures with their rows.")

    max_image_bytes: int = Field(15 << 20, gt=0, description="Largest picture, in bytes.")
    max_image_pixels: int = Field(MAX_IMAGE_PIXELS, gt=0, description="Largest picture, in pixels.")
    min_training_side: int = Field(16, gt=0, description="Shortest edge of a training picture, in pixels.")
    max_zip_bytes: int = Field(1 << 30, gt=0, description="Largest ZIP, in bytes, packed and unpacked.")
    max_zip_files: int = Field(50_000, gt=0, description="Most files in a ZIP.")
    max_batch_files: int = Field(256, gt=0, description="Most pictures in one /predict/batch.")

    uvicorn_workers: int = Field(1, gt=0, description="Processes that serve; they share model files and records.")
    predict_threads: int | None = Field(None, gt=0, description="Threads that decode and predict, in each process.")
    max_pending: int = Field(256, gt=0, description="Most predictions in flight; above it, 503 with Retry-After.")
    silence_seconds: float = Field(15, gt=0, description="A client that sends nothing for this long is disconnected.")
    shutdown_seconds: int = Field(20, gt=0, description="Time that requests in flight get at SIGTERM.")

    retrain_in: Literal["thread", "subprocess"] = Field("subprocess", description="Where a full retrain runs.")
    retrain_max_seconds: int = Field(3600, gt=0, description="Longest training time, when the call gives none.")
    full_from_images: int = Field(1000, gt=0, description="Number of new pictures from which `auto` retrains fully.")
    keep_versions: int = Field(5, gt=0, description="Earlier model versions that are kept.")
    keep_rejected: int = Field(
        3, ge=0, description="Most rejected candidates that are kept, to be published all the same."
    )
    keep_rejected_hours: int = Field(72, gt=0, description="Time for which they are kept.")

    @property
    def live_model(self) -> Path:
        return self.model_path or self.models_dir / "shoe_classifier.h5"

    @property
    def external_labels(self) -> tuple[str, ...] | None:
        """The labels of a plain Keras model, or None when the live model is one of this service."""
        return tuple(name.strip() for name in self.class_names.split(",")) if self.class_names else None

    @property
    def threads(self) -> int:
        return self.predict_threads or max(1, (os.cpu_count() or 1) // self.uvicorn_workers)

    @property
    def supabase(self) -> bool:
        return self.supabase_url is not None


def load_settings(**overrides: object) -> Settings:
    """Read and check the settings.

    Raises:
        ConfigurationError: a value of the wrong type, or one half of a pair.
    """
    try:
        settings = Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors())
        raise ConfigurationError(f"The settings are wrong. {problems}") from None
    if (settings.supabase_url is None) != (settings.supabase_key is None):
        there, missing = ("SUPABASE_URL", "SUPABASE_KEY") if settings.supabase_url else ("SUPABASE_KEY", "SUPABASE_URL")
        raise ConfigurationError(
            f"Expected SUPABASE_URL and SUPABASE_KEY together; received {there} without {missing}."
        )
    labels = settings.external_labels
    if labels and settings.model_path is None:
        raise ConfigurationError("Expected MODEL_PATH together with CLASS_NAMES; received CLASS_NAMES alone.")
    if labels and ("" in labels or len(set(labels)) < max(2, len(labels))):
        raise ConfigurationError(
            f"Expected two or more different names in CLASS_NAMES, as in a,b,c; received {settings.class_names!r}."
        )
    return settings
