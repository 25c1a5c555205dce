"""Each role says what it takes: README, defaults and argument specification agree, and names tell whose they are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())
each_role = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None


def defaults_of(role: Path) -> dict[str, Any]:
    return load(role / "defaults/main.yml") or {}


def specification(role: Path, entry: str = "main") -> dict[str, Any]:
    specs = load(role / "meta/argument_specs.yml") or {}
    return specs.get("argument_specs", {}).get(entry, {})


def templated(value: Any) -> bool:
    return "{{" in str(value)


def test_there_are_roles() -> None:
    assert {"docker", "k3s", "kubernetes_access", "integr8scode"} <= {role.name for role in ROLES}


@each_role
def test_readme_with_an_example(role: Path) -> None:
    readme = role / "README.md"
    assert readme.exists(), f"{role.name} has no README.md"
    examples = re.findall(r"```ya?ml\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL)
    parsed = [yaml.safe_load(example) for example in examples]
    assert any(role.name in str(example) for example in parsed), "its README has no YAML example that names the role"


@each_role
def test_a_yes_or_no_from_the_command_line_is_read_as_one(role: Path) -> None:
    # `-e name=false` is a text, and as a condition every text but the empty one holds
    flags = [name for name, option in specification(role).get("options", {}).items() if option.get("type") == "bool"]
    files = [path for folder in ("tasks", "vars", "handlers", "templates") for path in (role / folder).glob("*")]
    for name in flags:
        condition = re.compile(rf"(?:\b(?:if|not|and|or)|when:|^\s*-) {name}\b(?! \| bool)", re.MULTILINE)
        found = [path.name for path in files if condition.search(path.read_text(encoding="utf-8"))]
        assert not found, f"{name} | bool is missing in {found}"


@each_role
def test_argument_specification_equals_the_defaults(role: Path) -> None:
    defaults = defaults_of(role)
    options = specification(role).get("options", {})
    optional = {name: option for name, option in options.items() if not option.get("required")}
    required = set(options) - set(optional)
    assert set(optional) == set(defaults), "options and defaults differ"
    assert not required & set(defaults), "a required option has a default"
    for name, option in optional.items():
        assert "default" in option, f"{name}: the specification names no default"
        assert option["default"] == defaults[name], name
        assert type(option["default"]) is type(defaults[name]), f"{name}: {option['default']!r}, {defaults[name]!r}"


@each_role
def test_every_option_is_described_and_takes_its_own_default(role: Path) -> None:
    spec = specification(role)
    assert spec.get("short_description"), "no short_description"
    for name, option in spec.get("options", {}).items():
        assert option.get("description"), f"{name} has no description"
        assert option.get("type"), f"{name} has no type"
    values = {name: value for name, value in defaults_of(role).items() if not templated(value)}
    options = {name: option for name, option in spec.get("options", {}).items() if name in values}
    result = ArgumentSpecValidator(_without_text(options)).validate(values)
    assert result.error_messages == []


def _without_text(options: dict[str, Any]) -> dict[str, Any]:
    """The specification as Ansible's validator wants it: without descriptions, at every level."""
    cleaned = {}
    for name, option in options.items():
        cleaned[name] = {key: value for key, value in option.items() if key not in ("description", "version_added")}
        if "options" in option:
            cleaned[name]["options"] = _without_text(option["options"])
    return cleaned


@each_role
def test_names_tell_whose_they_are(role: Path) -> None:
    for name in defaults_of(role):
        assert name.startswith(f"{role.name}_"), f"{name}: an input begins with the role's name"
    internal = f"__{role.name}_"
    for path in sorted((role / "vars").glob("*.yml")):
        for name in load(path) or {}:
            assert name.startswith(internal), f"{path.name}: {name} does not begin with {internal}"
    # what a role hands on to a playbook has a public name, and stands in its README
    readme = role / "README.md"
    handed_on = set(re.findall(rf"`({role.name}_\w+)`", readme.read_text(encoding="utf-8") if readme.exists() else ""))
    for path in sorted((role / "tasks").rglob("*.yml")):
        for name in registered(load(path)) - handed_on:
            assert name.startswith(internal), f"{path.name}: {name} is neither {internal}… nor named in the README"


def registered(tasks: Any) -> set[str]:
    """Names that tasks register or set, in blocks too."""
    names: set[str] = set()
    for task in tasks or []:
        names.update([task["register"]] if "register" in task else [])
        facts = task.get("ansible.builtin.set_fact") or {}
        names.update(name for name in facts if name != "cacheable")
        for part in ("block", "rescue", "always"):
            names |= registered(task.get(part))
    return names


@each_role
def test_inputs_are_never_overwritten(role: Path) -> None:
    inputs = set(specification(role).get("options", {}))
    for path in sorted((role / "tasks").rglob("*.yml")):
        assert not registered(load(path)) & inputs, path.name


@each_role
def test_every_input_is_used(role: Path) -> None:
    folders = ("tasks", "templates", "handlers", "vars", "defaults")
    places = [path for folder in folders for path in (role / folder).rglob("*")]
    text = {path: path.read_text(encoding="utf-8") for path in places if path.is_file()}
    for name in specification(role).get("options", {}):
        pattern = re.compile(rf"\b{name}\b(?!:)")
        assert any(pattern.search(content) for content in text.values()), f"{name} is read nowhere"
