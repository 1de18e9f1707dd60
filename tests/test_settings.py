from pathlib import Path

import pytest

from helpers.receiver import SECRET
from shoe_classifier.errors import ConfigurationError
from shoe_classifier.settings import Settings, load_settings

ROOT = Path(__file__).parent.parent


def test_defaults() -> None:
    settings = load_settings(_env_file=None)
    assert settings.port == 8000
    assert settings.host == "127.0.0.1"
    assert settings.live_model == Path("models/shoe_classifier.h5")


def test_environment_and_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("PORT=9000\nAPI_KEY=from-file\nMAX_ZIP_FILES=\n")
    monkeypatch.setenv("API_KEY", "from-environment")
    settings = load_settings()
    assert settings.port == 9000
    assert settings.api_key and settings.api_key.get_secret_value() == "from-environment"
    assert settings.max_zip_files == 50_000


def test_secrets_are_not_printed() -> None:
    assert "hidden" not in repr(load_settings(_env_file=None, api_key="hidden"))


@pytest.mark.parametrize(("name", "value"), [("port", "x"), ("max_zip_files", 0), ("retrain_in", "cloud")])
def test_wrong_values_are_named(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=name.upper()):
        load_settings(_env_file=None, **{name: value})


@pytest.mark.parametrize("half", ["supabase_url", "supabase_key"])
def test_half_a_pair_stops_the_start(half: str) -> None:
    with pytest.raises(ConfigurationError, match="SUPABASE_URL and SUPABASE_KEY together"):
        load_settings(_env_file=None, **{half: "x"})


def test_a_retrain_on_ray_needs_an_address() -> None:
    with pytest.raises(ConfigurationError, match="RAY_ADDRESS together with RETRAIN_IN=ray; received RETRAIN_IN alone"):
        load_settings(_env_file=None, retrain_in="ray")
    assert load_settings(_env_file=None, retrain_in="ray", ray_address="auto").retrain_workers == 2


def test_a_read_key_needs_an_api_key() -> None:
    with pytest.raises(ConfigurationError, match="API_KEY together with READ_KEY; received READ_KEY alone"):
        load_settings(_env_file=None, read_key="reader")


def test_one_key_cannot_have_both_purposes() -> None:
    with pytest.raises(ConfigurationError, match="READ_KEY to differ from API_KEY") as caught:
        load_settings(_env_file=None, read_key="hidden", api_key="hidden")
    assert "hidden" not in str(caught.value)


def test_class_names_need_a_model_path() -> None:
    with pytest.raises(ConfigurationError, match="MODEL_PATH together with CLASS_NAMES"):
        load_settings(_env_file=None, class_names="a,b")


@pytest.mark.parametrize("names", ["a", "a,,b", "a,a", "a, a"])
def test_class_names_must_be_two_or_more_different_names(names: str) -> None:
    with pytest.raises(ConfigurationError, match="two or more different names"):
        load_settings(_env_file=None, model_path="m.h5", class_names=names)


def test_external_labels() -> None:
    settings = load_settings(_env_file=None, model_path="m.h5", class_names="a, b,c")
    assert (settings.external_labels, settings.live_model) == (("a", "b", "c"), Path("m.h5"))
    assert load_settings(_env_file=None, model_path="m.h5").external_labels is None


@pytest.mark.parametrize(("workers", "threads"), [(1, 8), (2, 4), (16, 1)])
def test_workers_share_the_processors(monkeypatch: pytest.MonkeyPatch, workers: int, threads: int) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert load_settings(_env_file=None, uvicorn_workers=workers).threads == threads
    assert load_settings(_env_file=None, uvicorn_workers=workers, predict_threads=3).threads == 3


@pytest.mark.parametrize(("workers", "quarter"), [(1, 128 << 20), (2, 64 << 20)])
def test_decoding_takes_a_quarter_of_the_memory(monkeypatch: pytest.MonkeyPatch, workers: int, quarter: int) -> None:
    monkeypatch.setattr("shoe_classifier.settings.memory_bytes", lambda: 512 << 20)
    assert load_settings(_env_file=None, uvicorn_workers=workers).max_decoding_bytes == quarter
    assert load_settings(_env_file=None, uvicorn_workers=workers, max_decoding_bytes=3).max_decoding_bytes == 3
    with pytest.raises(ConfigurationError) as error:
        load_settings(_env_file=None, uvicorn_workers=0)
    assert "UVICORN_WORKERS" in str(error.value) and "MAX_DECODING_BYTES" not in str(error.value)
    monkeypatch.setattr("shoe_classifier.settings.memory_bytes", lambda: 64 << 30)
    assert load_settings(_env_file=None, uvicorn_workers=workers).max_decoding_bytes == 1 << 30


@pytest.mark.parametrize("document", [".env.example", "DEPLOYMENT.md"])
def test_every_setting_is_documented(document: str) -> None:
    text = (ROOT / document).read_text()
    missing = [name.upper() for name in Settings.model_fields if name.upper() not in text]
    assert not missing


@pytest.mark.parametrize(
    "value", ["weekly", "new_pictures", "new_pictures:0", "new_pictures:-1", "new_pictures:1.5", ""]
)
def test_auto_retrain_is_one_of_three(value: str) -> None:
    with pytest.raises(ConfigurationError, match="Expected AUTO_RETRAIN to be off, daily or new_pictures:N"):
        load_settings(_env_file=None, auto_retrain=value)
    assert load_settings(_env_file=None, auto_retrain="new_pictures:50").auto_retrain == "new_pictures:50"


@pytest.mark.parametrize("half", ["webhook_url", "webhook_secret"])
def test_half_a_webhook_stops_the_start(half: str) -> None:
    with pytest.raises(ConfigurationError, match="WEBHOOK_URL and WEBHOOK_SECRET together"):
        load_settings(_env_file=None, **{half: "x"})


@pytest.mark.parametrize(
    ("url", "secret", "name"),
    [
        ("ftp://example.com", SECRET, "WEBHOOK_URL"),
        ("example.com/hook", SECRET, "WEBHOOK_URL"),
        ("http://[", SECRET, "WEBHOOK_URL"),
        ("https://example.com:99999/", SECRET, "WEBHOOK_URL"),
        ("https://example.com/hook", SECRET.removeprefix("whsec_"), "WEBHOOK_SECRET"),
        ("https://example.com/hook", "whsec_dGlueQ==", "WEBHOOK_SECRET"),
        ("https://example.com/hook", "whsec_not base64", "WEBHOOK_SECRET"),
    ],
)
def test_a_webhook_that_cannot_work_stops_the_start(url: str, secret: str, name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"Expected {name} to be") as error:
        load_settings(_env_file=None, webhook_url=url, webhook_secret=secret)
    assert secret not in str(error.value)
    assert load_settings(_env_file=None, webhook_url="https://example.com/hook", webhook_secret=SECRET).webhook_url


def test_trusted_proxies_are_addresses_and_networks() -> None:
    with pytest.raises(ConfigurationError, match=r"Expected TRUSTED_PROXIES to be addresses .* 'my-proxy'"):
        load_settings(_env_file=None, trusted_proxies="127.0.0.1,my-proxy")
    networks = load_settings(_env_file=None, trusted_proxies="127.0.0.1, fd00::/8").trusted_networks
    assert [str(network) for network in networks] == ["127.0.0.1/32", "fd00::/8"]
    assert load_settings(_env_file=None).trusted_networks == ()
