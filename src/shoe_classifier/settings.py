"""All settings, read once from the environment or `.env`."""

import base64
import os
import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from shoe_classifier.errors import ConfigurationError
from shoe_classifier.host import memory_bytes
from shoe_classifier.types import MAX_IMAGE_PIXELS

_AUTO_RETRAIN = re.compile(r"off|daily|new_pictures:[1-9]\d{0,8}")
_MOST_DECODING_BYTES = 1 << 30  # two of the largest pictures in the format that takes the most
InputRange = Literal["auto", "0..255", "0..1", "-1..1"]


def _quarter_of_the_memory(given: dict[str, Any]) -> int:
    """Of 512 MB, the idle service takes 120, a quick retrain 130, and bodies, threads and connections about 100."""
    return min(_MOST_DECODING_BYTES, memory_bytes() // 4 // given.get("uvicorn_workers", 1))


class Settings(BaseSettings):
    """Typed settings. Names in the environment are the same in capitals."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", env_ignore_empty=True, frozen=True)

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 in a container.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on.")
    api_key: SecretStr | None = Field(None, description="Key that opens all calls; sent as X-API-Key.")
    read_key: SecretStr | None = Field(None, description="Key that opens only predicting and reading.")
    open_reading: bool = Field(False, description="Show rows, pictures and model files without a key.")
    open_predict: bool = Field(True, description="Predict without a key.")
    trusted_proxies: str | None = Field(
        None, description="Proxies whose X-Forwarded-For says in the audit log who called: addresses and networks."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="What is logged.")
    log_format: Literal["text", "json"] = Field("text", description="A line or a JSON object for each event.")

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
    keep_predictions_days: int | None = Field(None, gt=0, description="Age at which predictions are deleted.")
    keep_prediction_images_bytes: int = Field(5 << 30, gt=0, description="Most bytes of predicted pictures.")
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
    # 4 KiB: below any usable mobile network. 1800 s: the largest ZIP at 5 Mbit/s. 512: below the usual 1024 open files.
    min_bytes_per_second: int = Field(4096, ge=0, description="Least rate of a body, or of an answer that is read.")
    request_seconds: float = Field(1800, gt=0, description="Longest time that a body may take to arrive.")
    max_header_bytes: int = Field(64 << 10, gt=0, description="Most bytes of headers, also after a chunked body.")
    max_connections: int = Field(512, gt=0, description="Connections; on others, only /health, /ready and /metrics.")
    max_body_memory_bytes: int = Field(32 << 20, gt=0, description="Most bytes of all bodies in memory.")
    max_decoding_bytes: int = Field(
        default_factory=_quarter_of_the_memory, gt=0, description="Most bytes of all pictures while they are decoded."
    )
    # Two of the largest ZIPs; ten times the scans of usual encoders; 50,000 entries with names of 200 bytes.
    max_body_disk_bytes: int = Field(2 << 30, gt=0, description="Most bytes of all bodies in TEMP_UPLOADS_DIR.")
    max_jpeg_scans: int = Field(100, gt=0, description="Most scans of a JPEG; each costs a pass over the picture.")
    max_zip_directory_bytes: int = Field(16 << 20, gt=0, description="Largest table of contents of a ZIP, in bytes.")
    shutdown_seconds: int = Field(20, gt=0, description="Time that requests in flight get at SIGTERM.")

    review_random_share: float = Field(
        0.01, ge=0, le=1, description="Share of the predictions drawn for review at random; these measure accuracy."
    )

    retrain_in: Literal["thread", "subprocess", "ray"] = Field("subprocess", description="Where a full retrain runs.")
    retrain_workers: int = Field(2, gt=0, description="Workers of a full retrain in ray.")
    retrain_max_seconds: int = Field(3600, gt=0, description="Longest training time, when the call gives none.")
    full_from_images: int = Field(
        1000, gt=0, description="Number of new pictures from which `auto` tries a full retrain."
    )
    keep_versions: int = Field(5, gt=0, description="Earlier model versions that are kept.")
    keep_rejected: int = Field(
        3, ge=0, description="Most rejected candidates that are kept, to be published all the same."
    )
    keep_rejected_hours: int = Field(72, gt=0, description="Time for which they are kept.")
    auto_retrain: str = Field("off", description="Retrain without being asked: off, daily or new_pictures:N.")

    ray_address: str | None = Field(None, description="Ray cluster for `scale`: host:port, or auto.")

    webhook_url: str | None = Field(None, description="Where webhooks go; set it together with WEBHOOK_SECRET.")
    webhook_secret: SecretStr | None = Field(None, description="What they are signed with: whsec_ and base64.")
    webhook_allow_private: bool = Field(False, description="Let WEBHOOK_URL lead to private addresses.")

    @property
    def live_model(self) -> Path:
        return self.model_path or self.models_dir / "shoe_classifier.h5"

    @property
    def external_labels(self) -> tuple[str, ...] | None:
        """The labels of a plain Keras model, or None when the live model is one of this service."""
        return tuple(name.strip() for name in self.class_names.split(",")) if self.class_names else None

    @property
    def trusted_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The addresses of `trusted_proxies`. Raises `ValueError` for a text that is none."""
        return tuple(ip_network(text.strip()) for text in (self.trusted_proxies or "").split(",") if text.strip())

    @property
    def threads(self) -> int:
        return self.predict_threads or max(1, (os.cpu_count() or 1) // self.uvicorn_workers)

    @property
    def supabase(self) -> bool:
        return self.supabase_url is not None


def load_settings(**overrides: object) -> Settings:
    """Read and check the settings.

    Raises:
        ConfigurationError: a value of the wrong type, one half of a pair, or one key for two purposes.
    """
    try:
        settings = Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        wrong = [e for e in error.errors() if e["type"] != "default_factory_not_called"]  # that is a consequence
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in wrong)
        raise ConfigurationError(f"The settings are wrong. {problems}") from None
    if (settings.supabase_url is None) != (settings.supabase_key is None):
        there, missing = ("SUPABASE_URL", "SUPABASE_KEY") if settings.supabase_url else ("SUPABASE_KEY", "SUPABASE_URL")
        raise ConfigurationError(
            f"Expected SUPABASE_URL and SUPABASE_KEY together; received {there} without {missing}."
        )
    _check_keys(settings)
    if settings.retrain_in == "ray" and not settings.ray_address:
        raise ConfigurationError("Expected RAY_ADDRESS together with RETRAIN_IN=ray; received RETRAIN_IN alone.")
    if not _AUTO_RETRAIN.fullmatch(settings.auto_retrain):
        raise ConfigurationError(
            "Expected AUTO_RETRAIN to be off, daily or new_pictures:N with a whole number N from 1; "
            f"received {settings.auto_retrain!r}."
        )
    _check_webhook(settings)
    _check_proxies(settings)
    labels = settings.external_labels
    if labels and settings.model_path is None:
        raise ConfigurationError("Expected MODEL_PATH together with CLASS_NAMES; received CLASS_NAMES alone.")
    if labels and ("" in labels or len(set(labels)) < max(2, len(labels))):
        raise ConfigurationError(
            f"Expected two or more different names in CLASS_NAMES, as in a,b,c; received {settings.class_names!r}."
        )
    return settings


def _check_keys(settings: Settings) -> None:
    if settings.read_key and settings.api_key is None:
        raise ConfigurationError(
            "Expected API_KEY together with READ_KEY; received READ_KEY alone, with which nobody could write."
        )
    if settings.read_key and settings.read_key == settings.api_key:
        raise ConfigurationError("Expected READ_KEY to differ from API_KEY; received the same key, which opens all.")


def _check_proxies(settings: Settings) -> None:
    try:
        settings.trusted_networks  # noqa: B018 - raises for what is no address
    except ValueError as error:
        raise ConfigurationError(
            f"Expected TRUSTED_PROXIES to be addresses or networks, as in 127.0.0.1,10.0.0.0/8; {error}."
        ) from None


def _check_webhook(settings: Settings) -> None:
    """Raise `ConfigurationError` for half of the pair, or for one that cannot work."""
    url, secret = settings.webhook_url, settings.webhook_secret
    if (url is None) != (secret is None):
        there, missing = ("WEBHOOK_URL", "WEBHOOK_SECRET") if url else ("WEBHOOK_SECRET", "WEBHOOK_URL")
        raise ConfigurationError(
            f"Expected WEBHOOK_URL and WEBHOOK_SECRET together; received {there} without {missing}."
        )
    if url is not None and not _is_web_address(url):
        raise ConfigurationError("Expected WEBHOOK_URL to be an http or https address; received another text.")
    if secret is not None and not _is_webhook_secret(secret.get_secret_value()):
        raise ConfigurationError(
            "Expected WEBHOOK_SECRET to be whsec_ and the base64 of 24 to 64 bytes; received another text."
        )


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # as of "http://["
        return False


def _is_webhook_secret(secret: str) -> bool:
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError:
        return False
    return secret.startswith("whsec_") and 24 <= len(key) <= 64
