"""A setting with a wrong name counts as not set: the look at a server has a word for it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.support.templating import ROOT, evaluate, load


def told(*names: str) -> list[str]:
    """What the lookup says of variables with these names."""
    found: list[str] = evaluate("{{ query('misspelt_settings') }}", dict.fromkeys(names, "hidden"))
    return found


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("integr8scode_public_name", "integr8scode_public_names"),
        ("integr8scode_registry_user", "integr8scode_registry_username"),
        ("integr8scode_min_memory", "integr8scode_min_memory_mb"),
        ("docker_registry_mirror", "docker_registry_mirrors"),
        ("k3s_tls_san", "k3s_tls_sans"),
        ("backup_age_recipient", "backup_age_recipients"),
        ("intger8scode_https_port", "integr8scode_https_port"),
        ("recover_k3_delete_cluster", "recover_k3s_delete_cluster"),
    ],
)
def test_what_is_almost_a_setting_is_told(name: str, meant: str) -> None:
    assert told(name) == [f"no setting is named {name}, so no role reads it. Is {meant} meant?"]


def test_settings_and_other_variables_are_no_business_of_it() -> None:
    assert (
        told(
            "integr8scode_public_names",
            "k3s_tokens_of_all",
            "docker",
            "ansible_host",
            "app1_public_name",
            "tag",
            "vault_k3s_token",
        )
        == []
    )


def test_no_name_of_the_project_is_taken_for_a_mistake() -> None:
    folders = [ROOT / name for name in ("roles", "playbooks", "inventories", "molecule", "lab")]
    files = [path for folder in folders for path in folder.rglob("*.yml") if path.is_file()]
    names = {
        name
        for path in files
        for name in re.findall(
            r"\b(?:integr8scode|docker|k3s|kubernetes|backup|maintenance|drift|doctor|ops|recover)_\w+",
            Path(path).read_text("utf-8"),
        )
    }
    assert "integr8scode_run" in names
    assert told(*names) == []


def test_the_look_at_a_server_is_given_it() -> None:
    look = load("roles/integr8scode/tasks/refuse_server.yml")[-1]["integr8scode_preflight"]
    (problem,) = evaluate(look["notes"], {"integr8scode_public_name": "x", "__integr8scode_notes": []})
    assert "Is integr8scode_public_names meant?" in problem
