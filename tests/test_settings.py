from pathlib import Path

import pytest

from helpers.service import make_settings
from shoe_classifier.errors import ConfigurationError
from shoe_classifier.main import create_app
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


def test_secrets_do_not_show() -> None:
    assert "geheim" not in repr(load_settings(_env_file=None, api_key="geheim"))


@pytest.mark.parametrize(("name", "value"), [("port", "x"), ("max_zip_files", 0), ("retrain_in", "cloud")])
def test_wrong_values_are_named(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=name.upper()):
        load_settings(_env_file=None, **{name: value})


@pytest.mark.parametrize("half", ["supabase_url", "supabase_key"])
def test_half_a_pair_stops_the_start(half: str) -> None:
    with pytest.raises(ConfigurationError, match="SUPABASE_URL and SUPABASE_KEY together"):
        load_settings(_env_file=None, **{half: "x"})


@pytest.mark.parametrize("names", ["a", "a,,b", "a,a"])
def test_names_without_sense_stop_the_start(names: str) -> None:
    with pytest.raises(ConfigurationError, match="MODEL_PATH together with CLASS_NAMES"):
        load_settings(_env_file=None, class_names="a,b")
    with pytest.raises(ConfigurationError, match="two or more different names"):
        load_settings(_env_file=None, model_path="m.h5", class_names=names)


@pytest.mark.parametrize(
    ("url", "key"), [("no address", "y"), ("http://x", "kéy"), ("http://[", "y"), ("http://x", " ")]
)
def test_what_cannot_be_a_project_stops_the_start(tmp_path: Path, url: str, key: str) -> None:
    with pytest.raises(ConfigurationError, match="SUPABASE_URL and SUPABASE_KEY of a project"):
        create_app(make_settings(tmp_path, supabase_url=url, supabase_key=key))


@pytest.mark.parametrize("document", [".env.example", "DEPLOYMENT.md"])
def test_every_setting_is_documented(document: str) -> None:
    text = (ROOT / document).read_text()
    missing = [name.upper() for name in Settings.model_fields if name.upper() not in text]
    assert not missing
