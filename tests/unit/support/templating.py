"""The project's own texts, evaluated by Ansible's own templating with the project's filters and lookups."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import filter_loader, init_plugin_loader, lookup_loader
from ansible.template import Templar, trust_as_template

ROOT = Path(__file__).resolve().parents[3]


@cache
def find_plugins() -> None:
    """Once for a process: plugins are found by their names only after this."""
    init_plugin_loader()
    filter_loader.add_directory(str(ROOT / "plugins/filter"))
    lookup_loader.add_directory(str(ROOT / "plugins/lookup"))


def load(path: str) -> Any:
    """A file of the project as Ansible reads it; `path` is from the project's folder."""
    return DataLoader().load_from_file(str(ROOT / path), trusted_as_template=True)


def role_variables(role: str) -> dict[str, Any]:
    """Defaults and variables of a role, not evaluated yet."""
    known: dict[str, Any] = {"role_path": str(ROOT / "roles" / role)}
    for name in ("defaults/main.yml", "vars/main.yml"):
        known |= load(f"roles/{role}/{name}") or {}
    return known


def evaluate(value: Any, variables: dict[str, Any]) -> Any:
    """What Ansible makes of `value`, a text or anything that `load` returned.

    Variables that are plain Python texts are values and no templates, as `!unsafe` ones of an inventory.
    """
    find_plugins()
    trusted = trust_as_template(value) if isinstance(value, str) else value
    return Templar(loader=DataLoader(), variables=variables).template(trusted)
