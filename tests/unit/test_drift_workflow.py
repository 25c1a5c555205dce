"""The example of a GitHub Actions workflow: by GitHub's schema, with scripts that a linter has read."""

from __future__ import annotations

import importlib.resources
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

SECRETS = {"DRIFT_SSH_KEY", "DRIFT_KNOWN_HOSTS", "DRIFT_VAULT_PASSWORD", "DRIFT_WEBHOOK_URL"}


@pytest.fixture
def text(project_root: Path) -> str:
    return (project_root / "docs/examples/drift-workflow.yml").read_text(encoding="utf-8")


@pytest.fixture
def workflow(text: str) -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load(text)
    # YAML 1.1 reads the key `on` as true
    parsed["on"] = parsed.pop(True)  # type: ignore[call-overload]
    return parsed


def scripts(workflow: dict[str, Any]) -> list[str]:
    return [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]


def test_it_keeps_githubs_schema(workflow: dict[str, Any]) -> None:
    folder = importlib.resources.files("check_jsonschema") / "builtin_schemas/vendor"
    schema = json.loads((folder / "github-workflows.json").read_text(encoding="utf-8"))
    validator = jsonschema.validators.validator_for(schema)(schema)
    validator.validate(workflow)
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({**workflow, "on": "sometimes"})


def test_it_may_only_read(workflow: dict[str, Any]) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    checkout = workflow["jobs"]["drift"]["steps"][0]
    assert checkout["with"]["persist-credentials"] is False
    assert workflow["jobs"]["drift"]["timeout-minutes"] <= 60
    # a pull request of a stranger must not get the secrets
    assert set(workflow["on"]) == {"schedule", "workflow_dispatch"}


def test_what_it_needs_is_told(text: str) -> None:
    assert set(re.findall(r"secrets\.(\w+)", text)) == SECRETS
    told = text.partition("\nname:")[0]
    assert all(name in told for name in SECRETS)


def test_no_expression_in_a_script(workflow: dict[str, Any]) -> None:
    """GitHub pastes them into the script before the shell reads it."""
    assert not [script for script in scripts(workflow) if "${{" in script]


def test_reports_outlive_a_run(workflow: dict[str, Any]) -> None:
    steps = workflow["jobs"]["drift"]["steps"]
    caches = [step for step in steps if "actions/cache" in step.get("uses", "")]
    assert [step["with"]["path"] for step in caches] == ["reports", "reports"]
    # found drift ends the comparison with an error, and what was told must be kept all the same
    assert caches[1]["if"] == "always()"


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="no shellcheck is installed here")
def test_its_scripts_are_sound(workflow: dict[str, Any]) -> None:
    assert len(scripts(workflow)) == 2
    for script in scripts(workflow):
        done = subprocess.run(
            ["shellcheck", "--shell=bash", "-"], input=script, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout


def test_the_webhook_is_read_from_the_environment(workflow: dict[str, Any], tmp_path: Path) -> None:
    line = next(line for line in scripts(workflow)[1].splitlines() if "drift_webhook_url" in line)
    command = line.replace("$secrets", str(tmp_path))
    subprocess.run(["bash", "-c", command], check=True)
    written = yaml.safe_load((tmp_path / "variables.yml").read_text())
    assert written == {"drift_webhook_url": "{{ lookup('ansible.builtin.env', 'WEBHOOK_URL') }}"}
