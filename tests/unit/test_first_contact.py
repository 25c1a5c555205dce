"""playbooks/bootstrap.yml where a server lets nobody in: one failure that says why, and what to do about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.plugins.filter.first_contact import first_contact_refusal, nobody_answers

from tests.unit.test_reached import CLOSED, REFUSED, run

DENIED = "Failed to connect to the host via ssh: root@192.0.2.1: Permission denied (publickey,password)."
KEY = "Task failed: Failed to connect to the host via ssh: Host key verification failed."
CLOSED_BY_PEER = "Failed to connect to the host via ssh: Connection closed by 192.0.2.1 port 22"
HOST_KEY_CURE = "ssh-keygen -R 192.0.2.1"
USER_CURES = "It takes passwords only: add -k. Its first user is another: -e bootstrap_login_user=debian"


def gone(words: str) -> dict[str, Any]:
    return {"unreachable": True, "msg": words}


def refusal(first: str, later: str | None = None, **way: Any) -> list[str]:
    known = {"host": "app1", "address": "192.0.2.1", "port": 22, "first_user": "root", "ops_user": "ops", **way}
    return first_contact_refusal(gone(first), {"skipped": True} if later is None else gone(later), known)


@pytest.mark.parametrize(
    ("words", "silent"),
    [
        ("ssh: connect to host 192.0.2.1 port 22: Connection timed out", True),
        ("ssh: connect to host 127.0.0.1 port 9: Connection refused", True),
        ("ssh: Could not resolve hostname app1: Name or service not known", True),
        ("ssh: connect to host 192.0.2.1 port 22: No route to host", True),
        (DENIED, False),
        (KEY, False),
        (CLOSED_BY_PEER, False),
    ],
)
def test_only_an_ssh_server_that_was_met_is_asked_as_another_user(words: str, silent: bool) -> None:
    assert nobody_answers(gone(words)) is silent
    assert nobody_answers({"msg": words}) is False


def test_where_nothing_answers_the_address_is_asked_for() -> None:
    first, cure, last = refusal("ssh: connect to host 192.0.2.1 port 2222: Connection timed out", port=2222)
    assert first.startswith("app1: nothing answers by ssh at 192.0.2.1, port 2222: ssh: connect to host")
    assert "`ssh -p 2222 root@192.0.2.1 true` must work by hand" in cure
    assert "ansible_host in hosts.yml" in cure
    assert last == "Nothing was changed."


@pytest.mark.parametrize(
    ("first", "later", "host_key", "user"),
    [
        (DENIED, DENIED.replace("root@", "ops@"), False, True),
        (KEY, KEY, True, False),
        (DENIED, KEY, True, True),
        # says too little to leave a cure out
        (CLOSED_BY_PEER, CLOSED_BY_PEER, True, True),
    ],
)
def test_both_reasons_and_the_cures_that_fit_are_told(first: str, later: str, host_key: bool, user: bool) -> None:
    head, as_root, as_ops, cure, *rest, last = refusal(first, later)
    assert head == "app1 lets in neither its first user nor the one that a bootstrap makes."
    assert as_root == f"As root: {first.rpartition('ssh: ')[2].rstrip('.')}."
    assert as_ops == f"As ops, whom a bootstrap makes: {later.rpartition('ssh: ')[2].rstrip('.')}."
    assert cure == "Cure: `ssh root@192.0.2.1 true` must work by hand."
    assert any(HOST_KEY_CURE in one for one in rest) is host_key
    assert (USER_CURES in rest) is user
    assert last == "Nothing was changed."


def test_a_run_ends_with_it(tmp_path: Path) -> None:
    keys = {"bootstrap_authorized_keys": ["ssh-ed25519 AAAA me"]}
    done = run(tmp_path, {"app1": {**CLOSED, **keys}}, "playbooks/bootstrap.yml")
    assert done.returncode == 2, done.stdout + done.stderr
    said = " ".join(done.stdout.partition("Refuse a server that lets neither")[2].split())
    assert f"app1: nothing answers by ssh at 127.0.0.1, port 9: {REFUSED}." in said
    assert "Look at the server as the ops user" not in done.stdout
