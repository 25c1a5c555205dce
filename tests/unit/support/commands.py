"""What a document tells to run, and what this project has of it: playbooks with their variables and tags."""

from __future__ import annotations

import json
import re
import shlex
import warnings
from collections.abc import Iterator
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import jinja2.nodes
import yaml
from ansible.cli.playbook import PlaybookCLI
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.splitter import parse_kv
from jinja2 import Environment, TemplateError

ROOT = Path(__file__).resolve().parents[3]
# keywords whose values are expressions without braces
EXPRESSIONS = ("when", "that", "failed_when", "changed_when", "until")
PLACEHOLDER = "name"
"""Stands in a document for any variable."""
EVERYWHERE = frozenset({"all", "always", "never", "tagged", "untagged"})
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL)
_ENDS = frozenset({"&&", "||", "|", ";", "&", ">", ">>", "<", "2>&1"})


# -- what a document tells


def commands(text: str) -> Iterator[str]:
    """The lines of a Markdown document's shell blocks, continued ones as one, and its inline code."""
    rest = text
    for block in _FENCE.finditer(text):
        rest = rest.replace(block[0], "")
        if block["language"] in ("", "bash", "sh", "console", "cron"):
            yield from filter(None, map(str.strip, block["text"].replace("\\\n", " ").splitlines()))
    # blocks that are indented, as Markdown has it too
    yield from (line.strip() for line in rest.splitlines() if line.startswith("    "))
    yield from re.findall(r"(?<!`)`([^`\n]+)`(?!`)", rest)


@dataclass
class Run:
    """A command of ansible-playbook. `playbook` is empty where only options are told, such as `-e tag=…`."""

    playbook: str
    variables: set[str] = field(default_factory=set)
    tags: set[str] = field(default_factory=set)
    inventories: list[str] = field(default_factory=list)
    problem: str = ""


def runs(command: str) -> Iterator[Run]:
    """The runs of ansible-playbook in a command; also of `site.yml --tags x` and of `-e a=b` in a sentence."""
    try:
        words = shlex.split(command, comments=True)
    except ValueError:
        return  # prose with an apostrophe
    for word in words:
        if " " in word and "ansible-playbook " in word:
            yield from runs(word)
    names = [number for number, word in enumerate(words) if word.rpartition("/")[2] == "ansible-playbook"]
    if names and len(words) > names[0] + 1:
        yield parse(words[names[0] + 1 :])
    elif len(words) > 1 and (re.fullmatch(r"[\w/-]+\.yml", words[0]) or words[0] in ("-e", "--tags")):
        yield parse(words)


def parse(words: list[str]) -> Run:
    """What ansible-playbook makes of its words, by its own parser."""
    end = next((number for number, word in enumerate(words) if word in _ENDS), len(words))
    cli = PlaybookCLI(["ansible-playbook"])
    cli.init_parser()
    # only the options count where a sentence tells those alone
    alone = words[0].startswith("-") and not any(word.endswith(".yml") for word in words[:end])
    said = StringIO()
    try:
        with redirect_stderr(said):
            found = cli.parser.parse_args([*words[:end], *(["none.yml"] if alone else [])])
    except SystemExit:
        return Run("", problem=said.getvalue().strip().splitlines()[-1])
    # the parser's own defaults are a tuple or None
    tags = {tag for text in found.tags or () for tag in text.split(",")}
    tags |= {tag for text in found.skip_tags or () for tag in text.split(",")}
    return Run(
        "" if alone else found.args[0],
        {name for text in found.extra_vars for name in variable_names(text)},
        tags,
        [str(one) for one in found.inventory or []],
    )


def variable_names(text: str) -> set[str]:
    """What `-e TEXT` sets."""
    if text.startswith("@"):
        return set()
    if text.startswith("{"):
        return set(json.loads(text))
    return set(parse_kv(text)) - {"_raw_params"}


# -- what the project has


def playbook_path(name: str) -> Path | None:
    """A playbook by the name that a document has for it; None where there is none."""
    return next((path for path in (ROOT / name, ROOT / "playbooks" / name) if path.is_file()), None)


@cache
def load(path: Path) -> Any:
    """A YAML file as Ansible reads it."""
    return DataLoader().load_from_file(str(path))


def nodes(value: Any) -> Iterator[tuple[str, Any]]:
    """Each key and value at any depth."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield str(key), item
            yield from nodes(item)
    elif isinstance(value, list):
        for item in value:
            yield from nodes(item)


def texts(value: Any) -> Iterator[str]:
    """Each text at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from texts(item)


def read_by(value: Any) -> set[str]:
    """Variables that the templates and conditions of a YAML file read."""
    sources = [text for text in texts(value) if "{{" in text or "{%" in text]
    for key, item in nodes(value):
        if key in EXPRESSIONS:
            sources += [f"{{{{ {text} }}}}" for text in texts(item)]
    found: set[str] = set()
    for source in sources:
        try:
            with warnings.catch_warnings():
                # Ansible reads a backslash in a template's text otherwise than Jinja
                warnings.simplefilter("ignore", DeprecationWarning)
                parsed = Environment().parse(source)  # noqa: S701  (nothing is rendered)
        except TemplateError:
            continue
        found |= {name.name for name in parsed.find_all(jinja2.nodes.Name) if name.ctx == "load"}
    return {name for name in found if not name.startswith("_")}


@cache
def role_variables(role: str) -> frozenset[str]:
    """What a role takes by its specification, and what else its files read: inputs of another role, for example."""
    folder = ROOT / "roles" / role
    specification = yaml.safe_load((folder / "meta/argument_specs.yml").read_text(encoding="utf-8"))
    names = set(specification["argument_specs"]["main"].get("options") or {})
    for part in ("tasks", "vars", "defaults", "handlers"):
        for path in sorted((folder / part).glob("*.yml")):
            names |= read_by(load(path))
    return frozenset(names)


@cache
def known(path: Path) -> tuple[frozenset[str], frozenset[str]]:
    """Variables and tags of a playbook, with those of its roles and of the playbooks that it imports."""
    plays = load(path)
    variables, tags = set(read_by(plays)), set(EVERYWHERE)
    for key, item in nodes(plays):
        if key == "tags":
            tags.update(item if isinstance(item, list) else str(item).split(","))
        elif key == "vars" and isinstance(item, dict):
            variables.update(item)
        elif key == "ansible.builtin.import_playbook":
            more, others = known((path.parent / item).resolve())
            variables |= more
            tags |= others
    for role in roles_of(plays):
        variables |= role_variables(role)
    return frozenset(variables), frozenset(tags)


def roles_of(plays: Any) -> set[str]:
    """Names of the roles that plays use, in any way."""
    names = set()
    for key, item in nodes(plays):
        if key == "roles":
            names |= {one if isinstance(one, str) else one["role"] for one in item}
        elif key in ("ansible.builtin.import_role", "ansible.builtin.include_role"):
            names.add(item["name"])
    return {str(name) for name in names if (ROOT / "roles" / str(name)).is_dir()}


def problems_of(run: Run) -> list[str]:
    """What a run names and this project does not have."""
    if run.problem:
        return [run.problem]
    paths = [path for path in [playbook_path(run.playbook)] if path] if run.playbook else every_playbook()
    if not paths:
        return [f"no playbook {run.playbook}"]
    variables = frozenset().union(*(known(path)[0] for path in paths))
    tags = frozenset().union(*(known(path)[1] for path in paths))
    found = [f"no variable {name}" for name in sorted(run.variables - variables - {PLACEHOLDER})]
    found += [f"no tag {name}" for name in sorted(run.tags - tags)]
    return found + [f"no inventory {name}" for name in run.inventories if not inventory_exists(name)]


def every_playbook() -> list[Path]:
    """All that people run."""
    return [ROOT / "deploy.yml", *sorted((ROOT / "playbooks").glob("*.yml"))]


def inventory_exists(name: str) -> bool:
    """Whether an inventory is there; one outside the project is the reader's own."""
    return name.startswith(("/", "~", "$")) or "," in name or (ROOT / name).exists()
