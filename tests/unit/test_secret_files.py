"""The secrets of the module release_files, in this process and in a folder of the test's own."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
import yaml
from ansible.module_utils import atomic_files
from ansible.module_utils import secret_files as store

if TYPE_CHECKING:
    from tests.unit.conftest import RunModule

CONTENT = 'SECRET_KEY = "canary-1 $pa\\"ss\\\\word é"\nMONGODB_URL = "x"\n'
PASSWORD = "canary-2 '$\"\\ #@:/%!{{ x }}"
UID, GID = os.geteuid(), os.getegid()


def entry(name: str, content: str, *mounts: tuple[str, str], **more: Any) -> dict[str, Any]:
    services = [{"service": service, "target": target} for service, target in mounts]
    return {"name": name, "content": content, "owner": UID, "group": GID, "services": services, **more}


def arguments(directory: Path, **changes: Any) -> dict[str, Any]:
    files = [
        entry("secrets.toml", CONTENT, ("backend", "/app/secrets.toml"), ("k8s-worker", "/app/secrets.toml")),
        entry("mongo_root_username", "root", ("mongo", "/run/secrets/mongo_root_username")),
        entry("mongo_root_password", PASSWORD, ("mongo", "/run/secrets/mongo_root_password")),
    ]
    return {"directory": str(directory), "files": files, **changes}


def replaced(args: dict[str, Any], which: str, /, **changes: Any) -> dict[str, Any]:
    return {**args, "files": [{**file, **changes} if file["name"] == which else file for file in args["files"]]}


def snapshot(directory: Path) -> dict[str, tuple[bytes, int, int]]:
    """Everything below `directory`: content, mode and inode by path."""
    return {
        str(path): (path.read_bytes() if path.is_file() else b"", path.stat().st_mode, path.stat().st_ino)
        for path in [directory, *directory.rglob("*")]
        if path.exists()
    }


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "secrets"


def test_a_first_run_writes_files_key_and_override(run_part: RunModule, directory: Path) -> None:
    result = run_part("secrets", arguments(directory))

    assert result["changed"]
    assert result["changed_files"] == ["mongo_root_password", "mongo_root_username", "secrets.toml"]
    assert result["services"] == ["backend", "k8s-worker", "mongo"]
    assert Path(result["paths"]["secrets.toml"]).read_text() == CONTENT
    assert Path(result["paths"]["mongo_root_password"]).read_text() == PASSWORD
    assert (directory / ".key").stat().st_size == 32
    override = yaml.safe_load(Path(result["override"]).read_text())
    assert override["services"]["backend"]["volumes"] == [
        {
            "type": "bind",
            "source": result["paths"]["secrets.toml"],
            "target": "/app/secrets.toml",
            "read_only": True,
            "bind": {"create_host_path": False},
        }
    ]
    assert [volume["target"] for volume in override["services"]["mongo"]["volumes"]] == [
        "/run/secrets/mongo_root_password",
        "/run/secrets/mongo_root_username",
    ]


def test_only_root_and_the_reader_can_open_anything(run_part: RunModule, directory: Path) -> None:
    result = run_part("secrets", replaced(arguments(directory), "mongo_root_password", mode="0440"))
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [directory, *directory.rglob("*")]}
    assert modes.pop(Path(result["paths"]["mongo_root_password"])) == 0o440
    assert modes.pop(directory / "current.yaml") == 0o600
    assert {(path.is_dir(), mode) for path, mode in modes.items()} == {(True, 0o700), (False, 0o400)}


@pytest.mark.skipif(UID != 0, reason="only root gives files to others")
def test_the_reader_owns_its_file(run_part: RunModule, directory: Path) -> None:
    args = replaced(arguments(directory), "mongo_root_password", owner=999, group=998)
    status = Path(run_part("secrets", args)["paths"]["mongo_root_password"]).stat()
    assert (status.st_uid, status.st_gid) == (999, 998)


def test_a_second_run_changes_nothing(run_part: RunModule, directory: Path) -> None:
    first = run_part("secrets", arguments(directory))
    before = snapshot(directory)
    second = run_part("secrets", arguments(directory))
    assert not second["changed"]
    assert (second["changed_files"], second["services"], second["unused"]) == ([], [], [])
    assert second["paths"] == first["paths"]
    assert snapshot(directory) == before


def test_one_changed_secret_moves_only_its_own_file(run_part: RunModule, directory: Path) -> None:
    first = run_part("secrets", arguments(directory))
    second = run_part("secrets", replaced(arguments(directory), "mongo_root_password", content="canary-3"))
    assert second["changed_files"] == ["mongo_root_password"]
    assert second["services"] == ["mongo"]
    moved = {name for name in first["paths"] if first["paths"][name] != second["paths"][name]}
    assert moved == {"mongo_root_password"}
    old = Path(first["paths"]["mongo_root_password"])
    assert second["unused"] == [str(old.parent)]
    assert old.read_text() == PASSWORD, "a running container still mounts it"


def test_an_earlier_content_that_comes_back_is_a_change(run_part: RunModule, directory: Path) -> None:
    first = run_part("secrets", arguments(directory))
    run_part("secrets", replaced(arguments(directory), "secrets.toml", content="other"))
    back = run_part("secrets", arguments(directory))
    assert back["changed"]
    assert (back["changed_files"], back["services"]) == (["secrets.toml"], ["backend", "k8s-worker"])
    assert back["paths"] == first["paths"]


def test_prune_removes_what_nothing_mounts_and_only_that(run_part: RunModule, directory: Path) -> None:
    first = run_part("secrets", arguments(directory))
    args = replaced(arguments(directory), "secrets.toml", content="other")
    run_part("secrets", args)
    (directory / "seeded").write_text("kept")
    foreign = directory / "not-ours"
    foreign.mkdir()
    pruned = run_part("secrets", {**args, "prune": True})
    assert pruned["changed"]
    assert pruned["changed_files"] == pruned["services"] == []
    assert pruned["unused"] == [str(Path(first["paths"]["secrets.toml"]).parent)]
    assert not Path(first["paths"]["secrets.toml"]).parent.exists()
    assert all(Path(path).exists() for path in pruned["paths"].values())
    assert foreign.exists()
    assert (directory / "seeded").exists()
    assert not run_part("secrets", {**args, "prune": True})["changed"]


def test_a_file_that_is_no_longer_listed_is_no_longer_mounted(run_part: RunModule, directory: Path) -> None:
    args = arguments(directory)
    run_part("secrets", args)
    result = run_part("secrets", {**args, "files": args["files"][:2]}, diff=True)
    assert result["services"] == ["mongo"]
    assert "mongo_root_password" in result["diff"]["before"]
    assert "mongo_root_password" not in result["diff"]["after"]


def test_the_same_content_has_another_folder_on_another_server(run_part: RunModule, tmp_path: Path) -> None:
    folders = {
        Path(run_part("secrets", arguments(tmp_path / name))["paths"]["secrets.toml"]).parent.name
        for name in ("one", "two")
    }
    assert len(folders) == 2


@pytest.mark.parametrize("damage", ["content", "mode", "missing", "override", "override-mode", "directory-mode"])
def test_changes_by_hand_are_put_right(run_part: RunModule, directory: Path, damage: str) -> None:
    first = run_part("secrets", arguments(directory))
    good = {path: value[:2] for path, value in snapshot(directory).items()}
    file = Path(first["paths"]["secrets.toml"])
    if damage == "content":
        file.chmod(0o600)
        file.write_text("broken")
        file.chmod(0o400)
    elif damage == "mode":
        file.chmod(0o444)
    elif damage == "missing":
        file.unlink()
    elif damage == "override":
        (directory / "current.yaml").write_text("services: [")
    elif damage == "override-mode":
        (directory / "current.yaml").chmod(0o644)
    else:
        directory.chmod(0o755)
    predicted = run_part("secrets", arguments(directory), check=True)
    result = run_part("secrets", arguments(directory))
    assert predicted["changed"]
    assert result == predicted
    assert ("secrets.toml" in result["changed_files"]) == (damage in ("content", "mode", "missing"))
    assert ("backend" in result["services"]) == (damage in ("content", "missing", "override"))
    assert {path: value[:2] for path, value in snapshot(directory).items()} == good
    assert not run_part("secrets", arguments(directory))["changed"]


def test_check_mode_on_a_fresh_server_predicts_and_writes_nothing(run_part: RunModule, directory: Path) -> None:
    predicted = run_part("secrets", arguments(directory), check=True, diff=True)
    assert not directory.exists()
    result = run_part("secrets", arguments(directory), diff=True)
    # the key, and with it the folders' names, cannot be known before
    assert predicted.pop("paths")["secrets.toml"] == f"{directory}/unknown/secrets.toml"
    result.pop("paths")
    assert predicted == result


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"content": "canary-4"},
        {"mode": "0440"},
        {"services": [{"service": "backend", "target": "/elsewhere"}]},
    ],
)
def test_check_mode_on_a_running_server_equals_the_run(
    run_part: RunModule, directory: Path, change: dict[str, Any]
) -> None:
    run_part("secrets", arguments(directory))
    before = snapshot(directory)
    args = replaced(arguments(directory), "secrets.toml", **change)
    predicted = run_part("secrets", args, check=True, diff=True)
    assert snapshot(directory) == before
    assert run_part("secrets", args, diff=True) == predicted
    assert predicted["changed"] == bool(change)
    assert (predicted["diff"]["before"] != predicted["diff"]["after"]) == bool(change)


def test_the_diff_names_files_and_never_content(run_part: RunModule, directory: Path) -> None:
    run_part("secrets", arguments(directory))
    args = replaced(arguments(directory), "mongo_root_password", content="canary-5")
    diff = run_part("secrets", args, diff=True)["diff"]
    assert "mongo_root_password: earlier content, read by mongo:/run/secrets/mongo_root_password\n" in diff["before"]
    assert f"mongo_root_password: current content, {UID}:{GID} 0400, read by mongo" in diff["after"]
    unchanged = [line for line in diff["after"].splitlines() if line.startswith("secrets.toml")]
    assert unchanged[0] in diff["before"].splitlines()


def forms(secret: str) -> set[str]:
    """What a secret may look like in an output."""
    return {
        secret,
        quote(secret),
        quote(secret, safe=""),
        json.dumps(secret)[1:-1],
        repr(secret)[1:-1],
        base64.b64encode(secret.encode()).decode(),
    }


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("broken", [{}, {"mode": "0777"}, {"owner": "nobody"}, {"services": [{"service": "x"}]}])
def test_no_secret_is_returned_or_logged(
    run_part: RunModule,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    check: bool,
    alone: bool,
    broken: dict[str, Any],
) -> None:
    logged: list[str] = []
    from ansible.module_utils.basic import AnsibleModule

    original = AnsibleModule.log
    monkeypatch.setattr(
        AnsibleModule,
        "log",
        lambda self, msg, log_args=None: (logged.append(f"{msg} {log_args}"), original(self, msg, log_args))[1],
    )
    args = replaced(arguments(directory), "secrets.toml", **broken)
    if alone:
        # Ansible hides by chance what looks like user:password@host, and with it the rest of a list
        args["files"] = args["files"][:2]
    text = json.dumps(run_part("secrets", args, check=check, diff=True), ensure_ascii=False) + "".join(logged)
    assert bool(broken) == ('"failed": true' in text)
    for secret in (CONTENT, PASSWORD, *CONTENT.splitlines()[:1]):
        for form in forms(secret):
            assert form not in text
    assert "canary" not in text
    if not broken:
        assert any("Invoked with" in line for line in logged)
        # a short secret such as `root` does not blot out other words
        assert f"{directory}/current.yaml" in text
        assert "mongo_root_username" in text


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"name": "../x"}, "'../x' is not a file name"),
        ({"name": "mongo_root_password"}, "mongo_root_password is listed twice"),
        ({"mode": "0444"}, "secrets.toml: with mode 0444 others could read it"),
        ({"mode": "0040"}, "secrets.toml: with mode 0040 others could read it or its owner could not"),
        ({"mode": "u=r"}, "secrets.toml: 'u=r' is not an octal mode"),
        ({"mode": "0480"}, "'0480' is not an octal mode"),
        ({"services": [{"service": "a", "target": "x"}]}, "'x' is not an absolute path in the container of a"),
        (
            {"services": [{"service": "mongo", "target": "/run/secrets/mongo_root_password"}]},
            "mongo already has a file at /run/secrets/mongo_root_password",
        ),
    ],
)
def test_bad_input_is_refused_before_anything_changes(
    run_part: RunModule, directory: Path, changes: dict[str, Any], names: str
) -> None:
    result = run_part("secrets", replaced(arguments(directory), "secrets.toml", **changes))
    assert result["failed"]
    assert names in result["msg"]
    assert not directory.exists()


def test_a_broken_key_is_an_error_with_its_cure(run_part: RunModule, directory: Path) -> None:
    run_part("secrets", arguments(directory))
    (directory / ".key").chmod(0o600)
    (directory / ".key").write_bytes(b"short")
    before = snapshot(directory)
    result = run_part("secrets", arguments(directory))
    assert result["failed"]
    assert f"{directory}/.key should hold 32 bytes and has 5. Remove it" in result["msg"]
    assert snapshot(directory) == before


def test_a_link_in_the_way_is_named(run_part: RunModule, directory: Path) -> None:
    first = run_part("secrets", arguments(directory))
    file = Path(first["paths"]["secrets.toml"])
    file.unlink()
    file.symlink_to("/etc/hostname")
    result = run_part("secrets", arguments(directory))
    assert result["failed"]
    assert f"{file} is a symbolic link. Move it away." in result["msg"]


def test_an_interrupted_run_leaves_the_old_override(
    run_part: RunModule, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before each of its writes in turn, the directory is always whole: what is mounted exists."""
    run_part("secrets", arguments(directory))
    old = (directory / "current.yaml").read_bytes()
    args = arguments(directory)
    args = replaced(replaced(args, "secrets.toml", content="new"), "mongo_root_password", content="new")
    real = atomic_files.write_file
    for stop_at in range(3):
        written: list[Path] = []

        def write(path: Path, *rest: Any, written: list[Path] = written, stop_at: int = stop_at) -> None:
            if len(written) == stop_at:
                raise OSError(28, "No space left on device")
            written.append(path)
            real(path, *rest)

        monkeypatch.setattr(store, "write_file", write)
        result = run_part("secrets", args)
        assert result["failed"]
        assert "No space left" in result["msg"]
        assert (directory / "current.yaml").read_bytes() == old
        for service in yaml.safe_load(old)["services"].values():
            assert all(Path(volume["source"]).is_file() for volume in service["volumes"])
        # the next attempt of this loop starts with what this one left
        if written:
            written[-1].unlink()
    monkeypatch.setattr(store, "write_file", real)
    assert run_part("secrets", args)["changed"]
    assert not run_part("secrets", args)["changed"]


def test_a_dollar_in_a_path_survives_compose(run_part: RunModule, tmp_path: Path) -> None:
    args = replaced(arguments(tmp_path / "a$b"), "secrets.toml", services=[{"service": "s", "target": "/x$y"}])
    result = run_part("secrets", args)
    volume = yaml.safe_load(Path(result["override"]).read_text())["services"]["s"]["volumes"][0]
    assert volume["target"] == "/x$$y"
    assert volume["source"].startswith(f"{tmp_path}/a$$b/")
    assert not run_part("secrets", args)["changed"]


def test_without_pyyaml_the_message_names_the_package(
    run_part: RunModule, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ansible.module_utils.release_files.secrets.HAS_YAML", False)
    result = run_part("secrets", arguments(directory))
    assert result["failed"]
    assert "apt-get install python3-yaml" in result["msg"]


def test_a_fixed_content_may_not_change_once_it_is_mounted(run_part: RunModule, directory: Path) -> None:
    args = replaced(arguments(directory), "mongo_root_password", fixed="Put the former value back.")
    assert run_part("secrets", args)["changed"]
    before = snapshot(directory)
    for check in (True, False):
        refused = run_part("secrets", replaced(args, "mongo_root_password", content="another-1"), check=check)
        assert refused["failed"]
        assert "mongo_root_password has another content" in refused["msg"]
        assert "Put the former value back." in refused["msg"]
    assert snapshot(directory) == before
    assert not run_part("secrets", args)["changed"]
    assert run_part("secrets", replaced(args, "mongo_root_password", content="another-1", fixed=""))["changed"]


def test_check_mode_on_a_fresh_server_without_yaml(
    run_part: RunModule, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ansible.module_utils.release_files.secrets.HAS_YAML", False)
    predicted = run_part("secrets", arguments(directory), check=True)
    assert predicted["changed"]
    assert predicted["services"] == ["backend", "k8s-worker", "mongo"]
    assert "canary" not in json.dumps(predicted)
    assert "apt-get install python3-yaml" in run_part("secrets", arguments(directory))["msg"]
    directory.mkdir()
    assert run_part("secrets", arguments(directory), check=True)["failed"]
