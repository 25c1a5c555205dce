"""The script that is run in a new image, against an application that this test makes up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SETTINGS = """
class Settings:
    def __init__(self, override_path=None):
        if override_path:
            open(override_path).close()
        if {refuse!r}:
            raise Refusal()

class Refusal(ValueError):
    def errors(self, include_input, include_url):
        assert not include_input and not include_url
        return [{{"loc": ("SECRET_KEY",), "msg": "String should have at least 32 characters"}}]

    def __str__(self):
        return "input_value='the-secret-itself'"
"""


@pytest.fixture
def application(tmp_path: Path) -> Path:
    (tmp_path / "app").mkdir()
    (tmp_path / "app/settings.py").write_text(SETTINGS.format(refuse=False))
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers/run_k8s_worker.py").touch()
    (tmp_path / "config.k8s-worker.toml").touch()
    return tmp_path


def trial(project_root: Path, application: Path, *workers: str) -> subprocess.CompletedProcess[str]:
    script = (project_root / "plugins/module_utils/releases/trial.py").read_text()
    command = [sys.executable, "-c", script, *workers]
    return subprocess.run(command, cwd=application, capture_output=True, text=True, timeout=30, check=False)


def test_a_release_that_fits(project_root: Path, application: Path) -> None:
    assert trial(project_root, application, "k8s-worker").returncode == 0


def test_a_release_without_a_worker_is_named(project_root: Path, application: Path) -> None:
    (application / "config.coordinator.toml").touch()
    answer = trial(project_root, application, "k8s-worker", "coordinator")
    assert answer.returncode == 1
    assert answer.stderr.splitlines() == [
        "workers/run_coordinator.py is missing: this release has no coordinator",
        "This version of the project cannot run that release: ship another, or update the project.",
    ]


def test_settings_that_do_not_load_are_named_without_their_value(project_root: Path, application: Path) -> None:
    (application / "app/settings.py").write_text(SETTINGS.format(refuse=True))
    answer = trial(project_root, application)
    assert answer.returncode == 1
    assert "SECRET_KEY: String should have at least 32 characters" in answer.stderr
    assert "the-secret-itself" not in answer.stderr


def test_a_missing_configuration_is_named(project_root: Path, application: Path) -> None:
    answer = trial(project_root, application, "pod-monitor")
    assert "config.pod-monitor.toml: FileNotFoundError" in answer.stderr


def test_an_image_without_the_application_is_named(project_root: Path, tmp_path: Path) -> None:
    assert "no app.settings.Settings" in trial(project_root, tmp_path).stderr
