"""What the documents tell to run can be run: playbooks, variables, tags, options, inventories, make's targets."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from lab.__main__ import parser
from tests.unit.support.commands import ROOT, commands, every_playbook, problems_of, runs

DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "docs/*.md", "roles/*/README.md", "lab/**/README.md", "bench/README.md")
    for path in ROOT.glob(pattern)
)
each_document = pytest.mark.parametrize("document", DOCUMENTS)


def told(document: str) -> list[str]:
    return list(commands((ROOT / document).read_text(encoding="utf-8")))


@each_document
def test_runs_of_playbooks_name_what_there_is(document: str) -> None:
    wrong = {command: problems for command in told(document) for run in runs(command) if (problems := problems_of(run))}
    assert wrong == {}


@pytest.mark.parametrize("playbook", every_playbook(), ids=lambda path: path.name)
def test_a_playbooks_own_examples_do_too(playbook: Path) -> None:
    """In the comments at its top and beside its tasks."""
    text = re.sub(r" *\\\n# +", " ", playbook.read_text(encoding="utf-8"))
    lines = [match[1] for match in re.finditer(r"^\s*#\s+(ansible-playbook .*)$", text, re.MULTILINE)]
    # what a command is for stands after some spaces
    wrong = {line: problems_of(run) for line in lines for run in runs(re.split(r" {2,}", line)[0])}
    assert {line: problems for line, problems in wrong.items() if problems} == {}


@each_document
def test_targets_of_make_exist(document: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    known = set(re.findall(r"^([a-z][a-z-]*)\s*:", makefile, re.MULTILINE))
    named = {match[1] for command in told(document) for match in re.finditer(r"(?:^|&& )make ([a-z][a-z-]*)", command)}
    assert named - known == set()


@each_document
def test_files_of_the_vault_and_programs_in_python_exist(document: str) -> None:
    for command in told(document):
        for path in re.findall(r"ansible-vault \w+ (inventories/\S+)", command):
            assert (ROOT / path).is_file(), command
        module = re.search(r"python3? -m ((?:lab|bench)[\w.]*)(.*)", command)
        if module:
            folder = ROOT / module[1].replace(".", "/")
            assert folder.with_suffix(".py").is_file() or (folder / "__main__.py").is_file(), command
        if module and module[1] == "lab":
            parser().parse_args(shlex.split(module[2], comments=True))


def test_what_is_to_be_set_for_a_closed_network_is_not_in_the_shipped_inventory_already() -> None:
    """Pasted as shown, a line that `main.yml` has would be there twice, and Ansible would warn at every run."""
    (block,) = re.findall(
        r"(?ms)^## What to set$.*?^```yaml\n(.*?)^```$", (ROOT / "docs/air-gap.md").read_text("utf-8")
    )
    shipped = (ROOT / "inventories/production/group_vars/all/main.yml").read_text("utf-8")
    assert set(yaml.safe_load(block)) & set(yaml.safe_load(shipped)) == set()


def test_the_documents_tell_something() -> None:
    """Otherwise nothing was looked at above."""
    found = [run for document in DOCUMENTS for command in told(document) for run in runs(command)]
    assert len([run for run in found if run.playbook]) > 60
    assert {"tag", "to", "fix", "restore_confirm", "integr8scode_mongo_login_was_changed"} <= {
        name for run in found for name in run.variables
    }
    assert {"backup", "docker", "integr8scode"} <= {tag for run in found for tag in run.tags}
    assert "inventories/production" in {one for run in found for one in run.inventories}


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("ansible-playbook playbooks/nope.yml", "no playbook playbooks/nope.yml"),
        ("ansible-playbook deploy.yml -e tga=1", "no variable tga"),
        ("ansible-playbook playbooks/backup.yml -e tag=1", "no variable tag"),
        ("ansible-playbook deploy.yml -e '{\"deploy_serail\": 1}'", "no variable deploy_serail"),
        ("ansible-playbook playbooks/site.yml --limit a --tags docker,nope  # x", "no tag nope"),
        ("X=1 .venv/bin/ansible-playbook -i inventories/nope deploy.yml && true", "no inventory inventories/nope"),
        ("cd x && sh -c 'ansible-playbook playbooks/nope.yml > log'", "no playbook playbooks/nope.yml"),
        ("site.yml --tags nope", "no tag nope"),
        ("-e nobody_knows=1", "no variable nobody_knows"),
        ("ansible-playbook deploy.yml --nope", "unrecognized arguments: --nope"),
    ],
)
def test_what_there_is_not_is_found(command: str, problem: str) -> None:
    (found,) = [one for run in runs(command) for one in problems_of(run)]
    assert found.endswith(problem)


def test_commands_are_found_wherever_they_stand() -> None:
    block = "   ```bash\n   c \\\n     d  # e\n   ```\n\n```yaml\nno: command\n```"
    text = f"Run `a b`, or\n\n{block}\n\n    f g\n\nIt's `h`.\n"
    assert [" ".join(one.split()) for one in commands(text)] == ["c d # e", "f g", "a b", "h"]
