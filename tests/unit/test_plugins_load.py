"""Every plugin of the controller loads in Ansible itself, where only Ansible's own import paths count.

The other unit tests import plugins with paths that `conftest.py` adds; what imports a file of `plugins/module_utils` by
its name would pass there and be skipped by Ansible with a warning.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("action", "callback", "filter", "lookup")
LOAD_ALL = """
import json, sys
from ansible.plugins import loader
loader.init_plugin_loader()
kinds = sys.argv[1:]
loaders = [getattr(loader, f"{kind}_loader") for kind in kinds]
found = {kind: sorted({plugin._original_path for plugin in each.all(class_only=kind != "filter")})
         for kind, each in zip(kinds, loaders)}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def loaded() -> tuple[dict[str, list[str]], str]:
    """Files of plugins by kind as Ansible loads them in a process of its own, and what it says meanwhile."""
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "PYTHONPATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", LOAD_ALL, *KINDS], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout), done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_ansible_loads_each_plugin(kind: str, loaded: tuple[dict[str, list[str]], str]) -> None:
    found, said = loaded
    files = {str(path) for path in (ROOT / "plugins" / kind).glob("*.py")}
    assert files - set(found[kind]) == set(), said


def test_ansible_skips_none(loaded: tuple[dict[str, list[str]], str]) -> None:
    assert "cannot load" not in loaded[1]
