"""docs/variables.md: every variable of every role, written from the roles' own argument specifications.

By hand the page would be wrong after the next change of a default; a test compares it with what is written here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from lab.settings import ROOT, LabError

PAGE = ROOT / "docs/variables.md"

_HEAD = """\
<!-- Written by `make docs` from roles/*/meta/argument_specs.yml: change those, not this page. -->
# Variables

What each role takes, from `roles/<role>/meta/argument_specs.yml`. Set a variable in the inventory's
`group_vars/all/main.yml` for all servers, beside a host in `hosts.yml` for one, or for one run with `-e name=value`
(lists and dictionaries as JSON: `-e '{"name": ["a", "b"]}'`). What a playbook itself takes (`-e tag=…`, `-e to=…`)
stands in the [README](../README.md#day-to-day) and at the top of each file in `playbooks/`.

**Secret**: belongs into `vault.yml`, encrypted; it appears in no output. What a password may hold, and how one with
`{{` is written: [role integr8scode](../roles/integr8scode/README.md#passwords). **Required**: has no default. A default
with `{{ … }}` follows other variables. `name[].key` is a key of each element of a list, `name.key` one of a dictionary.
"""


def _text(value: Any, role: str, name: str) -> str:
    """A description as one line of Markdown that may stand in a table's cell.

    Raises:
        LabError: there is none.
    """
    parts = value if isinstance(value, list) else [value]
    words = " ".join(str(part).strip() for part in parts if part)
    if not words:
        raise LabError(f"roles/{role}/meta/argument_specs.yml: {name} has no description. Write one.")
    # Ansible's own markup for code
    words = re.sub(r"\b[CVO]\(([^)]*)\)", r"`\1`", words)
    return " ".join(words.split()).replace("|", r"\|")


def _default(option: Mapping[str, Any]) -> str:
    """The default as YAML that can be pasted into an inventory."""
    if option.get("required"):
        return "**required**"
    if "default" not in option:
        return ""
    value = option["default"]
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000).removesuffix("...\n").strip()
    if isinstance(value, str) and text != value:
        text = json.dumps(value, ensure_ascii=False)
    return f"`{text}`".replace("|", r"\|")


def _type(option: Mapping[str, Any]) -> str:
    kind = str(option.get("type", "str"))
    if "elements" in option:
        kind += f" of {option['elements']}"
    if "choices" in option:
        kind += ": " + ", ".join(f"`{choice}`" for choice in option["choices"])
    return kind


def _rows(options: Mapping[str, Any], role: str, prefix: str = "") -> Iterator[str]:
    """A line of the table for each option, its own keys below it."""
    for key, option in options.items():
        name = prefix + str(key)
        meaning = _text(option.get("description"), role, name)
        if option.get("no_log"):
            meaning = f"**Secret.** {meaning}"
        yield f"| `{name}` | {_type(option)} | {_default(option)} | {meaning} |"
        inner = f"{name}[]." if option.get("type") == "list" else f"{name}."
        yield from _rows(option.get("options") or {}, role, inner)


def _role(folder: Path) -> tuple[str, list[str]]:
    """What a role is for, and its section.

    Raises:
        LabError: its specification cannot be read, or lacks something.
    """
    path = folder / "meta/argument_specs.yml"
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"]
        main = entries["main"]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise LabError(f"{path.relative_to(folder.parents[1])} cannot be read: {error}") from error
    purpose = _text(main.get("short_description"), folder.name, "the role")
    lines = [f"## {folder.name}", "", f"{purpose}. [README](../roles/{folder.name}/README.md)", ""]
    options = dict(main.get("options") or {})
    for name, entry in entries.items():
        if name != "main":
            lines += [
                f"- With `tasks_from: {name}.yml`: {_text(entry.get('short_description'), folder.name, name)}.",
                "",
            ]
            options |= {key: option for key, option in (entry.get("options") or {}).items() if key not in options}
    lines += ["| Variable | Type | Default | Meaning |", "|---|---|---|---|", *_rows(options, folder.name), ""]
    return purpose, lines


def page(roles: Path = ROOT / "roles") -> str:
    """The text of the page.

    Raises:
        LabError: a role's specification cannot be read, or lacks a description.
    """
    sections = {folder.name: _role(folder) for folder in sorted(roles.iterdir()) if folder.is_dir()}
    contents = [f"- [{name}](#{name}): {purpose}" for name, (purpose, _) in sections.items()]
    body = [line for _, lines in sections.values() for line in lines]
    return "\n".join([_HEAD, *contents, "", *body]).rstrip("\n") + "\n"


def write_page(target: Path = PAGE) -> bool:
    """Write the page anew. Returns whether it is another one now.

    Raises:
        LabError: see `page`.
    """
    text = page()
    changed = not target.exists() or target.read_text(encoding="utf-8") != text
    if changed:
        target.write_text(text, encoding="utf-8")
    return changed
