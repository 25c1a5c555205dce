"""A release is named by its content, written whole, and never changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.support.templating import evaluate, load, role_variables


def arguments(base: Path, **changes: Any) -> dict[str, Any]:
    reference = "registry.example/backend:2026.2.20"
    return {
        "base": str(base),
        "tag": "2026.2.20",
        "compose": "services: {backend: {image: x}}\n",
        "images": {"backend": f"{reference}@sha256:{'a' * 64}"},
        "digests": {reference: f"sha256:{'a' * 64}"},
        "files": [{"name": "config.toml", "variable": "CONFIG_TOML", "content": 'A = "1"\n'}],
        "environment": {"WEB_CONCURRENCY": 2},
        "secrets": "/opt/integr8scode/secrets/current.yaml",
        "secret_services": ["user-seed", "backend"],
        "consumer_groups": ["k8s-worker"],
        "author": "ops",
        **changes,
    }


def test_writes_everything_and_is_idempotent(tmp_path: Path, run_part: Any) -> None:
    first = run_part("bundle", arguments(tmp_path))
    assert first["changed"]
    assert first["id"].startswith("2026.2.20-")
    release = Path(first["path"])
    config = Path(first["files"]["config.toml"])
    assert config.read_text() == 'A = "1"\n'
    environment = (release / ".env").read_text()
    assert f"CONFIG_TOML={config}\n" in environment
    assert "IMAGE_TAG=2026.2.20\n" in environment
    files = [f"{release}/{name}" for name in ("docker-compose.yaml", "digests.yaml", "secrets.yaml")]
    assert f"COMPOSE_FILE={':'.join(files)}\n" in environment
    assert json.loads((release / "digests.yaml").read_text())["services"]["backend"]["image"].endswith("a" * 64)
    record = json.loads((release / "release.json").read_text())
    assert (record["by"], record["consumer_groups"]) == ("ops", ["k8s-worker"])
    assert release.stat().st_mode & 0o777 == 0o750
    assert not run_part("bundle", arguments(tmp_path))["changed"]


def test_a_release_lists_its_own_services_that_read_secrets(tmp_path: Path, run_part: Any) -> None:
    newest = "/opt/integr8scode/secrets/current.yaml"
    release = Path(run_part("bundle", arguments(tmp_path))["path"])
    assert json.loads((release / "secrets.yaml").read_text()) == {
        "services": {name: {"extends": {"file": newest, "service": name}} for name in ("backend", "user-seed")}
    }
    without = Path(run_part("bundle", arguments(tmp_path / "b", secrets="", secret_services=[]))["path"])
    assert not (without / "secrets.yaml").exists()
    assert "secrets" not in (without / ".env").read_text()


def test_the_role_s_release_lists_every_service_that_a_secret_is_written_for() -> None:
    variables = role_variables("integr8scode")
    tasks = load("roles/integr8scode/tasks/release.yml")
    (files,) = [task["release_files"]["secrets"]["files"] for task in tasks if "release_files" in task]
    readers = {mount["service"] for file in files for mount in evaluate(file["services"], variables)}
    assert set(evaluate(variables["__integr8scode_secret_services"], variables)) == readers


def test_the_edge_s_configuration_is_part_of_the_release(tmp_path: Path, run_part: Any) -> None:
    release = Path(run_part("bundle", arguments(tmp_path, edge_config="global\n"))["path"])
    assert (release / "haproxy.cfg").read_text() == "global\n"
    (release / "haproxy.cfg").unlink()
    assert run_part("bundle", arguments(tmp_path, edge_config="global\n"))["changed"]
    without = Path(run_part("bundle", arguments(tmp_path))["path"])
    assert not (without / "haproxy.cfg").exists()


def test_id_follows_content_not_author(tmp_path: Path, run_part: Any) -> None:
    def identity(**changes: Any) -> str:
        return str(run_part("bundle", arguments(tmp_path, **changes), check=True)["id"])

    same = identity()
    assert identity(author="somebody else", commit="abc") == same
    for change in (
        {"tag": "2026.2.19"},
        {"compose": "services: {}\n"},
        {"images": {"backend": "x@sha256:" + "b" * 64}},
        {"environment": {"WEB_CONCURRENCY": 4}},
        {"edge_config": "global\n"},
        {"files": [{"name": "config.toml", "variable": "CONFIG_TOML", "content": 'A = "2"\n'}]},
    ):
        assert identity(**change) != same


def test_check_mode_writes_nothing_and_predicts_the_same(tmp_path: Path, run_part: Any) -> None:
    base = tmp_path / "absent"
    predicted = run_part("bundle", arguments(base), check=True, diff=True)
    assert not base.exists()
    done = run_part("bundle", arguments(base))
    assert predicted["changed"]
    assert (predicted["id"], predicted["files"]) == (done["id"], done["files"])
    assert any("config.toml" in entry["after_header"] for entry in predicted["diff"])


def test_an_unfinished_or_damaged_release_is_written_again(tmp_path: Path, run_part: Any) -> None:
    release = Path(run_part("bundle", arguments(tmp_path))["path"])
    for name in ("release.json", "digests.yaml"):
        (release / name).unlink()
        assert run_part("bundle", arguments(tmp_path))["changed"]
        assert (release / name).exists()
    config = Path(run_part("bundle", arguments(tmp_path))["files"]["config.toml"])
    config.write_text("damaged")
    assert run_part("bundle", arguments(tmp_path))["changed"]
    assert config.read_text() == 'A = "1"\n'


@pytest.mark.parametrize("record", ["", "{", "[]", "{}"])
def test_a_record_that_cannot_be_read_is_written_again(tmp_path: Path, run_part: Any, record: str) -> None:
    first = run_part("bundle", arguments(tmp_path))
    path = Path(first["path"]) / "release.json"
    (tmp_path / "current").symlink_to(first["path"])
    path.write_text(record)
    assert run_part("bundle", arguments(tmp_path), check=True, diff=True)["changed"]
    again = run_part("bundle", arguments(tmp_path), diff=True)
    assert (again["changed"], again["id"], again["current"]) == (True, first["id"], True)
    assert json.loads(path.read_text())["images"] == arguments(tmp_path)["images"]
    assert not run_part("bundle", arguments(tmp_path))["changed"]


@pytest.mark.parametrize("value", ["two\nlines", "nul\0"])
def test_refuses_a_variable_that_env_cannot_hold(tmp_path: Path, run_part: Any, value: str) -> None:
    answer = run_part("bundle", arguments(tmp_path, environment={"X": value}))
    assert answer["failed"]
    assert "X holds a line break" in answer["msg"]
    assert not (tmp_path / "releases").exists()
