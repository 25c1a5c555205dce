"""The module release_switch and its action plugin: said before it is done, started as a unit, and followed."""

from __future__ import annotations

import functools
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleConnectionFailure
from ansible.module_utils.releases import cli, journal, lock
from ansible.module_utils.releases.job import Job, Outcome
from ansible.module_utils.releases.journal import Journal
from ansible.modules import release_switch
from ansible.plugins.action import release_switch as action

from tests.unit.conftest import RunModule
from tests.unit.releases.fake_server import INFRASTRUCTURE, WORKERS, FakeServer

SYSTEMD_RUN = """#!/bin/sh
printf '%s\\n' "$@" > {folder}/asked
{does}
"""


class Systemd:
    """A program named systemd-run on the PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def does(self, script: str) -> None:
        (self.folder / "systemd-run").write_text(SYSTEMD_RUN.format(folder=self.folder, does=script))
        (self.folder / "systemd-run").chmod(0o755)

    def shows(self, description: str) -> None:
        (self.folder / "systemctl").write_text(f"#!/bin/sh\necho '{description}'\n")
        (self.folder / "systemctl").chmod(0o755)

    @property
    def asked(self) -> list[str]:
        path = self.folder / "asked"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systemd:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    fake = Systemd(folder)
    fake.does("")
    return fake


@pytest.fixture
def ask(server: FakeServer, run_module: RunModule, systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(release_switch, "RUNS", server.runs)
    monkeypatch.setattr(release_switch, "time", server.clock)
    settings = {"workers": WORKERS, "infrastructure": INFRASTRUCTURE, "stable_seconds": None}

    def run(*, check: bool = False, diff: bool = False, **args: Any) -> dict[str, Any]:
        given = {"run": "r1", "base": str(server.base), "settings": settings, **args}
        return run_module("release_switch", given, check=check, diff=diff)

    return run


def locked(server: FakeServer, run: str = "r1") -> None:
    lock.take(server.base, lock.Owner(run=run), lease_seconds=1800, unit_active=lambda: False)


# -- started


def test_where_the_release_serves_nothing_is_started(server: FakeServer, ask: Any, systemd: Systemd) -> None:
    server.deployed("one")
    for check in (False, True):
        answer = ask(release="one", check=check)
        assert (answer["changed"], answer["done"], answer["result"], answer["release"]) == (
            False, True, "unchanged", "one",
        )  # fmt: skip
        assert answer["sentences"] == ["Release one serves already."]
    assert systemd.asked == []
    assert not (server.runs / "r1").exists()
    assert server.log == []


def test_where_nothing_is_to_be_done_the_lock_is_given_back_and_said_to_be(server: FakeServer, ask: Any) -> None:
    server.deployed("one")
    locked(server)
    assert ask(release="one", check=True)["given_back"] == ""
    assert lock.read_owner(server.base) is not None
    assert ask(release="one")["given_back"] == "r1"
    assert lock.read_owner(server.base) is None
    # and once more: ssh does a task again whose answer was lost
    assert ask(release="one")["given_back"] == "r1"


def test_of_a_lock_that_is_another_run_s_nothing_is_taken(server: FakeServer, ask: Any) -> None:
    server.deployed("one")
    locked(server, "r2")
    assert ask(release="one")["given_back"] == "r1"
    owner = lock.read_owner(server.base)
    assert owner is not None
    assert owner.run == "r2"


def test_a_lock_that_cannot_be_given_back_is_not_said_to_be(
    server: FakeServer, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> bool:
        raise OSError(28, "No space left on device")

    server.deployed("one")
    locked(server)
    monkeypatch.setattr(lock, "release", full)
    answer = ask(release="one")
    assert (answer["result"], answer["given_back"]) == ("unchanged", "")
    lock.owner_path(server.base).write_text("{")
    assert ask(release="one")["given_back"] == ""


def test_a_check_says_what_would_be_done_and_does_nothing(server: FakeServer, ask: Any, systemd: Systemd) -> None:
    server.passwords("a")
    server.deployed("one", grafana={})
    server.passwords("b")
    server.clock.pass_by(5)
    server.renew("tls/internal/frontend/server.crt")
    server.release("two", edge="another\n", metrics={})
    server.containers_now.remove(server.running("coordinator")[0])
    answer = ask(release="two", check=True, diff=True)
    assert (answer["changed"], answer["done"]) == (True, True)
    assert (
        answer["plan"]
        == answer["sentences"]
        == [
            "backend: a new container, beside the old one",
            "frontend: a new container, beside the old one",
            "coordinator: would be started",
            "k8s-worker: a new container",
            "pod-monitor: a new container",
            "result-processor: a new container",
            "metrics: would be started",
            "grafana: removed, the release does not have it",
            "edge: another configuration",
            "user-seed: sets the users' passwords",
            "frontend: loads newer files",
            "current: one -> two",
        ]
    )
    assert answer["diff"]["after"].startswith("backend: a new container, beside the old one\n")
    assert systemd.asked == []
    assert server.log == []
    assert not (server.runs / "r1").exists()
    assert not (server.base / "lock/owner.json").exists()


def test_a_check_on_a_new_server(server: FakeServer, ask: Any) -> None:
    server.release("one")
    plan = ask(release="one", check=True)["plan"]
    assert plan[0] == "mongo: would be started"
    assert plan[-1] == "current: none -> one"


def test_a_check_says_where_memory_is_short(server: FakeServer, ask: Any) -> None:
    server.deployed("one")
    server.release("two")
    server.free_mb = 10
    assert "backend: a new container, in its place, for want of memory" in ask(release="two", check=True)["plan"]


def test_a_check_says_that_what_is_unhealthy_is_replaced(server: FakeServer, ask: Any) -> None:
    server.deployed("one")
    server.running("backend")[0].sick = server.running("k8s-worker")[0].sick = True
    assert ask(release="one", check=True)["plan"] == [
        "backend: a new container, beside the old one, since what runs is unhealthy",
        "k8s-worker: a new container, since what runs is unhealthy",
    ]


def test_a_check_says_that_a_backend_with_an_older_certificate_is_replaced(server: FakeServer, ask: Any) -> None:
    server.deployed("one")
    server.clock.pass_by(5)
    server.renew("tls/internal/backend/server.crt")
    assert ask(release="one", check=True)["plan"] == [
        "backend: a new container, since its certificate is newer than what runs"
    ]


def test_a_switch_is_started_as_a_unit_with_its_job(server: FakeServer, ask: Any, systemd: Systemd) -> None:
    server.deployed("one")
    server.release("two")
    locked(server)
    answer = ask(release="two", by="ops@desk", controller="desk", started_at=12.5)
    assert (answer["changed"], answer["done"]) == (True, False)
    assert "current: one -> two" in answer["plan"]
    assert "--unit=integr8scode-switch.service" in systemd.asked
    assert "--collect" in systemd.asked
    assert systemd.asked[-3:] == ["/usr/local/sbin/integr8scode-release", "switch", "r1"]
    job = Job.from_dict(json.loads((server.runs / "r1/job.json").read_text()))
    assert (job.release, job.by, job.controller, job.started_at) == ("two", "ops@desk", "desk", 12.5)
    assert job.base == str(server.base)
    # what the role does not say is the program's own
    assert job.settings.stable_seconds == 60
    assert server.log == []


@pytest.mark.parametrize("broken", ["died", "away", "edge", "page"])
def test_a_release_that_runs_but_is_not_well_is_looked_at(
    server: FakeServer, ask: Any, systemd: Systemd, broken: str
) -> None:
    server.deployed("one")
    locked(server)
    if broken == "died":
        server.running("k8s-worker")[0].status = "exited"
    elif broken == "away":
        server.running("backend")[0].spec["healthy_after"] = None
    elif broken == "edge":
        for slot in server.edge.takes("frontend"):
            slot.drained = 1
    else:
        server.answers["/"] = 500
    answer = ask(release="one")
    assert (answer["changed"], answer["done"]) == (True, False), answer
    assert len(answer["plan"]) == 1
    assert systemd.asked[-1] == "r1"


def test_who_does_not_hold_the_lock_starts_nothing(server: FakeServer, ask: Any, systemd: Systemd) -> None:
    server.deployed("one")
    server.release("two")
    locked(server, "another")
    answer = ask(release="two")
    assert answer["failed"]
    assert answer["msg"].startswith("Nothing was changed by this step. Run r1 has lost its lock")
    assert systemd.asked == []


def test_a_unit_that_does_not_start_leaves_nothing(server: FakeServer, ask: Any, systemd: Systemd) -> None:
    server.deployed("one")
    server.release("two")
    locked(server)
    systemd.does("echo 'Unit is loaded already' >&2; exit 1")
    answer = ask(release="two")
    assert answer["failed"]
    assert "integr8scode-switch.service cannot be started: Unit is loaded already" in answer["msg"]
    assert not (server.runs / "r1").exists()


def begun_by_the_first_copy(server: FakeServer, ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task whose connection broke after the unit had begun."""
    server.deployed("one")
    server.release("two")
    locked(server)
    assert ask(release="two")["done"] is False
    lock.beat(server.base, "r1", phase=lock.SWITCHING)
    Journal(server.runs / "r1").say("trial", "started", "trying")
    monkeypatch.setattr(lock, "switch_active", lambda: True)


def test_a_task_that_ssh_does_again_goes_on_with_what_it_began(
    server: FakeServer, ask: Any, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun_by_the_first_copy(server, ask, monkeypatch)
    systemd.does("echo 'Unit is loaded already' >&2; exit 1")
    again = ask(release="two")
    assert (again.get("failed"), again["changed"], again["done"]) == (None, True, False)
    assert [line["text"] for line in ask(state="followed")["lines"]] == ["trying"]
    # the switch has ended and has given the lock back
    lock.release(server.base, "r1")
    monkeypatch.setattr(lock, "switch_active", lambda: False)
    journal.finish(server.runs / "r1", {"result": "rolled_back", "release": "one", "sentences": ["Said."]})
    assert ask(release="two")["done"] is False
    answer = ask(state="followed")
    assert (answer["done"], answer["result"], len(answer["lines"])) == (True, "rolled_back", 1)


def test_a_check_asks_for_no_switch_that_was_begun(
    server: FakeServer, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun_by_the_first_copy(server, ask, monkeypatch)
    assert ask(release="two", check=True)["plan"]


def test_the_same_run_may_switch_once_more_with_the_lock_taken_again(
    server: FakeServer, ask: Any, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun_by_the_first_copy(server, ask, monkeypatch)
    monkeypatch.setattr(lock, "switch_active", lambda: False)
    journal.finish(server.runs / "r1", {"result": "rolled_back"})
    lock.release(server.base, "r1")
    locked(server)
    (systemd.folder / "asked").unlink()
    assert ask(release="two")["plan"]
    assert systemd.asked[-1] == "r1"
    assert not (server.runs / "r1/result.json").exists()


def test_of_two_copies_of_a_task_the_slower_one_takes_nothing_away(
    server: FakeServer, ask: Any, systemd: Systemd
) -> None:
    server.deployed("one")
    server.release("two")
    locked(server)
    systemd.does("echo 'Unit is loaded already' >&2; exit 1")
    systemd.shows("Integr8sCode: switch of releases, run r1")
    answer = ask(release="two")
    assert (answer.get("failed"), answer["done"]) == (None, False)
    assert (server.runs / "r1/job.json").exists()
    # another run's, which somebody's force has left without its lock
    systemd.shows("Integr8sCode: switch of releases, run r11")
    (server.runs / "r1/job.json").unlink()
    assert "Unit is loaded already" in ask(release="two")["msg"]
    assert not (server.runs / "r1").exists()


def test_a_systemd_that_does_not_answer_is_told(server: FakeServer, ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server.deployed("one")
    server.release("two")
    locked(server)

    def slow(*_: Any, **how: Any) -> None:
        raise subprocess.TimeoutExpired("systemd-run", how["timeout"])

    monkeypatch.setattr(
        release_switch, "subprocess", SimpleNamespace(run=slow, TimeoutExpired=subprocess.TimeoutExpired)
    )
    answer = ask(release="two")
    assert "systemd has not answered for 60 s" in answer["msg"]
    # the unit may still be started: it finds its job, and nobody says that nothing was changed
    assert (server.runs / "r1/job.json").exists()
    assert answer["changed"]
    assert answer["msg"].startswith("Whether the switch has begun is not known")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"release": "nix"}, "release nix is not complete on this server"),
        ({"release": "one", "settings": {"speed": 1}}, "a switch knows no speed"),
    ],
)
def test_what_cannot_be_is_refused(server: FakeServer, ask: Any, args: dict[str, Any], said: str) -> None:
    server.deployed("one")
    answer = ask(**args)
    assert answer["failed"]
    assert said in answer["msg"]


def test_a_current_that_is_no_link_is_refused_in_a_check_too(server: FakeServer, ask: Any, systemd: Systemd) -> None:
    server.release("one")
    (server.base / "current").mkdir()
    for check in (True, False):
        answer = ask(release="one", check=check)
        assert answer["failed"]
        assert answer["msg"].startswith(f"Nothing was changed by this step. {server.base}/current is no link")
    assert systemd.asked == []


def test_an_engine_that_is_away_is_told(server: FakeServer, ask: Any) -> None:
    server.deployed("one")
    server.engine_back_at = 2**40
    answer = ask(release="one")
    assert answer["failed"]
    assert "has been away for 90 s" in answer["msg"]


# -- followed


@pytest.fixture
def run_folder(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(lock, "switch_active", lambda: True)
    return journal.prepare(server.runs, "r1", {})


def test_news_of_two_seconds_comes_together(server: FakeServer, ask: Any, run_folder: Path) -> None:
    Journal(run_folder).say("trial", "started", "trying")
    began = server.clock.monotonic()

    def more(_: str) -> None:
        if server.clock.monotonic() - began > 1:
            server.before_call = None
            with (run_folder / "progress.jsonl").open("a") as file:
                file.write(json.dumps({"text": "tried"}) + "\n")

    server.before_call = more
    answer = ask(state="followed")
    assert [line["text"] for line in answer["lines"]] == ["trying", "tried"]
    assert 2 <= server.clock.monotonic() - began < 3


def test_no_news_is_waited_for(server: FakeServer, ask: Any, run_folder: Path) -> None:
    Journal(run_folder).say("trial", "started", "trying")
    answer = ask(state="followed")
    assert (answer["done"], answer["changed"], [line["text"] for line in answer["lines"]]) == (False, False, ["trying"])
    began = server.clock.monotonic()
    again = ask(state="followed", after=answer["after"], wait_seconds=7)
    assert (again["done"], again["lines"], again["after"]) == (False, [], answer["after"])
    assert 7 <= server.clock.monotonic() - began < 9


@pytest.mark.parametrize(("result", "changed"), [("ok", True), ("rolled_back", True), ("refused", False)])
def test_the_end_comes_with_what_was_said_last(
    server: FakeServer, ask: Any, run_folder: Path, result: str, changed: bool
) -> None:
    Journal(run_folder).say("unlock", "done")
    journal.finish(run_folder, {"result": result, "release": "two", "sentences": ["Said."], "cause": "", "lost": []})
    answer = ask(state="followed")
    assert (answer["done"], answer["changed"], answer["result"]) == (True, changed, result)
    assert (answer["release"], answer["sentences"], len(answer["lines"])) == ("two", ["Said."], 1)


@pytest.mark.parametrize(("result", "said"), [("ok", "r1"), ("rolled_back", None), ("refused", None), ("failed", None)])
def test_a_good_end_says_that_the_lock_is_given_back(
    server: FakeServer, ask: Any, run_folder: Path, result: str, said: str | None
) -> None:
    journal.finish(run_folder, {"result": result, "release": "two", "sentences": ["Said."], "cause": "", "lost": []})
    assert ask(state="followed").get("given_back") == said
    locked(server)
    assert not ask(state="followed").get("given_back")


def test_a_unit_that_was_killed_is_told(
    server: FakeServer, ask: Any, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Journal(run_folder).say("backend", "started")
    monkeypatch.setattr(lock, "switch_active", lambda: False)
    answer = ask(state="followed")
    assert (answer["done"], answer["changed"], answer["result"], len(answer["lines"])) == (True, True, "failed", 1)
    assert "ended without a word" in answer["sentences"][0]
    assert "Run the same command again" in answer["sentences"][1]


# -- the program


@pytest.fixture
def program(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    job = Job("r1", "deploy", "one", 1.0, base=str(server.base))
    monkeypatch.setattr(cli, "RUNS", server.runs)
    return journal.prepare(server.runs, "r1", job.to_dict())


@pytest.mark.parametrize(("result", "code"), [("ok", 0), ("rolled_back", 1)])
def test_the_program_writes_how_it_ended(
    server: FakeServer, program: Path, monkeypatch: pytest.MonkeyPatch, result: str, code: int,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(cli.Switch, "run", lambda _: Outcome(result, "one", sentences=["Said."]))
    assert cli.switch("r1", server.runs) == code
    assert json.loads((program / "result.json").read_text())["result"] == result
    assert capsys.readouterr().out == "Said.\n"


def test_a_job_that_cannot_be_read_is_told(
    server: FakeServer, program: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (program / "job.json").write_text('{"run": "r1", "speed": 1}')
    assert cli.switch("r1", server.runs) == 2
    assert cli.switch("r2", server.runs) == 2
    said = capsys.readouterr().err
    assert "the job of run r1 cannot be read: a switch knows no speed" in said
    assert "the job of run r2 cannot be read" in said


def test_a_result_that_cannot_be_written_gives_the_lock_back(
    server: FakeServer, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked(server)

    def full(*_: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(cli.Switch, "run", lambda _: Outcome("ok", "one"))
    monkeypatch.setattr(journal, "finish", full)
    assert cli.switch("r1", server.runs) == 1
    assert lock.read_owner(server.base) is None


def test_the_program_takes_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(cli, "switch", lambda run: asked.append(run) or 0)
    assert cli.main(["switch", "r7"]) == 0
    assert asked == ["r7"]
    with pytest.raises(SystemExit) as ended:
        cli.main(["start", "r7"])
    assert ended.value.code == 2


def test_the_program_says_what_the_locale_has_no_character_for(
    server: FakeServer, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(said, encoding="ascii"))
    monkeypatch.setattr(cli.Switch, "run", lambda _: Outcome("ok", "one", sentences=["Serves 🚀."]))
    monkeypatch.setattr(cli, "switch", functools.partial(cli.switch, runs=server.runs))
    assert cli.main(["switch", "r1"]) == 0
    assert said.getvalue() == b"Serves ?.\n"


# -- the action plugin


class Asked:
    """The action with a server that answers as it is told; an exception is a connection that breaks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: dict[str, Any] | Exception, **more: Any) -> None:
        self.calls: list[dict[str, Any]] = []
        self.shown: list[str] = []
        self.resets = 0
        self.now, self.seconds = 0.0, 0.0
        self._answers = iter(answers)
        self.plugin = action.ActionModule.__new__(action.ActionModule)
        self.plugin._task = SimpleNamespace(args={"run": "r1", "release": "two", **more}, async_val=0, check_mode=False)
        self.plugin._execute_module = self._execute
        self.plugin._display = SimpleNamespace(display=self.shown.append)
        self.plugin._connection = SimpleNamespace(reset=self._reset)
        monkeypatch.setattr(action.ActionBase, "run", lambda *_: {})
        monkeypatch.setattr(action, "time", SimpleNamespace(monotonic=lambda: self.now, sleep=self._sleep))

    def _sleep(self, seconds: float) -> None:
        self.now += seconds

    def _reset(self) -> None:
        self.resets += 1

    def _execute(self, *, module_name: str, module_args: dict[str, Any], task_vars: Any) -> dict[str, Any]:
        assert (module_name, module_args["run"]) == ("release_switch", "r1")
        assert task_vars == {"inventory_hostname": "app1"}
        self.calls.append(module_args)
        answer = next(self._answers)
        if module_args["state"] == "followed":
            self.now += self.seconds
        if isinstance(answer, Exception):
            raise answer
        return answer

    def run(self) -> dict[str, Any]:
        return dict(self.plugin.run(None, {"inventory_hostname": "app1"}))


STARTED = {"changed": True, "done": False, "plan": ["backend: a new container"], "diff": {"after": "x"}}
LINE = {"seconds": 1.5, "step": "backend", "state": "started", "text": "a new backend"}
ENDED = {"changed": True, "done": True, "lines": [], "result": "ok", "release": "two", "sentences": ["Serves."]}


def test_a_switch_is_followed_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    done = {**LINE, "state": "done", "text": "6.1 s"}
    asked = Asked(monkeypatch, STARTED, {"done": False, "lines": [LINE], "after": 70}, {**ENDED, "lines": [done]})
    answer = asked.run()
    assert answer == {
        "changed": True, "result": "ok", "release": "two", "sentences": ["Serves."], "plan": STARTED["plan"],
        "diff": {"after": "x"},
    }  # fmt: skip
    assert [(call["state"], call.get("after")) for call in asked.calls] == [
        ("started", None), ("followed", 0), ("followed", 70),
    ]  # fmt: skip
    assert asked.shown == [
        "  app1 works by itself from here on: Ctrl-C does not stop the switch; playbooks/status.yml says what runs.",
        "  app1    1.5 s  backend          a new backend",
        "  app1    1.5 s  backend          done, 6.1 s",
    ]


@pytest.mark.parametrize(
    "answer", [{"failed": True, "msg": "no"}, {"done": True, "changed": False}, {"unreachable": True, "msg": "gone"}]
)
def test_what_ends_at_once_is_handed_on(monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any]) -> None:
    asked = Asked(monkeypatch, answer)
    assert asked.run() == answer
    assert asked.shown == []


def test_a_lost_connection_is_made_again_and_nothing_is_said_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(
        monkeypatch, STARTED, {"done": False, "lines": [LINE], "after": 70}, AnsibleConnectionFailure("broken pipe"),
        {"unreachable": True, "msg": "no route"}, {"done": False, "lines": [], "after": 70}, ENDED,
    )  # fmt: skip
    assert asked.run()["result"] == "ok"
    assert asked.resets == 2
    assert [call.get("after") for call in asked.calls[2:]] == [70, 70, 70, 70]
    assert len(asked.shown) == 2


def test_a_server_that_stays_away_is_told_and_where_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch, STARTED, *[AnsibleConnectionFailure("no route to host")] * 500)
    answer = asked.run()
    assert answer["failed"]
    assert answer["changed"]
    assert answer["msg"].startswith("app1 has been out of reach for 600 s: no route to host. A switch that was")
    assert "journalctl -u integr8scode-switch" in answer["msg"]
    assert 600 < asked.now < 610


def test_a_connection_that_breaks_at_the_start_is_a_failure_which_a_rescue_sees(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = Asked(monkeypatch, AnsibleConnectionFailure("broken pipe")).run()
    assert (answer["failed"], answer["changed"], answer.get("unreachable")) == (True, True, None)
    assert answer["msg"].startswith("app1 has been out of reach while the switch was being started: broken pipe.")


def test_a_task_hands_back_after_its_time_and_another_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    news = [{"done": False, "lines": [LINE], "after": number} for number in (70, 140, 210)]
    asked = Asked(monkeypatch, STARTED, *news, follow_seconds=40)
    asked.seconds = 15
    assert asked.run() == {
        "changed": True, "done": False, "after": 210, "plan": STARTED["plan"], "diff": {"after": "x"},
    }  # fmt: skip
    asked = Asked(monkeypatch, {"done": False, "lines": [], "after": 210}, ENDED, state="followed", after=210)
    answer = asked.run()
    # the first task has said it
    assert asked.shown == []
    assert (answer["result"], answer.get("failed")) == ("ok", None)
    assert [(call["state"], call["after"]) for call in asked.calls] == [("followed", 210)] * 2


def test_a_server_out_of_reach_is_given_up_however_short_the_time_is(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch, STARTED, *[AnsibleConnectionFailure("no route to host")] * 500, follow_seconds=100)
    assert asked.run()["msg"].startswith("app1 has been out of reach for 600 s")


@pytest.mark.parametrize("result", ["rolled_back", "removed", "refused", "failed"])
def test_an_end_that_is_not_what_was_asked_for_fails_with_the_sentences(
    monkeypatch: pytest.MonkeyPatch, result: str
) -> None:
    ended = {**ENDED, "result": result, "sentences": ["Deploy failed: why.", "Release one serves."]}
    answer = Asked(monkeypatch, STARTED, ended).run()
    assert answer["failed"]
    assert answer["msg"] == "Deploy failed: why.\nRelease one serves."
    assert answer["result"] == result


def test_a_module_that_fails_while_it_follows_has_changed_something(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = Asked(monkeypatch, STARTED, {"failed": True, "msg": "no python"}).run()
    assert (answer["failed"], answer["changed"], answer["msg"]) == (True, True, "no python")


@pytest.mark.parametrize("check", [True, False])
def test_what_the_server_has_no_place_for_is_refused_before_anything_is_started(
    server: FakeServer, ask: Any, systemd: Systemd, check: bool
) -> None:
    server.deployed("one")
    server.networks_now = {"integr8scode": {"Subnet": "172.31.209.0/24"}}
    server.release("two", environment={"STACK_SUBNET": "10.9.0.0/24"})
    answer = ask(release="two", action="rollback", check=check)
    assert answer["failed"]
    assert answer["msg"].startswith("Nothing was changed by this step. release two has STACK_SUBNET 10.9.0.0/24")
    assert systemd.asked == []
