from pathlib import Path

import pytest

from helpers.service import make_settings
from shoe_classifier import __version__
from shoe_classifier.errors import ConfigurationError
from shoe_classifier.main import create_app


def test_the_app_is_built_from_settings_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    app = create_app(make_settings(tmp_path / "service"))
    assert app.version == __version__
    assert list(tmp_path.iterdir()) == [tmp_path / "service"]  # nothing but what the settings name
    app.state.service.store.close()
    app.state.service.shadow.stop()


def test_two_apps_share_nothing(tmp_path: Path) -> None:
    one, two = (create_app(make_settings(tmp_path / name)) for name in ("one", "two"))
    for name, part in vars(one.state.service).items():
        assert part is None or part is not getattr(two.state.service, name), name
    for app in (one, two):
        app.state.service.store.close()
        app.state.service.shadow.stop()


def test_settings_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MAX_ZIP_FILES", "7")
    app = create_app()
    assert app.state.service.settings.max_zip_files == 7
    app.state.service.store.close()
    app.state.service.shadow.stop()
    monkeypatch.setenv("PORT", "x")
    with pytest.raises(ConfigurationError, match="PORT"):
        create_app()


@pytest.mark.parametrize(
    ("url", "key"), [("no address", "y"), ("http://x", "kéy"), ("http://[", "y"), ("http://x", " ")]
)
def test_an_impossible_project_stops_the_start(tmp_path: Path, url: str, key: str) -> None:
    with pytest.raises(ConfigurationError, match="SUPABASE_URL and SUPABASE_KEY of a project"):
        create_app(make_settings(tmp_path, supabase_url=url, supabase_key=key))
