"""Templates filled in by the project's own lookup are the bytes that ansible.builtin.template would give."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleError
from ansible.plugins.loader import lookup_loader
from ansible.template import trust_as_template

from tests.unit.support.templating import ROOT, evaluate, find_plugins

# what a template language may change: line ends, blocks, backslashes, quotes, a value that is a template itself
TEXT = "{# gone #}\n{% if word %}\n[Unit]\n{% endif %}\n  Text={{ nested }}\\n{{ word }}\n{{ number + 1 }}"
VARIABLES = {"nested": trust_as_template("{{ word }} of {{ number }}"), "word": "{{ a\\n'\"b }}", "number": 1}


@pytest.fixture
def template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that is the template `one/unit.j2`."""
    find_plugins()
    lookup_loader.get("role_template")
    monkeypatch.setattr(sys.modules["ansible.plugins.lookup.role_template"], "ROLES", tmp_path)
    path = tmp_path / "one/templates/unit.j2"
    path.parent.mkdir(parents=True)
    return path


@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
def test_the_bytes_are_those_of_the_usual_lookup(template: Path, end: str) -> None:
    template.write_text(TEXT + end, "utf-8")
    usual = evaluate(f"{{{{ lookup('ansible.builtin.template', '{template}') }}}}", VARIABLES)
    assert "[Unit]" in usual
    assert evaluate("{{ lookup('role_template', 'one/unit.j2') }}", VARIABLES) == usual


def test_only_texts_are_given(template: Path) -> None:
    template.write_text("{{ number }}", "utf-8")
    assert evaluate("{{ query('role_template', 'one/unit.j2') }}", VARIABLES) == ["1"]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("'one/other.j2'", "one/templates/other.j2 is no file"),
        ("'one'", "takes <role>/<template>"),
        ("'one/unit.j2', rstrip=true", "takes no options, and is given rstrip"),
        ("'one/unit.j2'", "'nobody' is undefined"),
    ],
)
def test_what_it_refuses(template: Path, call: str, said: str) -> None:
    template.write_text("{{ nobody }}", "utf-8")
    with pytest.raises(AnsibleError, match=re.escape(said)):
        evaluate(f"{{{{ lookup('role_template', {call}) }}}}", VARIABLES)


def test_the_roles_templates_are_there() -> None:
    used: set[Any] = set()
    for path in ROOT.glob("roles/*/vars/main.yml"):
        used.update(re.findall(r"lookup\('role_template', '([^'/]+)/([^']+)'\)", path.read_text("utf-8")))
    assert len(used) >= 6
    assert [one for one in used if not (ROOT / "roles" / one[0] / "templates" / one[1]).is_file()] == []
