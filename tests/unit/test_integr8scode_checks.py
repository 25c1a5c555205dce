"""What refuses early names the cure, and never shows a secret."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.plugins.filter import integr8scode_checks as checks

GOOD = {
    "integr8scode_secret_key": "k" * 40,
    "integr8scode_mongo_root_password": "p$\"' \\#@:/%!?{{x}}é;",
    "integr8scode_user_password": "u" * 12,
    "integr8scode_admin_password": "a" * 72,
}


def test_good_secrets_pass() -> None:
    assert checks.secret_problems(GOOD) == []


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("integr8scode_secret_key", "", "missing"),
        ("integr8scode_secret_key", None, "missing"),
        ("integr8scode_secret_key", "s" * 31, "32 are the least"),
        ("integr8scode_mongo_root_password", "rootpassword", "default or placeholder"),
        ("integr8scode_mongo_root_password", "CHANGE_ME_before_use", "default or placeholder"),
        ("integr8scode_mongo_root_password", "lab-password-not-a-secret", "default or placeholder"),
        ("integr8scode_mongo_root_password", "two\nlines-of-it", "line break"),
        ("integr8scode_mongo_root_password", "with-nul-\0-inside", "control character"),
        ("integr8scode_user_password", "user123", "12 are the least"),
        ("k3s_token", "t" * 15, "16 are the least"),
        ("k3s_token", "two words of a token", "white space"),
        ("integr8scode_admin_password", "é" * 37, "has 74 bytes in UTF-8"),
    ],
)
def test_bad_secrets_are_named_and_not_shown(name: str, value: Any, says: str) -> None:
    problems = checks.secret_problems({**GOOD, name: value})
    assert problems
    assert any(name in problem and says in problem for problem in problems)
    assert not value or all(value not in problem for problem in problems)


def test_the_lab_may_have_fakes_but_no_short_ones() -> None:
    fakes = {**GOOD, "integr8scode_user_password": "lab-user-not-a-secret"}
    assert checks.secret_problems(fakes, allow_fake=True) == []
    assert checks.secret_problems({**fakes, "integr8scode_secret_key": "short"}, allow_fake=True)


def state(**changes: Any) -> dict[str, Any]:
    room = {"path": "/", "free_bytes": 50 * 2**30, "free_inodes": 10**6}
    return {
        "foreign": {"containers": [], "volumes": []},
        "containers": {},
        "listeners": {},
        "docker": {"available": True},
        "release": None,
        "memory": {"total_bytes": 16 * 2**30, "available_bytes": 8 * 2**30},
        "disk": {"base": room, "docker": room},
        **changes,
    }


NEEDS = {"ports": [443, 5001], "memory_mb": 7400, "disk_mb": 6000}


def test_a_fresh_server_passes() -> None:
    assert checks.state_problems(state(), NEEDS) == []


def test_own_ports_pass_and_others_are_named() -> None:
    running = state(containers={"edge": [{}]}, listeners={"443": "docker-proxy"})
    # python3-docker was removed, say
    unasked = state(docker={"available": False}, release={"id": "1"}, listeners={"443": "docker-proxy"})
    assert checks.state_problems(unasked, NEEDS) == []
    assert checks.state_problems(running, NEEDS) == []
    (problem,) = checks.state_problems(state(listeners={"443": "nginx"}), NEEDS)
    assert "port 443 is taken by nginx" in problem


def test_the_guides_installation_is_refused() -> None:
    foreign = {"containers": [{"name": "mongo", "working_dir": "/opt/Integr8sCode"}], "volumes": []}
    (problem,) = checks.state_problems(state(foreign=foreign), NEEDS)
    assert "/opt/Integr8sCode" in problem
    assert "mongo" in problem
    (problem,) = checks.state_problems(state(foreign={"containers": [], "volumes": ["integr8scode_mongo_data"]}), NEEDS)
    assert "integr8scode_mongo_data" in problem


def test_everything_wrong_is_said_at_once() -> None:
    small = {"path": "/var", "free_bytes": 2**30, "free_inodes": 100}
    problems = checks.state_problems(
        state(memory={"total_bytes": 2**30}, disk={"base": small}, listeners={"5001": "python3"}), NEEDS
    )
    assert len(problems) == 4
