"""The files of the repository among themselves: what they name exists, and names no place of somebody's own."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ansible
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]

# put together here, so that this file names none either
PACKAGE_REGISTRIES = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("deb", "debian", "org"),
        ("security", "debian", "org"),
        ("archive", "ubuntu", "com"),
        ("golang", "org"),
        ("repo1", "maven", "org"),
        ("repo", "maven", "apache", "org"),
        ("npmjs", "org"),
        ("yarnpkg", "com"),
        ("galaxy", "ansible", "com"),
    )
]


@cache
def tracked() -> dict[str, str]:
    """Text of each tracked file by its path; links and files that are not text are left out."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    texts = {}
    for name in filter(None, names.split("\0")):
        path = ROOT / name
        if path.is_file() and not path.is_symlink():
            try:
                texts[name] = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue
    return texts


def places(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{name}:{number}: {line.strip()[:120]}"
        for name, text in tracked().items()
        if name != "tests/unit/test_repository.py"
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def test_no_file_names_a_package_registry() -> None:
    """Where packages come from is the machine's configuration: mirrors and closed networks work by themselves then."""
    # module paths such as golang.org/x/net are names, not hosts to ask
    pattern = re.compile(
        rf"//[\w.-]*(?:{'|'.join(map(re.escape, PACKAGE_REGISTRIES))})|index-url"
        rf"|\b(?:{'|'.join(re.escape(one) for one in PACKAGE_REGISTRIES if 'golang' not in one)})\b"
    )
    assert places(pattern) == []


def test_no_file_names_a_place_on_a_developers_machine() -> None:
    own = [re.escape(str(ROOT)) + r"(?![\w-])"] if len(ROOT.parts) > 2 else []
    home = Path.home()
    if len(home.parts) > 2:
        own.append(re.escape(str(home)) + r"(?![\w-])")
    assert places(re.compile("|".join([*own, r"/Users/\w", r"C:\\Users"]))) == []


def test_no_conflict_marker_or_trailing_space() -> None:
    assert places(re.compile(r"^(<{7}|>{7}|={7}$)")) == []
    assert [place for place in places(re.compile(r"[ \t]+$")) if not place.startswith("requirements")] == []


# -- documents


def documents() -> list[str]:
    return sorted(name for name in tracked() if name.endswith(".md"))


def links(text: str) -> set[str]:
    """Relative links of a Markdown document, without their anchors."""
    targets = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return {target.partition("#")[0] for target in targets if not re.match(r"[a-z]+:|#", target)}


def mentioned(text: str) -> set[str]:
    """Words between backquotes that look like a path in this repository."""
    tops = {name.partition("/")[0] for name in tracked()}
    words = re.findall(r"`([\w./-]+)`", text)
    return {word for word in words if "/" in word and word.partition("/")[0] in tops}


@pytest.mark.parametrize("document", documents())
def test_what_a_document_points_to_exists(document: str) -> None:
    here = (ROOT / document).parent
    missing = sorted(target for target in links(tracked()[document]) if not (here / target).exists())
    missing += sorted(
        word for word in mentioned(tracked()[document]) if not (ROOT / word).exists() and not (here / word).exists()
    )
    assert missing == []


# -- dependencies


def project() -> dict[str, Any]:
    return tomllib.loads(tracked()["pyproject.toml"])


def direct() -> list[Requirement]:
    parsed = project()
    return [Requirement(text) for text in [*parsed["project"]["dependencies"], *parsed["dependency-groups"]["dev"]]]


def locked() -> dict[str, tuple[str, str]]:
    """Version and comments of each package in requirements.txt."""
    pattern = re.compile(r"^([a-z0-9.-]+)==(\S+?)(?: ;.*?)? \\\n((?:    .*\n?)+)", re.MULTILINE)
    return {match[1]: (match[2], match[3]) for match in pattern.finditer(tracked()["requirements.txt"])}


def test_requirements_are_made_from_the_project() -> None:
    """`make requirements` was run after the last change of pyproject.toml."""
    packages = locked()
    for requirement in direct():
        name = canonicalize_name(requirement.name)
        assert name in packages, f"{name} is not in requirements.txt: run `make requirements`"
        assert requirement.specifier.contains(packages[name][0]), f"{name}: run `make requirements`"
    own = {name for name, (_, text) in packages.items() if "integr8scode-ansible (pyproject.toml" in text}
    assert own == {canonicalize_name(requirement.name) for requirement in direct()}, "run `make requirements`"


def test_every_requirement_has_hashes() -> None:
    assert len(locked()) > 50
    assert [name for name, (_, text) in locked().items() if "--hash=sha256:" not in text] == []


def test_every_dependency_has_bounds() -> None:
    """Exact, or from a version to below another: nothing floats into the unknown when requirements are made anew."""
    for requirement in direct():
        operators = {part.operator for part in requirement.specifier}
        assert operators in ({"=="}, {">=", "<"}), str(requirement)


def bundled(collection: str) -> str:
    """The version of a collection that the ansible package brought."""
    namespace, _, name = collection.partition(".")
    # not by importing it: Ansible may have put its own loader there in this process
    manifest = Path(ansible.__file__).parents[1] / "ansible_collections" / namespace / name / "MANIFEST.json"
    found: str = json.loads(manifest.read_text(encoding="utf-8"))["collection_info"]["version"]
    return found


def test_collections_are_those_that_ansible_brings() -> None:
    """Otherwise `ansible-galaxy collection install -r requirements.yml` would want to download."""
    wanted = yaml.safe_load(tracked()["requirements.yml"])["collections"]
    assert {one["name"]: one["version"] for one in wanted} == {one["name"]: bundled(one["name"]) for one in wanted}
    assert version("ansible") == next(str(one.specifier)[2:] for one in direct() if one.name == "ansible")


def test_collections_in_use_are_listed() -> None:
    listed = {one["name"] for one in yaml.safe_load(tracked()["requirements.yml"])["collections"]}
    pattern = re.compile(r"^\s+(?:- )?([a-z]+\.[a-z0-9_]+)\.[a-z0-9_]+:", re.MULTILINE)
    used = {
        collection
        for name, text in tracked().items()
        if name.endswith(".yml") and name.startswith(("roles/", "playbooks/", "lab/", "molecule/"))
        for collection in pattern.findall(text)
    }
    known = {
        collection for collection in used if collection.partition(".")[0] in ("ansible", "community", "kubernetes")
    }
    assert known - {"ansible.builtin"} <= listed
