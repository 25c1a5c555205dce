"""No secret gets out: every playbook with `-vvv --diff`, and the secrets looked for wherever they could have gone.

A canary that is let out on purpose, in each way and form, shows that each search finds what is there. The secrets hold
every character that hurts a format, so the same server shows that such passwords are taken by all that read them.
"""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from tests.servers.first_run import CANARY, FAILED, REFUSED, SERVER, Trial, forms, hard_secrets
from tests.servers.leak_search import UNKNOWN
from tests.servers.test_site import BASE, ask

FORMS = list(forms(""))
PLACES = [
    "outputs",
    "fetched files",
    "processes of the controller",
    "processes of the server",
    "journal",
    "container logs",
    "docker inspect",
    "readable files",
    "temporary folders",
    "temporary folders of the controller",
]


def test_every_playbook_did_its_work(trial: Trial) -> None:
    expected = {name: 2 if name in (REFUSED, FAILED) else 0 for name in trial.codes}
    assert trial.codes == expected, {
        name: trial.output(name)[-3000:] for name in trial.codes if trial.codes[name] != expected[name]
    }


def test_what_is_wrong_with_secrets_is_said_by_their_names(trial: Trial) -> None:
    said = trial.output(REFUSED)
    for name in ("admin_password", "user_password", "secret_key"):
        assert f"integr8scode_{name}" in said
    assert "k3s_token" in said
    assert "Nothing was changed" in said


@pytest.mark.parametrize("place", PLACES)
def test_no_secret_got_out(trial: Trial, place: str) -> None:
    assert [one for one in trial.found[place] if one[0] not in (CANARY, UNKNOWN)] == []


@pytest.mark.parametrize("place", PLACES)
def test_no_part_of_a_secret_got_out(trial: Trial, place: str) -> None:
    assert [one for one in trial.found[place] if one[0] == UNKNOWN] == []


@pytest.mark.parametrize("place", PLACES)
def test_the_canary_is_found(trial: Trial, place: str) -> None:
    found = [one for one in trial.found[place] if one[0] == CANARY]
    if place.startswith("processes"):
        kinds = {(one[1], one[2]) for one in found}
        assert {("command line", "sh"), ("environment", "sleep")} <= kinds
    else:
        assert [form for form in FORMS if not any(form.replace(" ", "-") in one[1] for one in found)] == []


@pytest.mark.parametrize("user", ["user", "admin"])
def test_users_log_in_with_hard_passwords(trial: Trial, server_named: Any, user: str) -> None:
    host = server_named(SERVER)
    tls = ssl.create_default_context(cadata=host.file(f"{BASE}/tls/public/ca.crt").content_string)
    form = {"username": user, "password": hard_secrets(trial.mark)[f"vault_integr8scode_{user}_password"]}
    assert ask(host, tls, 1, "POST", "/api/v1/auth/login", form)[0] == 200
    form["password"] = form["password"].strip() + "x"
    assert ask(host, tls, 1, "POST", "/api/v1/auth/login", form)[0] == 401
