"""Which engine the lab uses, and that it never ends a process that is not its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import engine
from lab.settings import LabError, Settings


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    made = Settings(tmp_path / "lab")
    own = engine.Own(made.engine / "data", made.engine / "dockerd.log", tmp_path / "run")
    own.runtime.mkdir()
    monkeypatch.setattr(engine.Own, "of", classmethod(lambda _, __: own))
    return made


def answering(monkeypatch: pytest.MonkeyPatch, *urls: str) -> list[str]:
    asked: list[str] = []

    def answers(url: str) -> bool:
        asked.append(url)
        return url in urls

    monkeypatch.setattr(engine, "answers", answers)
    monkeypatch.setattr(engine, "_context_url", lambda: "unix:///var/run/docker.sock")
    return asked


def test_paths_of_an_engine_of_the_labs_own() -> None:
    own = engine.Own.of(Settings(Path("/home/x/.cache/integr8scode-lab")))
    assert own.url == "unix:///run/integr8scode-lab/docker.sock"
    assert own.command("docker") == [
        "dockerd",
        "--data-root",
        "/home/x/.cache/integr8scode-lab/engine/data",
        "--exec-root",
        "/run/integr8scode-lab/exec",
        "-H",
        "unix:///run/integr8scode-lab/docker.sock",
        "-p",
        "/run/integr8scode-lab/docker.pid",
        "-G",
        "docker",
    ]


def test_the_labs_own_comes_before_the_machines(lab: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    own = engine.Own.of(lab).url
    answering(monkeypatch, own, "unix:///var/run/docker.sock")
    assert engine.find(lab) == own


def test_the_machines_is_used_where_the_lab_has_none(lab: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, "unix:///var/run/docker.sock")
    assert engine.find(lab) == "unix:///var/run/docker.sock"


def test_none_answers(lab: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch)
    assert engine.find(lab) == ""


def test_a_named_engine_that_does_not_answer_is_an_error_not_a_reason_to_use_another(lab: Settings) -> None:
    named = Settings(lab.home, docker_host="unix:///no/such/docker.sock")
    with pytest.raises(LabError, match=r"/no/such/docker\.sock"):
        engine.find(named)


@pytest.fixture
def somebodys_process() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def test_a_pid_file_that_names_another_program_is_not_believed(
    lab: Settings, somebodys_process: subprocess.Popen[bytes]
) -> None:
    engine.Own.of(lab).pid_file.write_text(str(somebodys_process.pid))
    assert engine.own_pid(lab) == 0
    assert engine.stop(lab) == "no engine of the lab's own was running"
    assert somebodys_process.poll() is None


@pytest.mark.parametrize(("data", "ours"), [("lab/engine/data", True), ("other/data", False)])
def test_only_a_dockerd_with_this_labs_data_is_ours(lab: Settings, tmp_path: Path, data: str, ours: bool) -> None:
    command = ["dockerd", "60", "--data-root", str(tmp_path / data)]
    script = "import sys, time; print('up', flush=True); time.sleep(60)"
    process = subprocess.Popen(
        [command[0], "-c", script, *command[1:]], executable=sys.executable, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout
        process.stdout.readline()
        engine.Own.of(lab).pid_file.write_text(f"{process.pid}\n")
        assert engine.own_pid(lab) == (process.pid if ours else 0)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("text", ["", "not a number", "4194305"])
def test_a_broken_or_old_pid_file_means_no_engine(lab: Settings, text: str) -> None:
    engine.Own.of(lab).pid_file.write_text(text)
    assert engine.own_pid(lab) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="the command is another for a user who is not root")
def test_a_dockerd_that_does_not_come_up_shows_its_last_words(
    lab: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("dockerd", "containerd", "iptables", "ip"):
        (programs / name).write_text("#!/bin/sh\necho 'failed to mount overlay: operation not permitted' >&2\nexit 1\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    with pytest.raises(LabError, match="failed to mount overlay"):
        engine.start(lab)
