"""docs/variables.md is what the roles' specifications say now, and can be read by people."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.settings import LabError
from lab.variables_page import PAGE, page, write_page


def make_role(folder: Path, options: dict[str, Any], **entries: Any) -> Path:
    meta = folder / "thing/meta"
    meta.mkdir(parents=True)
    main = {"short_description": "A thing", "options": options}
    (meta / "argument_specs.yml").write_text(yaml.safe_dump({"argument_specs": {"main": main, **entries}}))
    return folder


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make docs` and commit docs/variables.md"


def test_every_variable_has_its_row_with_the_default_that_counts(project_root: Path) -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \|(.*)$", page(), re.MULTILINE))
    defaults: dict[str, Any] = {}
    for path in (project_root / "roles").glob("*/defaults/main.yml"):
        defaults |= yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    assert set(rows) == set(defaults)
    for name, row in rows.items():
        shown = re.split(r"(?<!\\)\|", row)[1].strip().strip("`").replace(r"\|", "|")
        assert yaml.safe_load(shown) == defaults[name], name


def test_secrets_are_marked(project_root: Path) -> None:
    marked = set(re.findall(r"^\| `(\w+)` \|.*\*\*Secret\.\*\*", page(), re.MULTILINE))
    assert {"integr8scode_secret_key", "k3s_token", "backup_copy_private_key", "drift_webhook_url"} <= marked
    assert "integr8scode_base" not in marked


def test_each_entry_of_the_contents_leads_to_its_section() -> None:
    text = page()
    contents = re.findall(r"^- \[(\w+)\]\(#(\w+)\)", text, re.MULTILINE)
    assert [name for name, _ in contents] == re.findall(r"^## (\w+)$", text, re.MULTILINE)
    assert all(name == anchor for name, anchor in contents)


def test_nested_required_and_awkward_values(tmp_path: Path) -> None:
    options = {
        "thing_pools": {
            "type": "list",
            "elements": "dict",
            "default": [{"base": "192.0.2.0/24"}],
            "description": ["Pools.", "See C(man pool)."],
            "options": {"base": {"type": "str", "required": True, "description": "In CIDR form."}},
        },
        "thing_map": {
            "type": "dict",
            "default": {},
            "description": "M",
            "options": {"a": {"type": "int", "description": "A"}},
        },
        "thing_mode": {"type": "str", "choices": ["a", "b"], "default": "{{ x | first }}", "description": "a | b"},
    }
    text = page(make_role(tmp_path, options, other={"short_description": "Else"}))
    assert "| `thing_pools` | list of dict | `[{base: 192.0.2.0/24}]` | Pools. See `man pool`. |" in text
    assert "| `thing_pools[].base` | str | **required** | In CIDR form. |" in text
    assert "| `thing_map.a` | int |  | A |" in text
    # a bar would begin another cell, between backquotes too
    assert r'| `thing_mode` | str: `a`, `b` | `"{{ x \| first }}"` | a \| b |' in text
    assert "With `tasks_from: other.yml`: Else." in text


def test_what_is_not_described_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="thing_x has no description"):
        page(make_role(tmp_path, {"thing_x": {"type": "str"}}))
    (tmp_path / "thing/meta/argument_specs.yml").write_text("[")
    with pytest.raises(LabError, match=r"thing/meta/argument_specs\.yml cannot be read"):
        page(tmp_path)


def test_it_is_written_only_where_it_differs(tmp_path: Path) -> None:
    target = tmp_path / "page.md"
    assert write_page(target)
    assert not write_page(target)
