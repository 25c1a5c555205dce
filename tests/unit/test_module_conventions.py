"""What every module of the project has to keep: documented as it is, silent about secrets, tested."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import yaml
from ansible.module_utils.basic import AnsibleModule

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(path.stem for path in (ROOT / "plugins/modules").glob("*.py"))
each_module = pytest.mark.parametrize("name", MODULES)
# what a specification and the documentation must say alike, with the value that leaving it out means
SHARED = {"type": "str", "required": False, "default": None, "choices": None, "elements": None}


class CapturedError(BaseException):
    """Stops a module where it states its arguments; no handler of the module catches it."""


def arguments_of(name: str) -> dict[str, Any]:
    """What the module gives to AnsibleModule."""
    captured: dict[str, Any] = {}

    def capture(_self: AnsibleModule, **arguments: Any) -> None:
        captured.update(arguments)
        raise CapturedError

    module = importlib.import_module(f"ansible.modules.{name}")
    with patch.object(AnsibleModule, "__init__", capture), pytest.raises(CapturedError):
        module.main()
    return captured


def documentation_of(name: str) -> dict[str, Any]:
    module = importlib.import_module(f"ansible.modules.{name}")
    parsed: dict[str, Any] = yaml.safe_load(module.DOCUMENTATION)
    return parsed


def differences(spec: dict[str, Any], documented: dict[str, Any], path: str = "") -> list[str]:
    """Where options and their documentation disagree, suboptions included."""
    found = [f"{path}{name} is documented in one place only" for name in set(spec) ^ set(documented)]
    for name in set(spec) & set(documented):
        option, text = spec[name], documented[name]
        for key, missing in SHARED.items():
            if option.get(key, missing) != text.get(key, missing):
                found.append(f"{path}{name}: {key} is {option.get(key)!r}, documented as {text.get(key)!r}")
        if not text.get("description"):
            found.append(f"{path}{name} has no description")
        found += differences(option.get("options", {}), text.get("suboptions", {}), f"{path}{name}.")
    return sorted(found)


@each_module
def test_the_documentation_says_what_the_module_takes(name: str) -> None:
    documentation = documentation_of(name)
    assert documentation["module"] == name
    assert documentation["short_description"]
    assert differences(arguments_of(name)["argument_spec"], documentation.get("options", {})) == []


@each_module
def test_examples_and_results_are_documented(name: str) -> None:
    module = importlib.import_module(f"ansible.modules.{name}")
    examples = yaml.safe_load(module.EXAMPLES)
    assert any(name in task for task in examples)
    for key, value in (yaml.safe_load(module.RETURN) or {}).items():
        assert value.get("description"), key


def hidden_below(options: dict[str, Any]) -> bool:
    """Whether a suboption, at any depth, is secret."""
    return any(option.get("no_log") or hidden_below(option.get("options", {})) for option in options.values())


@each_module
def test_a_secret_suboption_hides_the_whole_option(name: str) -> None:
    """Ansible logs a list as Python shows it; a secret with a line break or backslash is not recognised there."""
    for option, spec in arguments_of(name)["argument_spec"].items():
        if hidden_below(spec.get("options", {})):
            assert spec.get("no_log"), f"{option} must have no_log itself: its text goes to the server's system log"


@each_module
def test_what_is_documented_of_check_mode_is_true(name: str) -> None:
    supported = "full" if arguments_of(name).get("supports_check_mode", False) else "none"
    documented = documentation_of(name).get("attributes", {}).get("check_mode", {}).get("support", "full")
    assert documented == supported


@each_module
def test_there_are_unit_tests(name: str) -> None:
    tests = [path for path in (ROOT / "tests/unit").rglob("test_*.py") if path.name != Path(__file__).name]
    assert any(name in path.read_text(encoding="utf-8") for path in tests), f"no unit test names {name}"


@pytest.mark.parametrize("path", sorted((ROOT / "plugins/filter").glob("*.py")), ids=lambda path: path.stem)
def test_every_filter_has_unit_tests(path: Path) -> None:
    tests = [test.read_text(encoding="utf-8") for test in (ROOT / "tests/unit").rglob("test_*.py")]
    module = importlib.import_module(f"ansible.plugins.filter.{path.stem}")
    for name in module.FilterModule().filters():
        assert any(name in text for text in tests), f"no unit test names the filter {name}"
