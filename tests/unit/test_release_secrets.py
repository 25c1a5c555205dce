"""Releases with other services than today's: each keeps its own, with the newest secrets."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.secret_files import read_mounts

from tests.unit.conftest import RunModule

UID, GID = os.geteuid(), os.getegid()
TARGET = "/app/secrets.toml"


class Installation:
    """A base with releases and secrets, written as the role does."""

    def __init__(self, base: Path, run_part: RunModule) -> None:
        self.base, self.run_part = base, run_part
        self.newest = base / "secrets/current.yaml"

    def release(self, name: str, *services: str, lists: bool = True) -> Path:
        path = self.base / "releases" / name
        path.mkdir(parents=True)
        compose = {"services": {service: {"image": "x"} for service in services}}
        (path / "docker-compose.yaml").write_text(yaml.safe_dump(compose))
        last = path / "secrets.yaml" if lists else self.newest
        (path / ".env").write_text(f"COMPOSE_FILE={path}/docker-compose.yaml:{last}\nIMAGE_TAG={name}\n")
        (path / "release.json").write_text("{}")
        return path

    def secrets(self, *services: str, content: str = "first", check: bool = False, **more: Any) -> dict[str, Any]:
        mounts = [{"service": service, "target": TARGET} for service in services]
        file = {"name": "secrets.toml", "content": content, "owner": UID, "group": GID, "services": mounts}
        args = {"directory": f"{self.base}/secrets", "releases": f"{self.base}/releases", "files": [file], **more}
        answer = self.run_part("secrets", args, check=check)
        assert not answer.get("failed"), answer
        return answer

    def mounted(self) -> dict[str, str]:
        return {name: Path(targets[TARGET]).read_text() for name, targets in read_mounts(self.newest).items()}


@pytest.fixture
def installed(tmp_path: Path, run_part: RunModule) -> Installation:
    return Installation(tmp_path, run_part)


def test_a_service_that_a_kept_release_has_gets_the_newest_secrets_too(installed: Installation) -> None:
    installed.release("one", "backend", "coordinator")
    installed.secrets("backend", "coordinator")
    installed.release("two", "backend")
    installed.secrets("backend", content="second")
    assert installed.mounted() == {"backend": "second", "coordinator": "second"}
    again = installed.secrets("backend", content="second")
    assert not again["changed"]
    assert Path(again["paths"]["secrets.toml"]).parent.as_posix() not in again["unused"]


def test_a_service_of_no_kept_release_goes_when_something_changes_anyway(installed: Installation) -> None:
    old = installed.release("one", "backend", "coordinator")
    installed.secrets("backend", "coordinator")
    installed.release("two", "backend")
    assert not installed.secrets("backend")["changed"]
    (old / "release.json").unlink()
    assert not installed.secrets("backend")["changed"]
    assert installed.secrets("backend", content="second")["changed"]
    assert installed.mounted() == {"backend": "second"}


def test_a_file_that_is_no_longer_written_stays_for_the_release_that_reads_it(installed: Installation) -> None:
    installed.release("one", "backend", "grafana")
    mounts = [{"service": "grafana", "target": TARGET}]
    other = {"name": "grafana_password", "content": "g", "owner": UID, "group": GID, "services": mounts}
    own = {**other, "name": "secrets.toml", "content": "a", "services": [{"service": "backend", "target": TARGET}]}
    installed.secrets(files=[own, other])
    answer = installed.secrets("backend", content="b", prune=True)
    assert installed.mounted() == {"backend": "b", "grafana": "g"}
    assert len(answer["unused"]) == 1


def test_a_release_that_names_the_newest_mounts_itself_gets_a_list_where_it_lacks_one(installed: Installation) -> None:
    old = installed.release("one", "backend", "redis", lists=False)
    fits = installed.release("two", "backend", "scheduler", lists=False)
    installed.secrets("backend")
    before = (old / ".env").read_text()
    assert str(installed.newest) in before
    installed.release("three", "backend", "scheduler")
    assert installed.secrets("backend", "scheduler", check=True)["changed"]
    assert (old / ".env").read_text() == before
    installed.secrets("backend", "scheduler")
    assert (old / ".env").read_text() == before.replace(str(installed.newest), f"{old}/secrets.yaml")
    assert json.loads((old / "secrets.yaml").read_text())["services"] == {
        "backend": {"extends": {"file": str(installed.newest), "service": "backend"}}
    }
    assert str(installed.newest) in (fits / ".env").read_text()
    assert not installed.secrets("backend", "scheduler")["changed"]


def test_a_release_that_was_misled_before_is_put_right(installed: Installation) -> None:
    old = installed.release("one", "backend", lists=False)
    installed.secrets("backend", "scheduler", releases=None)
    assert installed.secrets("backend", "scheduler")["changed"]
    assert "secrets.yaml" in (old / ".env").read_text()
    assert not installed.secrets("backend", "scheduler")["changed"]


def test_what_is_shown_of_it_stays_the_same(installed: Installation) -> None:
    installed.release("one", "backend", "coordinator")
    installed.secrets("backend", "coordinator")
    diff = installed.secrets("backend")["diff"]
    assert diff["before"] == diff["after"]
