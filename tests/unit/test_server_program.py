"""The program integr8scode-maintenance: built alike each time, runs without Ansible, writes down how a job ended."""

from __future__ import annotations

import ast
import importlib
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleError
from ansible.module_utils.atomic_files import Access
from ansible.module_utils.maintenance import cli, state
from ansible.plugins.loader import lookup_loader
from ansible.plugins.lookup import server_program

ROOT = Path(__file__).resolve().parents[2]
CLI = "maintenance/cli.py"
LOCKS = cli.LOCKS


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "integr8scode-maintenance"
    path.write_bytes(server_program.build(server_program.SOURCES, "maintenance"))
    path.chmod(0o755)
    return path


def sources(folder: Path, files: dict[str, str]) -> Path:
    """A folder of module_utils with the package maintenance and `files`, text by path."""
    for name, text in {"maintenance/__init__.py": "", **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


# -- building


def test_the_same_sources_give_the_same_bytes_whenever_they_were_written(tmp_path: Path) -> None:
    first = sources(tmp_path / "a", {CLI: "import ansible.module_utils.used\n", "used.py": "X = 1\n"})
    second = sources(tmp_path / "b", {"used.py": "X = 1\n", CLI: "import ansible.module_utils.used\n"})
    for path in second.rglob("*.py"):
        os.utime(path, (1, 1))
        path.chmod(0o600)

    assert server_program.build(first, "maintenance") == server_program.build(second, "maintenance")


def test_only_what_is_imported_is_in_it(tmp_path: Path) -> None:
    folder = sources(
        tmp_path,
        {
            CLI: "def late():\n    from ansible.module_utils.package import part\n",
            "package/__init__.py": "from ansible.module_utils import direct\n",
            "package/part.py": "",
            "direct.py": "",
            "unrelated.py": "this is not Python",
        },
    )

    names = {path.relative_to(folder).as_posix() for path in server_program.closure(folder, "maintenance")}

    assert names == {
        "maintenance/__init__.py",
        "maintenance/cli.py",
        "package/__init__.py",
        "package/part.py",
        "direct.py",
    }


def test_the_statements_that_are_looked_at_are_all_that_there_are() -> None:
    """They are found by their form; a whole parse of each file says what they have to be."""
    for path in server_program.SOURCES.rglob("*.py"):
        names: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.update([node.module, *(f"{node.module}.{alias.name}" for alias in node.names)])
        prefix = f"{server_program.PREFIX}."
        ours = {name.removeprefix(prefix) for name in names if name.startswith(prefix)}
        assert server_program.imported(path) == ours, path


def test_an_unrelated_file_does_not_change_it(tmp_path: Path) -> None:
    before = server_program.build(sources(tmp_path, {CLI: ""}), "maintenance")
    assert server_program.build(sources(tmp_path, {CLI: "", "unrelated.py": "X = 1\n"}), "maintenance") == before
    assert server_program.build(sources(tmp_path, {CLI: "Y = 1\n"}), "maintenance") != before


@pytest.mark.parametrize(
    "line",
    ["from ansible.module_utils.basic import AnsibleModule", "import ansible.module_utils.common.text.converters"],
)
def test_what_a_server_would_lack_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(AnsibleError, match=r"cli\.py imports ansible\.module_utils\.(basic|common)"):
        server_program.build(sources(tmp_path, {CLI: line + "\n"}), "maintenance")


def test_the_lookup_returns_the_same_path_for_the_same_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_program, "DEFAULT_LOCAL_TMP", str(tmp_path))
    lookup = server_program.LookupModule()

    (first,), (second,) = lookup.run(["maintenance"], variables={}), lookup.run(["maintenance"], variables={})

    assert first == second
    assert [path.name for path in tmp_path.iterdir()] == [Path(first).name]
    assert Path(first).read_bytes() == server_program.build(server_program.SOURCES, "maintenance")
    with pytest.raises(AnsibleError, match="takes the name of one package"):
        lookup.run(["x"])


def test_ansible_finds_the_lookup() -> None:
    lookup_loader.add_directory(str(ROOT / "plugins/lookup"))
    assert lookup_loader.get("server_program") is not None
    assert "lookup_plugins = plugins/lookup" in (ROOT / "ansible.cfg").read_text()


# -- the program itself


def run(program: Path, *arguments: str, code: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", str(program), *arguments]
    if code:
        # as the program sees its own modules
        command = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(program)!r}); {code}"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_every_subcommand_is_in_it_and_imports_nothing_of_ansible(program: Path) -> None:
    """Also where Ansible is installed: this environment has one."""
    for module in cli.SUBCOMMANDS.values():
        name = f"ansible.module_utils.maintenance.{module}"
        code = (
            f"import importlib; found = importlib.import_module({name!r}); assert callable(found.run); "
            "print([m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'ansible'])"
        )
        answer = run(program, code=code)
        assert answer.returncode == 0, answer.stderr
        assert all(path.startswith(f"{program}/") for path in ast.literal_eval(answer.stdout)), answer.stdout


def test_it_runs_on_the_oldest_python_that_a_server_has(program: Path) -> None:
    with zipfile.ZipFile(program) as archive:
        for name in archive.namelist():
            ast.parse(archive.read(name), name, feature_version=(3, 10))


def test_wrong_usage(program: Path) -> None:
    answer = run(program, "nonsense")
    assert answer.returncode == 2
    assert "renew-kubeconfig" in answer.stderr


# -- what is written down


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Folders of a server, and the subcommand `backup` replaced; `answer` is what it returns or raises."""
    for module, name, folder in ((cli, "CONFIGURATION", "etc"), (cli, "LOCKS", "lock"), (state, "DIRECTORY", "state")):
        (tmp_path / folder).mkdir()
        monkeypatch.setattr(module, name, tmp_path / folder)
    monkeypatch.setattr(state, "FOLDER_ACCESS", Access(os.geteuid(), os.getegid(), 0o700))
    monkeypatch.setattr(state, "FILE_ACCESS", Access(os.geteuid(), os.getegid(), 0o600))
    (tmp_path / "etc/backup.json").write_text('{"keep": 7}')
    found = SimpleNamespace(answer=0, do=lambda: None, seen=[], etc=tmp_path / "etc")

    def job(config: Mapping[str, Any]) -> int:
        found.seen.append(dict(config))
        found.do()
        if isinstance(found.answer, Exception):
            raise found.answer
        return int(found.answer)

    real = importlib.import_module

    def load(name: str) -> Any:
        return SimpleNamespace(run=job) if name.endswith("maintenance.backup") else real(name)

    monkeypatch.setattr(cli.importlib, "import_module", load)
    return found


def test_a_success_is_remembered_over_later_failures(
    server: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["backup"]) == 0
    assert server.seen == [{"keep": 7}]
    good = state.read_state("backup")
    assert (good["result"], good["message"]) == ("ok", "")
    assert good["last_success"] == good["at"]

    server.answer = state.MaintenanceError("no room. Cure: make some")
    assert cli.main(["backup"]) == 1
    bad = state.read_state("backup")
    assert (bad["result"], bad["message"], bad["last_success"]) == (
        "failed",
        "no room. Cure: make some",
        good["last_success"],
    )
    assert capsys.readouterr().err == "backup failed: no room. Cure: make some\n"


def test_an_error_of_its_own_is_written_down_as_a_failure(server: SimpleNamespace) -> None:
    server.answer = ValueError("a bug")
    with pytest.raises(ValueError, match="a bug"):
        cli.main(["backup"])
    assert state.read_state("backup")["result"] == "failed"


def test_an_exit_code_of_the_job_counts(server: SimpleNamespace) -> None:
    server.answer = 3
    assert cli.main(["backup"]) == 3
    assert state.read_state("backup")["result"] == "failed"


def test_a_second_run_waits_for_the_first_and_says_who_it_is(server: SimpleNamespace) -> None:
    with (
        cli.alone("backup"),
        pytest.raises(state.MaintenanceError, match=rf"process {os.getpid()}, since 20.* has not ended within 0 s"),
        cli.alone("backup", wait=0),
    ):
        pass
    with cli.alone("backup", wait=0), cli.alone("renew-kubeconfig", wait=0):
        pass


def test_the_lock_is_in_a_folder_of_root_and_no_link_is_followed(
    server: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # not below a folder where others may make files
    assert LOCKS.parent == Path("/run")
    monkeypatch.setattr(cli, "LOCKS", tmp_path / "run")
    cli.main(["backup"])
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700
    lock = tmp_path / "run/backup.lock"
    assert lock.stat().st_mode & 0o777 == 0o600
    target = tmp_path / "target"
    target.write_text("whole")
    lock.unlink()
    lock.symlink_to(target)
    assert cli.main(["backup"]) == 1
    assert target.read_text() == "whole"
    assert "symbolic links" in capsys.readouterr().err


def test_a_run_that_systemd_ends_is_written_down_as_a_failure(server: SimpleNamespace) -> None:
    state.write_state("backup", result="ok", last_success="yesterday")
    server.do = lambda: os.kill(os.getpid(), signal.SIGTERM)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit):
            cli.main(["backup"])
    finally:
        signal.signal(signal.SIGTERM, before)
    found = state.read_state("backup")
    assert (found["result"], found["last_success"]) == ("failed", "yesterday")
    assert "it was stopped before its end" in found["message"]


@pytest.mark.parametrize("text", [None, "{", "[]"])
def test_settings_that_are_missing_or_broken_are_named(
    server: SimpleNamespace, text: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = server.etc / "backup.json"
    path.unlink()
    if text is not None:
        path.write_text(text)
    assert cli.main(["backup"]) == 1
    assert server.seen == []
    assert str(path) in capsys.readouterr().err


def test_what_a_job_knows_stays_when_the_run_is_written_down(server: SimpleNamespace) -> None:
    state.write_state("backup", facts={"newest": "x"})
    cli.main(["backup"])
    found = state.read_state("backup")
    assert found["facts"] == {"newest": "x"}
    assert (state.DIRECTORY / "backup.json").stat().st_mode & 0o777 == 0o600
    (state.DIRECTORY / "backup.json").write_text("not JSON")
    assert state.read_state("backup") == {}
