"""Compose by its command line, with a program named docker on the PATH that writes down what it is asked."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.releases.compose import (
    Compose,
    ComposeError,
    EngineLostError,
    arguments_before,
    docker,
    environment,
)
from ansible.module_utils.releases.layout import Release

DOCKER = """#!/bin/sh
printf '%s\\n' "$@" > {folder}/asked
env > {folder}/environment
cat > {folder}/stdin
{does}
"""


class FakeDocker:
    """The program; `does` is what it does after it has written down what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def does(self, script: str) -> None:
        program = self.folder / "bin/docker"
        program.parent.mkdir(exist_ok=True)
        program.write_text(DOCKER.format(folder=self.folder, does=script))
        program.chmod(0o755)

    @property
    def asked(self) -> list[str]:
        return (self.folder / "asked").read_text().splitlines()


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return FakeDocker(tmp_path)


@pytest.fixture
def compose(tmp_path: Path) -> Compose:
    return Compose(Release(tmp_path / "releases/one", {}))


def test_hashes_of_the_services(program: FakeDocker, compose: Compose, tmp_path: Path) -> None:
    program.does("printf 'backend abc\\nk8s-worker def\\n\\n'")
    assert compose.hashes() == {"backend": "abc", "k8s-worker": "def"}
    head = ["compose", "--ansi", "never", "--project-directory", str(tmp_path / "releases/one")]
    assert program.asked == [*head, "config", "--hash", "*"]


def test_nothing_is_pulled_or_built_when_services_are_started(program: FakeDocker, compose: Compose) -> None:
    program.does("")
    compose.up(["backend"], "--no-recreate", "--scale", "backend=2")
    asked = program.asked[5:]
    assert (asked[0], asked[-4:]) == ("up", ["--no-recreate", "--scale", "backend=2", "backend"])
    assert "--no-build" in asked
    assert asked[asked.index("--pull") + 1] == "never"
    assert "--detach" in asked


def test_a_throw_away_container_goes_again(program: FakeDocker, compose: Compose) -> None:
    program.does("echo fine")
    assert compose.run("backend", "--volume", "/a:/b:ro", "--", "python", "-c", "1") == "fine\n"
    assert program.asked[5:] == [
        "run", "--rm", "--no-deps", "--no-TTY", "--volume", "/a:/b:ro", "backend", "python", "-c", "1",
    ]  # fmt: skip
    compose.down()
    assert program.asked[5:] == ["down", "--remove-orphans"]


def test_where_the_service_goes() -> None:
    assert arguments_before("x", ["a"]) == ["x", "a"]
    assert arguments_before("x", ["--flag", "--", "a", "--", "b"]) == ["--flag", "x", "a", "--", "b"]


def test_the_environment_of_the_caller_changes_no_release(
    program: FakeDocker, compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("IMAGE_TAG", "COMPOSE_FILE", "COMPOSE_PROFILES", "COMPOSE_PROJECT_NAME", "SECRET"):
        monkeypatch.setenv(name, "evil")
    monkeypatch.setenv("DOCKER_HOST", "unix:///x")
    program.does("")
    compose.down()
    text = (program.folder / "environment").read_text()
    assert "evil" not in text
    assert "DOCKER_HOST=unix:///x" in text
    assert set(environment()) >= {"PATH", "HOME"}


def test_nobody_is_asked_anything(program: FakeDocker, compose: Compose) -> None:
    program.does("")
    compose.down()
    assert (program.folder / "stdin").read_text() == ""


def test_a_failure_shows_the_last_lines_and_which_command_it_was(program: FakeDocker, compose: Compose) -> None:
    program.does("seq 1 40 >&2; exit 17")
    with pytest.raises(ComposeError, match="`docker compose up` failed with exit code 17: 29\n") as told:
        compose.up(["backend"])
    assert str(told.value).endswith("\n40")
    assert not isinstance(told.value, EngineLostError)


RLIMIT = (
    "Error response from daemon: failed to create task for container: failed to create shim task: OCI runtime create "
    "failed: runc create failed: unable to start container process: error during container init: error setting rlimit "
    "type 7: operation not permitted: unknown"
)
PROGRESS = """ Network integr8scode  Creating
 Network integr8scode  Created
 Volume "integr8scode_mongo"  Created
 Container integr8scode-mongo-1  Running
 Container integr8scode-kafka-1  Creating
 Container integr8scode-kafka-1  Recreate
 Container integr8scode-kafka-1 Starting 0.3s
 Container integr8scode-kafka-1  Waiting
 Container integr8scode-mongo-1  Healthy
 Container integr8scode-mongo-1  Error
"""


def says(program: FakeDocker, text: str) -> None:
    (program.folder / "said").write_text(text)
    program.does(f"cat {program.folder}/said >&2; exit 1")


def test_the_error_stands_before_progress_and_warnings(program: FakeDocker, compose: Compose) -> None:
    says(program, f'time="2026-02-20" level=warning msg="a variable"\n{PROGRESS}{PROGRESS}no such image: x\n')
    with pytest.raises(ComposeError) as told:
        compose.up(["kafka"])
    assert str(told.value).splitlines() == [
        "`docker compose up` failed with exit code 1: no such image: x",
        'time="2026-02-20" level=warning msg="a variable"',
    ]


@pytest.mark.parametrize(
    "said",
    ["Container integr8scode-kafka-1 Error response from daemon: no", "container integr8scode-mongo-1 exited (1)"],
)
def test_an_error_that_begins_like_progress_is_none(program: FakeDocker, compose: Compose, said: str) -> None:
    says(program, f"{PROGRESS}{said}\n")
    with pytest.raises(ComposeError) as told:
        compose.up(["kafka"])
    assert told.value.said == said


def test_progress_is_shown_where_nothing_else_was_said(program: FakeDocker, compose: Compose) -> None:
    says(program, " Container integr8scode-kafka-1  Creating\n")
    with pytest.raises(ComposeError, match="Container integr8scode-kafka-1  Creating"):
        compose.up(["kafka"])


def test_more_open_files_than_the_server_allows_have_a_cure(program: FakeDocker, compose: Compose) -> None:
    says(program, f"{PROGRESS}{RLIMIT}\n")
    with pytest.raises(ComposeError) as told:
        compose.up(["kafka"])
    first, cure = str(told.value).splitlines()
    assert first.endswith(RLIMIT)
    assert "integr8scode_nofile_limit" in cure


def test_what_is_said_on_the_other_channel_counts_when_nothing_else_is(program: FakeDocker, compose: Compose) -> None:
    program.does("echo said; exit 1")
    with pytest.raises(ComposeError, match="exit code 1: said"):
        compose.down()


@pytest.mark.parametrize(
    "said",
    [
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
        "error during connect: this error may indicate that the docker daemon is not running",
        "unexpected EOF",
    ],
)
def test_an_engine_that_went_away_is_told_apart(program: FakeDocker, compose: Compose, said: str) -> None:
    program.does(f"echo '{said}' >&2; exit 1")
    with pytest.raises(EngineLostError):
        compose.up(["backend"])


def test_a_call_that_takes_too_long_is_ended_with_its_children(program: FakeDocker, compose: Compose) -> None:
    program.does(f"sh -c 'sleep 3; touch {program.folder}/late' & wait")
    began = time.monotonic()
    with pytest.raises(ComposeError, match="`docker compose up` did not end within 1 s"):
        compose.call("up", timeout=1)
    assert time.monotonic() - began < 2.5
    time.sleep(2.5)
    assert not (program.folder / "late").exists()


def test_a_server_without_docker_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ComposeError, match=r"docker cannot be run: .* Cure: playbooks/site.yml, role docker"):
        docker("ps")


def test_what_is_no_text_is_no_error(program: FakeDocker) -> None:
    program.does("printf '\\377'")
    assert docker("ps") == "�"


def test_a_release_says_what_is_in_its_environment(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text('HTTPS_PORT="8443"\nFRONTEND_PORT=5002\nOTHER_HTTPS_PORT=1\n')
    record: dict[str, Any] = json.loads('{"tag": "2026.2.20", "images": {"backend": "x"}}')
    release = Release(tmp_path, record)
    assert (release.number("HTTPS_PORT", 443), release.number("FRONTEND_PORT", 5001)) == (8443, 5002)
    assert release.number("PORT", 9) == 9
    assert (release.id, release.tag, release.images) == (tmp_path.name, "2026.2.20", {"backend": "x"})
