"""The module release_files as a whole: all parts are planned before one of them is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ansible.module_utils.basic import AnsibleModule
from ansible.modules import release_files

from tests.unit import test_release_bundle, test_secret_files, test_service_certificates

if TYPE_CHECKING:
    from tests.unit.conftest import RunModule

PARTS = ["bundle", "certificates", "secrets"]


def arguments(base: Path, **changes: Any) -> dict[str, Any]:
    return {
        "bundle": test_release_bundle.arguments(base),
        "certificates": test_service_certificates.arguments(base),
        "secrets": test_secret_files.arguments(base / "secrets"),
        **changes,
    }


def whole(base: Path) -> list[str]:
    return sorted(str(path.relative_to(base)) for path in base.rglob("*"))


def test_one_execution_writes_all_three_and_the_second_nothing(run_module: RunModule, tmp_path: Path) -> None:
    first = run_module("release_files", arguments(tmp_path), diff=True)
    assert first["changed"]
    assert [first[part]["changed"] for part in PARTS] == [True] * 3
    assert (Path(first["bundle"]["path"]) / "release.json").exists()
    assert (tmp_path / "tls/backend/server.crt").exists()
    assert Path(first["secrets"]["override"]).exists()
    second = run_module("release_files", arguments(tmp_path), diff=True)
    assert not second["changed"]
    assert [second[part]["changed"] for part in PARTS] == [False] * 3
    assert all(entry["before"] == entry["after"] for entry in second["diff"])


@pytest.mark.parametrize("part", PARTS)
def test_what_changed_is_told_by_part(run_module: RunModule, tmp_path: Path, part: str) -> None:
    run_module("release_files", arguments(tmp_path))
    changed = arguments(tmp_path)
    changed["bundle"] |= {"edge_config": "global\n"} if part == "bundle" else {}
    changed["certificates"] |= {"renew_fraction": 0.9999999} if part == "certificates" else {}
    if part == "secrets":
        changed["secrets"] = test_secret_files.replaced(changed["secrets"], "secrets.toml", content="other")
    result = run_module("release_files", changed)
    assert result["changed"]
    assert [name for name in PARTS if result[name]["changed"]] == [part]


def test_parts_are_written_in_their_order_and_only_where_something_is_to_be_written(
    run_module: RunModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    for name, kind in release_files.KINDS.items():
        original = kind.write

        def write(self: Any, name: str = name, original: Any = original) -> None:
            written.append(name)
            original(self)

        monkeypatch.setattr(kind, "write", write)
    run_module("release_files", arguments(tmp_path), check=True)
    assert written == []
    # an order of its own in the task changes nothing
    run_module("release_files", dict(reversed(arguments(tmp_path).items())))
    assert written == PARTS
    run_module("release_files", arguments(tmp_path))
    assert written == PARTS


BAD = {
    "bundle": {"environment": {"X": "two\nlines"}},
    "certificates": {"renew_fraction": 2},
    "secrets": {"files": [{"name": "../x", "content": "canary-9", "services": []}]},
}
TOLD = {
    "bundle": "The release 2026.2.20 cannot be written: X holds a line break",
    "certificates": "The certificates cannot be made: renew_fraction is 2",
    "secrets": "secrets cannot be written: '../x' is not a file name",
}


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("bad", [PARTS, *[[part] for part in PARTS]])
def test_what_is_wrong_with_one_part_keeps_the_others_from_being_written(
    run_module: RunModule, tmp_path: Path, check: bool, bad: list[str]
) -> None:
    args = arguments(tmp_path)
    for part in bad:
        args[part] |= BAD[part]
    result = run_module("release_files", args, check=check)
    assert result["failed"]
    assert not result["changed"]
    lines = result["msg"].splitlines()
    assert lines[0] == "Nothing was written."
    assert len(lines) == 1 + len(bad)
    for part in bad:
        assert TOLD[part] in result["msg"]
    assert "canary" not in json.dumps(result)
    assert whole(tmp_path) == []


def test_a_secret_that_may_not_change_is_told_before_the_release_is_written(
    run_module: RunModule, tmp_path: Path
) -> None:
    args = arguments(tmp_path)
    args["secrets"] = test_secret_files.replaced(args["secrets"], "mongo_root_password", fixed="Put it back.")
    run_module("release_files", args)
    before = whole(tmp_path)
    args["bundle"]["tag"] = "2026.2.21"
    args["secrets"] = test_secret_files.replaced(args["secrets"], "mongo_root_password", content="another-1")
    result = run_module("release_files", args)
    assert "mongo_root_password has another content than until now. Put it back." in result["msg"]
    assert whole(tmp_path) == before


def test_a_part_that_the_server_does_not_take_is_told_with_the_change_before_it(
    run_module: RunModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_self: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(release_files.KINDS["certificates"], "write", full)
    result = run_module("release_files", arguments(tmp_path))
    assert (result["failed"], result["changed"]) == (True, True)
    assert result["msg"] == "The certificates cannot be made: [Errno 28] No space left on device"
    assert (tmp_path / "releases").exists()
    assert not (tmp_path / "secrets").exists()


def test_a_check_predicts_what_a_run_then_does(run_module: RunModule, tmp_path: Path) -> None:
    predicted = run_module("release_files", arguments(tmp_path / "base"), check=True, diff=True)
    assert not (tmp_path / "base").exists()
    done = run_module("release_files", arguments(tmp_path / "base"), diff=True)
    assert predicted["diff"] == done["diff"]
    assert predicted["bundle"] == done["bundle"]
    assert predicted["secrets"]["services"] == done["secrets"]["services"]


def test_a_check_of_a_fresh_server_without_libraries_says_what_can_be_known(
    run_module: RunModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ansible.module_utils.release_files.secrets.HAS_YAML", False)
    monkeypatch.setattr("ansible.module_utils.certificate_tools.HAS_CRYPTOGRAPHY", False)
    predicted = run_module("release_files", arguments(tmp_path / "base"), check=True, diff=True)
    assert [predicted[part]["changed"] for part in PARTS] == [True] * 3
    assert any("config.toml" in entry["after_header"] for entry in predicted["diff"])
    missing = run_module("release_files", arguments(tmp_path / "base"))
    assert "apt-get install python3-yaml" in missing["msg"]
    assert "apt-get install python3-cryptography" in missing["msg"]
    assert not (tmp_path / "base").exists()


def test_a_task_that_asks_for_nothing_is_an_error(run_module: RunModule) -> None:
    assert "one of the following is required: bundle, certificates, secrets" in run_module("release_files", {})["msg"]


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("broken", [None, *PARTS])
def test_nothing_secret_of_one_part_is_seen_beside_another(
    run_module: RunModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: bool, broken: str | None
) -> None:
    logged: list[str] = []
    original = AnsibleModule.log

    def log(self: AnsibleModule, msg: str, log_args: Any = None) -> None:
        logged.append(f"{msg} {log_args}")
        original(self, msg, log_args)

    monkeypatch.setattr(AnsibleModule, "log", log)
    pem, key, _ = test_service_certificates.provided_pair(["backend"])
    args = arguments(tmp_path)
    names = {"dns_names": ["backend"], "ip_addresses": []}
    given = test_service_certificates.entry(tmp_path, "backend", provided_certificate=pem, provided_key=key, **names)
    args["certificates"]["certificates"] = [given]
    if broken:
        # of a type that Ansible refuses, with all arguments in its answer
        wrong = {
            "bundle": {"images": 1},
            "certificates": {"certificates": [{**given, "owner": "nobody"}]},
            "secrets": {"prune": "no bool"},
        }
        args[broken] |= wrong[broken]
    result = run_module("release_files", args, check=check, diff=True)
    assert bool(result.get("failed")) == bool(broken)
    text = json.dumps(result, ensure_ascii=False) + "".join(logged)
    for secret in (test_secret_files.CONTENT, test_secret_files.PASSWORD, *key.splitlines()[1:-1]):
        for form in test_secret_files.forms(secret):
            assert form not in text
    assert "canary" not in text
    assert "PRIVATE KEY" not in text
    if not broken:
        assert any("Invoked with" in line for line in logged)
        # a short secret such as `root` blots out no word of the release
        shown = next(entry["after"] for entry in result["diff"] if entry["after_header"].endswith("compose.yaml"))
        assert shown == args["bundle"]["compose"]


def test_the_task_hides_nothing_and_the_module_shows_no_secret(project_root: Path) -> None:
    """`no_log` on the task would hide the release's diff: what is secret is the module's to hide."""
    (task,) = [
        task
        for task in yaml.safe_load((project_root / "roles/integr8scode/tasks/release.yml").read_text())
        if "release_files" in task
    ]
    assert "no_log" not in task
    assert set(task["release_files"]) == set(PARTS)
