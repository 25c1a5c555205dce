"""Every line of ansible.cfg is in force: Ansible passes over a key in a section where it does not look for it."""

from __future__ import annotations

import os
from configparser import ConfigParser
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from ansible.config.manager import ConfigManager
from ansible.constants import config
from ansible.plugins.loader import callback_loader, connection_loader, init_plugin_loader

ROOT = Path(__file__).resolve().parents[2]
CONFIGURATION = ROOT / "ansible.cfg"
# plugins with settings of their own there
PLUGINS = (("connection", "ssh", connection_loader), ("callback", "default", callback_loader))


def written() -> list[tuple[str, str]]:
    parser = ConfigParser(interpolation=None)
    parser.read(CONFIGURATION, encoding="utf-8")
    return [(section, key) for section in parser.sections() for key in parser[section]]


@cache
def manager(path: Path) -> ConfigManager:
    """Ansible's own reader of `path`, with the settings of the plugins that the project uses."""
    init_plugin_loader()
    found = ConfigManager(conf_file=str(path))
    for kind, name, loader in PLUGINS:
        # which reads what the plugin documents
        loader.get(name, class_only=True)
        known = config.get_configuration_definitions(kind, name)
        found.initialize_plugin_configuration_definitions(kind, name, known)
    return found


def in_force(path: Path, section: str, key: str) -> list[Any]:
    """What Ansible takes from this line, once for each setting that reads it."""
    values = []
    for kind, name in ((None, None), *((kind, name) for kind, name, _ in PLUGINS)):
        for setting, known in manager(path).get_configuration_definitions(kind, name).items():
            if {"section": section, "key": key} in [
                {"section": one["section"], "key": one["key"]} for one in known.get("ini") or []
            ]:
                value, origin = manager(path).get_config_value_and_origin(setting, plugin_type=kind, plugin_name=name)
                values += [value] if origin == str(path) else []
    return values


@pytest.fixture(autouse=True)
def no_settings_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [one for one in os.environ if one.startswith("ANSIBLE_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(("section", "key"), written())
def test_ansible_reads_each_line(section: str, key: str) -> None:
    assert in_force(CONFIGURATION, section, key), f"Ansible reads no {key} in [{section}]"


def test_a_pattern_without_hosts_is_an_error() -> None:
    assert in_force(CONFIGURATION, "inventory", "host_pattern_mismatch") == ["error"]


def test_a_line_in_the_wrong_section_is_found(tmp_path: Path) -> None:
    path = tmp_path / "ansible.cfg"
    path.write_text("[defaults]\nhost_pattern_mismatch = error\nforks = 3\n", encoding="utf-8")
    assert in_force(path, "defaults", "host_pattern_mismatch") == []
    assert in_force(path, "defaults", "forks") == [3]
