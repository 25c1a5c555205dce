"""Makes the project's plugins importable as Ansible imports them, and runs modules in this process.

After this file was read, `ansible.modules.<name>`, `ansible.module_utils.<name>` and `ansible.plugins.filter.<name>`
(and lookup, callback) also find the files below `plugins/`.
"""

from __future__ import annotations

import importlib
import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Protocol
from unittest.mock import patch

import ansible.module_utils
import ansible.modules
import ansible.plugins.action
import ansible.plugins.callback
import ansible.plugins.filter
import ansible.plugins.lookup
import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[2]

for _package, _folder in (
    (ansible.module_utils, "module_utils"),
    (ansible.modules, "modules"),
    (ansible.plugins.action, "action"),
    (ansible.plugins.filter, "filter"),
    (ansible.plugins.lookup, "lookup"),
    (ansible.plugins.callback, "callback"),
):
    _package.__path__.append(str(ROOT / "plugins" / _folder))

# processors are shared and slow at times: the number of examples bounds the tests, not a deadline for each
settings.register_profile("project", deadline=None, derandomize=True, max_examples=100)
settings.load_profile("project")


class RunModule(Protocol):
    """Runs a module's `main()` in this process; see `run_module`."""

    def __call__(
        self, name: str, args: dict[str, Any], *, check: bool = False, diff: bool = False
    ) -> dict[str, Any]: ...


@pytest.fixture
def project_root() -> Path:
    """The top folder of the checkout."""
    return ROOT


@pytest.fixture
def run_module() -> RunModule:
    """A function that runs the module `name` with `args` as Ansible would and returns the JSON that it prints.

    `warnings` is always there, a list of text. Values of `no_log` arguments are already masked in what it returns, as
    in Ansible's output. `failed` is true when the module failed; an exception of the module is the test's.
    """

    def run(name: str, args: dict[str, Any], *, check: bool = False, diff: bool = False) -> dict[str, Any]:
        module = importlib.import_module(f"ansible.modules.{name}")
        stdout = io.StringIO()
        warnings: list[str] = []
        with (
            # in a process that has imported Ansible's controller, the original prints and returns nothing
            patch.object(AnsibleModule, "warn", lambda _self, message, **_more: warnings.append(message)),
            patch_module_args({**args, "_ansible_check_mode": check, "_ansible_diff": diff}),
            redirect_stdout(stdout),
            redirect_stderr(io.StringIO()),
            pytest.raises(SystemExit) as ended,
        ):
            module.main()
        result: dict[str, Any] = json.loads(stdout.getvalue())
        assert bool(result.get("failed")) == (ended.value.code not in (0, None))
        return {"changed": False, **result, "warnings": warnings}

    return run


@pytest.fixture
def run_part(run_module: RunModule) -> RunModule:
    """A function that runs release_files with one of its parts (`bundle`, `certificates`, `secrets`).

    It returns what the module returns about that part, with what every result has; `diff` of the two that have one is
    that one.
    """

    def run(name: str, args: dict[str, Any], *, check: bool = False, diff: bool = False) -> dict[str, Any]:
        result = run_module("release_files", {name: args}, check=check, diff=diff)
        changes = result.pop("diff", [])
        assert result.get("failed") or result["changed"] == result[name]["changed"]
        return {**result.pop(name, {}), **result, "diff": changes if name == "bundle" or not changes else changes[0]}

    return run
