"""The archive: bounded, masked, explained, and nothing of it left behind."""

from __future__ import annotations

import io
import json
import os
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.diagnostics import archive
from ansible.module_utils.diagnostics.contents import COMMANDS, KUBERNETES_KINDS, contents
from ansible.module_utils.diagnostics.masking import Masker
from ansible.module_utils.diagnostics.sources import Source, Text, command, file, kubernetes, value, whole_lines
from ansible.modules import diagnostics_archive

CANARY = "kanarienvogel-4711"
LIMITS = archive.Limits(1 << 20, 8 << 20, 30)


def unpacked(path: Path) -> dict[str, str]:
    """Texts by name, without the folder that all are in."""
    with tarfile.open(path) as tar:
        found = {}
        for member in tar:
            stream = tar.extractfile(member)
            assert stream is not None
            assert member.mode == 0o600
            found[member.name.partition("/")[2]] = stream.read().decode()
    return found


def text(words: str) -> Source:
    return lambda limit: Text(words[:limit])


def written(tmp_path: Path, parts: list[tuple[str, Source]], limits: archive.Limits = LIMITS) -> dict[str, str]:
    masker = Masker([CANARY])
    path, _ = archive.write(
        parts, host="app1", moment="20260528T100000Z", masker=masker, limits=limits, folders=[str(tmp_path)]
    )
    assert path.name == "app1-diagnostics-20260528T100000Z.tar.gz"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    return unpacked(path)


def boom(_limit: int) -> Text:
    raise RuntimeError(f"no {CANARY}")


def test_every_part_is_masked_and_told(tmp_path: Path) -> None:
    found = written(
        tmp_path,
        [
            ("a.txt", text(f"x {CANARY} y\n")),
            (f"logs/{CANARY}/../b.txt", text("fine\n")),
            ("c.txt", boom),
            ("d.txt", lambda _: Text("", note=f"cannot: {CANARY}")),
        ],
    )
    assert found["a.txt"] == "x ***MASKED*** y\n"
    assert CANARY not in json.dumps(found)
    manifest = json.loads(found["manifest.json"])
    notes = {part["name"]: part["note"] for part in manifest["parts"]}
    assert notes["a.txt"] == ""
    assert notes["c.txt"] == "RuntimeError: no ***MASKED***"
    assert "c.txt" not in found
    assert manifest["masked"] == 4
    assert manifest["known_secrets"] == 1
    assert "MASKED" in found["README.txt"]


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    limits = archive.Limits(part_bytes=100, total_bytes=250, seconds=30)
    found = written(tmp_path, [(f"{number}.txt", text("x" * 1000)) for number in range(4)], limits)
    sizes = [len(found.get(f"{number}.txt", "")) for number in range(4)]
    assert sizes == [100, 100, 50, 0]
    assert json.loads(found["manifest.json"])["parts"][3]["note"] == "left out: the archive is full"


def test_what_is_too_late_is_named(tmp_path: Path) -> None:
    limits = archive.Limits(100, 1000, 0.2)
    slow = lambda _limit: time.sleep(0.3) or Text("late\n")  # type: ignore[func-returns-value] # noqa: E731
    found = written(tmp_path, [("slow.txt", slow), ("next.txt", text("x"))], limits)
    assert found["slow.txt"] == "late\n"
    assert "next.txt" not in found
    assert json.loads(found["manifest.json"])["parts"][1]["note"] == "left out: the time is over"


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive.Writer, "_write", full)
    with pytest.raises(OSError, match="No space"):
        written(tmp_path, [("a.txt", text("x"))])
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_gone_around(monkeypatch: pytest.MonkeyPatch) -> None:
    free = {"/var/tmp": 10 << 20, "/run": 300 << 20, "/dev/shm": 900 << 20}
    monkeypatch.setattr(archive, "_free", free.__getitem__)
    wanted = archive.Limits(1, 100 << 20, 1)
    assert archive.choose(wanted) == ("/run", wanted)
    free.update({"/run": 40 << 20, "/dev/shm": 30 << 20})
    folder, limits = archive.choose(wanted)
    assert (folder, limits.total_bytes) == ("/run", 20 << 20)
    free.update(dict.fromkeys(free, 1 << 20))
    with pytest.raises(archive.NoRoomError, match=r"Nothing was collected.*Cure"):
        archive.choose(wanted)


def test_leftovers_go_after_an_hour_and_nothing_else(tmp_path: Path) -> None:
    for name in ("integr8scode-diagnostics-old", "integr8scode-diagnostics-new", "other-old"):
        (tmp_path / name).mkdir()
    (tmp_path / "integr8scode-diagnostics-file").touch()
    (tmp_path / "integr8scode-diagnostics-link").symlink_to(tmp_path / "other-old")
    for path in tmp_path.iterdir():
        if not path.name.endswith("new"):
            os.utime(path, (1, 1), follow_symlinks=False)
    archive.sweep([str(tmp_path)])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "integr8scode-diagnostics-file", "integr8scode-diagnostics-link", "integr8scode-diagnostics-new", "other-old"
    ]  # fmt: skip


# -- sources


def test_only_whole_lines_are_taken() -> None:
    """Half a secret would be recognised by nobody."""
    assert whole_lines(b"cret\nwhole\nsec", begins_whole=False, ends_whole=False) == "whole\n"
    assert whole_lines(b"a\nb", begins_whole=True, ends_whole=True) == "a\nb"
    assert whole_lines(b"halfasecret", begins_whole=False, ends_whole=True) == ""


def test_a_program_is_bounded_in_size_and_time(quick: Callable[[], float]) -> None:
    told = command(["sh", "-c", "seq 1 100000"])(1000)
    assert told.cut
    assert told.text.endswith("99999\n100000\n")
    assert len(told.text) <= 1000
    hung = command(["sh", "-c", "echo first; printf half-a-secr; sleep 30"], timeout=0.5)(1000)
    assert (hung.text, hung.note) == ("first\n", "no end within 0.5 s")
    endless = command(["sh", "-c", "yes some text"], timeout=0.5)(1000)
    assert len(endless.text) <= 1000
    assert command(["no-such-program"])(10).note.startswith("no-such-program cannot be run")
    assert quick() < 10


def test_errors_of_a_program_are_part_of_what_it_says() -> None:
    assert command(["sh", "-c", "echo bad >&2; exit 3"])(100).text == "bad\n"


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("one\ntwo\nthree")
    assert file(path)(100) == Text("one\ntwo\nthree")
    assert file(path)(8) == Text("three", cut=True)
    assert file(path, grows=True)(100).text == "one\ntwo\n"
    assert file(tmp_path / "none")(10).note


def test_values_that_are_too_large_are_left_out() -> None:
    assert json.loads(value({"Env": ["X=geheim"]})(1000).text) == {"Env": ["X=***MASKED***"]}
    assert "left out" in value(["x" * 100])(50).note


def test_kubernetes_objects_come_without_what_repeats_their_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = {
        "metadata": {
            "name": "x", "managedFields": [1],
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "geheim", "keep": "1"},
        },
        "spec": {"containers": [{"env": [{"name": "PW", "value": "geheim"}]}]},
    }  # fmt: skip
    program = tmp_path / "k3s"
    program.write_text(f"#!/bin/sh\ncat <<'E'\n{json.dumps({'items': [item]})}\nE\n")
    program.chmod(0o755)
    monkeypatch.setitem(__import__("ansible.module_utils.diagnostics.sources", fromlist=["x"]).ENVIRONMENT, "PATH",
                        f"{tmp_path}:/bin:/usr/bin")  # fmt: skip
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    told = kubernetes("pods")(10000)
    assert "geheim" not in told.text
    assert json.loads(told.text)[0]["metadata"]["annotations"] == {"keep": "1"}
    program.write_text("#!/bin/sh\necho 'connection refused'; exit 1\n")
    refused = kubernetes("pods")(10000)
    assert "connection refused" in refused.text
    assert refused.note


def test_secrets_and_users_programs_are_never_asked_for() -> None:
    assert not {"secrets", "configmaps"} & set(KUBERNETES_KINDS)
    everything = " ".join(" ".join(argv) for argv in COMMANDS.values())
    assert "environ" not in everything
    # names of processes only: their arguments may hold anything
    assert COMMANDS["system/processes.txt"][2].endswith("comm")


def test_what_is_collected(tmp_path: Path) -> None:
    base = tmp_path / "opt/integr8scode"
    (base / "secrets/aa").mkdir(parents=True)
    (base / "secrets/aa/secrets.toml").write_text("x")
    (base / "kubeconfig").mkdir()
    (base / "kubeconfig/k8s-worker.yaml").write_text("x")
    (base / "history.jsonl").write_text("{}\n")
    docker = [{"Name": "/integr8scode-backend-1", "Id": "1f"}]
    places = {place for place, _ in contents(base, docker, hours=1, lines=10, root=tmp_path)}
    assert {
        "project/history.jsonl", "docker/inspect/integr8scode-backend-1.json", "logs/journal/k3s.log",
        "logs/containers/integr8scode-backend-1.log", "network/addresses.txt", "k3s/nodes.json",
            "docker/compose-ps.json",
    } <= places  # fmt: skip
    assert not [place for place in places if place.startswith(("project/secrets", "project/kubeconfig"))]


def test_without_docker_its_files_tell(tmp_path: Path) -> None:
    log = tmp_path / "var/lib/docker/containers/0123456789abcdef/0123456789abcdef-json.log"
    log.parent.mkdir(parents=True)
    log.write_text('{"log":"last words"}\n')
    places = {place for place, _ in contents(tmp_path / "base", None, hours=1, lines=10, root=tmp_path)}
    assert "logs/containers/0123456789ab.jsonl" in places
    assert not [place for place in places if place.startswith("docker/")]


# -- the module


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The module on a server with a few parts; where its archives go."""
    monkeypatch.setattr(os, "nice", lambda _: 0)
    monkeypatch.setattr(archive, "FOLDERS", (str(tmp_path),))
    monkeypatch.setattr(archive.write, "__kwdefaults__", {"folders": (str(tmp_path),)})
    monkeypatch.setattr(archive.choose, "__defaults__", ((str(tmp_path),),))
    inspected = [{"Name": "/x", "Id": "1", "Config": {"Env": [f"PW={CANARY}"]}}]
    monkeypatch.setattr(diagnostics_archive, "inspect_containers", lambda _: inspected)
    monkeypatch.setattr(diagnostics_archive, "collect", lambda base, more: set(more()))
    monkeypatch.setattr(
        diagnostics_archive, "examine_server", lambda parameters: {"host": parameters["host"], "x": CANARY}
    )
    monkeypatch.setattr(
        diagnostics_archive, "contents", lambda base, docker, **_: [("a.txt", text(f"{CANARY}\n")), ("b.txt", boom)]
    )
    return tmp_path


def test_the_module_brings_an_archive_without_secrets(quiet: Path, run_module: Any) -> None:
    answer = run_module("diagnostics_archive", {"host": "app1"})
    assert not answer["changed"]
    found = unpacked(Path(answer["path"]))
    assert json.loads(found["doctor.json"])["host"] == "app1"
    assert CANARY not in json.dumps(found) + json.dumps(answer)
    assert answer["missing"] == ["b.txt: RuntimeError: no ***MASKED***"]
    assert answer["parts"] == 2
    assert Path(answer["folder"]).parent == quiet


def test_a_check_collects_nothing(quiet: Path, run_module: Any) -> None:
    answer = run_module("diagnostics_archive", {"host": "app1"}, check=True)
    assert answer["path"] == ""
    assert list(quiet.iterdir()) == []


def test_secrets_that_cannot_be_read_end_it(quiet: Path, run_module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnostics_archive, "known_secrets", lambda *_: None)
    answer = run_module("diagnostics_archive", {"host": "app1"})
    assert answer["failed"]
    assert answer["msg"].startswith("Nothing was collected")
    assert list(quiet.iterdir()) == []


def test_a_dead_docker_is_told(quiet: Path, run_module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def dead(_: Any) -> Any:
        raise OSError("the Docker Engine does not answer")

    monkeypatch.setattr(diagnostics_archive, "inspect_containers", dead)
    answer = run_module("diagnostics_archive", {"host": "app1"})
    assert answer["missing"][0] == "docker: the Docker Engine does not answer"


def test_the_doctors_parameters_are_those_of_its_module() -> None:
    from ansible.modules import doctor

    documented = __import__("yaml").safe_load(doctor.DOCUMENTATION)["options"]
    assert set(diagnostics_archive.DOCTOR) | {"host"} == set(documented)
    for name, default in diagnostics_archive.DOCTOR.items():
        assert documented[name]["default"] == default, name


def test_archives_are_readable_by_tar(tmp_path: Path) -> None:
    masker = Masker([])
    path, _ = archive.write(
        [("ü.txt", text("ü\n"))], host="a", moment="b", masker=masker, limits=LIMITS, folders=[str(tmp_path)]
    )
    with tarfile.open(fileobj=io.BytesIO(path.read_bytes())) as tar:
        assert tar.getnames() == [f"a-diagnostics-b/{name}" for name in ("ü.txt", "manifest.json", "README.txt")]
