"""Settings from the environment."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from lakebase_operator import __version__
from lakebase_operator.__main__ import main
from lakebase_operator.settings import LogLevel, Settings


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)


def test_the_environment_gives_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "WORKERS": "3",
        "WATCH_NAMESPACES": "team-a, team-b,",
        "TOKEN_PATH": "/var/run/token",
        "LOG_LEVEL": "debug",
        "RESYNC_SECONDS": "0.5",
    }.items():
        monkeypatch.setenv(f"LAKEBASE_OPERATOR_{name}", value)
    monkeypatch.setenv("KUBECONFIG", "/a:/b")
    settings = Settings()
    assert settings.workers == 3
    assert settings.watch_namespaces == ("team-a", "team-b")
    assert settings.token_path == Path("/var/run/token")
    assert settings.log_level is LogLevel.DEBUG
    assert settings.resync_seconds == 0.5
    assert settings.kubeconfig == "/a:/b"


def test_without_an_environment_there_are_defaults_for_everything() -> None:
    settings = Settings()
    assert settings.watch_namespaces == ()
    assert settings.kubeconfig is None
    assert (settings.probe_port, settings.metrics_port) == (8080, 9090)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Settings().workers = 2  # type: ignore[misc]  # that is the point


def test_lease_times_must_fit_together() -> None:
    with pytest.raises(ValidationError, match="lease times"):
        Settings(lease_duration_seconds=10, lease_renew_deadline_seconds=10)


def test_wrong_settings_are_told_in_a_few_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEBASE_OPERATOR_WORKERS", "many")
    result = CliRunner().invoke(main, ["run"])
    assert result.exit_code == 1
    assert "workers: Input should be a valid integer" in result.output
    assert "Traceback" not in result.output


def test_the_version_is_printed() -> None:
    assert CliRunner().invoke(main, ["version"]).output == f"{__version__}\n"
