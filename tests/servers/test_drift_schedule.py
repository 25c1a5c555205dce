"""A timer on a control host: it runs by itself, notices a change, tells it once, and tells when it is cured."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest

from tests.servers.conftest import connect, run

UNIT = "integr8scode-drift.service"
TIMER = "integr8scode-drift.timer"
HOME = "/var/lib/integr8scode-drift"
SECRET = "lab-webhook-not-a-secret"
PLAYBOOK = "playbooks/drift-schedule.yml"
STRANGER = "/etc/sudoers.d/zz-stranger"
# answers 200 to all, and keeps each body as a line; 503 while /tmp/refuse is there
RECEIVER = """\
import http.server, os, pathlib
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        refused = os.path.exists("/tmp/refuse")
        if not refused:
            with pathlib.Path("/srv/received").open("ab") as file:
                file.write(body.replace(b"\\n", b" ") + b"\\n")
        self.send_response(404 if refused else 200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", 8099), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def control(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The control host, root, with a receiver of notifications; its timer is off unless a test starts it."""
    inventory = request.config.getoption("--inventory")
    wanted = "{{ {'ansible_host': ansible_host, 'ansible_port': ansible_port, 'ansible_user': ansible_user,"
    wanted += " 'ansible_ssh_private_key_file': ansible_ssh_private_key_file,"
    wanted += " 'ansible_ssh_common_args': ansible_ssh_common_args} }}"
    answer = run(
        *("ansible", "control", "-i", inventory, "-m", "ansible.builtin.debug", "-a", f"msg={wanted}"),
        ANSIBLE_STDOUT_CALLBACK="ansible.posix.json",
        ANSIBLE_LOAD_CALLBACK_PLUGINS="1",
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    (found,) = json.loads(answer.stdout)["plays"][0]["tasks"][0]["hosts"].items()
    machine = connect(found[0], found[1]["msg"], tmp_path_factory.mktemp("ssh") / "config")
    machine.backend.sudo = False
    machine.check_output(f"cat > /srv/receiver.py <<'END'\n{RECEIVER}END")
    machine.run("systemctl stop receiver.service")
    machine.check_output("rm -f /srv/received /tmp/refuse; systemctl reset-failed")
    machine.check_output("systemd-run --quiet --unit=receiver python3 /srv/receiver.py")
    machine.check_output(f"systemctl stop {TIMER}")
    return machine


def received(control: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in control.run("cat /srv/received").stdout.splitlines()]


def look(control: Any) -> int:
    """Have the servers compared now, as the timer does. Returns ansible-playbook's exit code."""
    control.run(f"systemctl start {UNIT}")
    return int(control.check_output(f"systemctl show --property=ExecMainStatus --value {UNIT}"))


def journal(control: Any) -> str:
    text: str = control.check_output(f"journalctl --unit {UNIT} --no-pager")
    return text


def report(control: Any) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(control.check_output(f"cat {HOME}/reports/drift.json"))
    return parsed


def kinds(notification: dict[str, Any], item: str) -> list[str]:
    return [one["kind"] for one in notification["changes"] if one["finding"] and one["finding"]["item"] == item]


def test_the_timer_runs_by_itself_and_tells_what_it_finds(control: Any) -> None:
    control.check_output(f"systemctl start {TIMER}")
    until = time.monotonic() + 240
    while not received(control):
        assert time.monotonic() < until, journal(control)
        time.sleep(5)
    control.check_output(f"systemctl stop {TIMER}")
    while control.run(f"systemctl is-active {UNIT}").stdout.strip() == "activating":
        time.sleep(1)
    (first,) = received(control)
    assert first["text"].startswith("Drift: ")
    # it was looked at: a server with no release is not what was deployed, but it is reached
    (server,) = report(control)["hosts"]
    assert (server["name"], server["status"]) == ("watched1", "drift"), journal(control)


def test_a_change_is_told_once_even_if_not_at_first_and_again_when_it_is_cured(host: Any, control: Any) -> None:
    """What stays beside it is told no more: each notification holds this one change alone."""
    before = len(received(control))
    host.check_output(f"echo 'nobody ALL=(ALL) ALL' > {STRANGER} && chmod 0440 {STRANGER}")
    control.check_output("touch /tmp/refuse")
    try:
        assert look(control) == 2
        assert "The notification was not taken" in journal(control)
        assert "integr8scode_drift_notification_success 0" in control.check_output("cat /srv/metrics/drift.prom")
        control.check_output("rm /tmp/refuse")
        look(control)
        look(control)
    finally:
        control.run("rm -f /tmp/refuse")
        host.check_output(f"rm -f {STRANGER}")
    look(control)
    told = received(control)[before:]
    assert [kinds(one, STRANGER) for one in told] == [["new"], ["gone"]]
    assert [len(one["changes"]) for one in told] == [1, 1]


def test_a_server_that_is_away_is_told(host: Any, control: Any) -> None:
    before = len(received(control))
    address = control.check_output("getent ahostsv4 watched1").split()[0]
    control.check_output(f"ip route add blackhole {address}")
    try:
        assert look(control) in (2, 4)
    finally:
        control.check_output(f"ip route del blackhole {address}")
    look(control)
    away, back = received(control)[before:]
    assert [one["kind"] for one in away["changes"]] == ["unreachable"]
    assert "answers" in [one["kind"] for one in back["changes"]]


def test_no_secret_is_told_anywhere(control: Any) -> None:
    places = f"{HOME} /etc/systemd/system/{UNIT} /etc/integr8scode-drift/variables.json /srv/received /srv/metrics"
    assert control.run(f"grep -rl {SECRET} {places}").stdout == ""
    assert SECRET not in journal(control)


def test_who_may_read_what(control: Any) -> None:
    user = "integr8scode-drift"
    wanted = {
        "/etc/integr8scode-drift/credentials": ("root", "root", 0o700),
        "/etc/integr8scode-drift/credentials/webhook-url": ("root", "root", 0o400),
        "/etc/integr8scode-drift/variables.json": ("root", user, 0o640),
        "/opt/integr8scode-drift": ("root", user, 0o750),
        f"{HOME}/.ssh/id_ed25519": (user, user, 0o600),
        f"{HOME}/reports": (user, user, 0o700),
        f"{HOME}/reports/drift.json": (user, user, 0o600),
        f"{HOME}/page/index.html": (user, user, 0o640),
        "/srv/metrics/drift.prom": (user, user, 0o644),
    }
    for path, expected in wanted.items():
        file = control.file(path)
        assert (file.user, file.group, file.mode) == expected, path
    page = control.file(f"{HOME}/page/index.html").content_string
    assert "<!DOCTYPE html>" in page
    assert "watched1" in page


def test_the_user_can_do_nothing_else(control: Any) -> None:
    assert control.user("integr8scode-drift").shell == "/usr/sbin/nologin"
    assert control.run("su -s /bin/sh integr8scode-drift -c 'cat /etc/integr8scode-drift/credentials/webhook-url'").rc
    assert control.run("su -s /bin/sh integr8scode-drift -c 'sudo -n true'").rc


def test_a_key_that_the_server_does_not_have_is_not_talked_to(control: Any) -> None:
    """Somebody else at the server's address gets no login: known_hosts counts."""
    known = "/etc/integr8scode-drift/known_hosts"
    control.check_output(f"cp -p {known} {known}.kept && ssh-keygen -q -t ed25519 -N '' -f /tmp/other")
    control.check_output(f'sh -c \'echo "watched1 $(cut -d" " -f1,2 /tmp/other.pub)" > {known}\'')
    try:
        look(control)
        (server,) = report(control)["hosts"]
        assert server["status"] == "unreachable"
    finally:
        control.check_output(f"mv {known}.kept {known}; rm -f /tmp/other /tmp/other.pub")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ('{"drift_schedule_calendar": "sometimes"}', "no time of systemd's calendar"),
        ('{"drift_schedule_page_group": "nobodys"}', "there is no group"),
        ('{"drift_schedule_metrics_file": "/nonexistent/x.prom"}', "no folder of"),
    ],
)
def test_refusals(playbook: Any, control: Any, arguments: str, message: str) -> None:
    before = control.check_output("systemctl show --property=FragmentPath,ActiveState integr8scode-drift.timer")
    done = playbook(PLAYBOOK, "--limit", "control", "-e", arguments)
    assert done.returncode == 2
    text = " ".join(done.stdout.split()).replace("''", "'")
    assert "Nothing was changed." in text
    assert message in text
    assert control.check_output("systemctl show --property=FragmentPath,ActiveState integr8scode-drift.timer") == before


def test_a_change_of_the_inventory_arrives(playbook: Any, control: Any) -> None:
    """Another calendar changes the timer alone."""
    changed = playbook(PLAYBOOK, "-e", "drift_schedule_calendar=daily")
    assert changed.returncode == 0, changed.stdout
    assert re.findall(r"(\w+) +: ok=\d+ +changed=(\d+)", changed.stdout) == [("watch1", "2"), ("watched1", "0")]
    assert "OnCalendar=daily" in control.check_output(f"systemctl cat {TIMER}")
