"""No secret gets out: every playbook with `-vvv --diff`, and the secrets looked for wherever they could have gone.

A canary that is let out on purpose, in each way and form, shows that each search finds what is there. The secrets hold
every character that hurts a format, so the same server shows that such passwords are taken by all that read them.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.leak_search import UNKNOWN
from tests.servers.leaking import CANARY, SERVER, Trial, forms, hard_secrets, new_mark, place_canaries, write_inventory
from tests.servers.releases import NEVER_HEALTHY
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
REFUSED, FAILED = "refused", "never-healthy"


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    """Every playbook has run, and what is left of the secrets was searched for."""
    folder = tmp_path_factory.mktemp("trial")
    fetched = folder / "fetched"
    fetched.mkdir()
    mark = new_mark()
    secrets = hard_secrets(mark)
    made = Trial(mark, write_inventory(tmp_path_factory.mktemp("inventory"), secrets), folder)
    # what a person gets wrong: a template by mistake, a block with its line break, too long, too short
    wrong = {
        "vault_integr8scode_admin_password": f"{mark.text}06" * 6,
        "vault_integr8scode_user_password": f"{mark.text}07\n",
        "vault_k3s_token": f"with space {mark.text}08",
        "vault_integr8scode_secret_key": f"{mark.text}09",
    }
    refused = write_inventory(tmp_path_factory.mktemp("refused"), secrets | wrong)

    said = made.run("bootstrap", "playbooks/bootstrap.yml")
    assert made.codes["bootstrap"] == 0, said[-5000:]
    with made.watch() as server:
        made.run(REFUSED, "playbooks/site.yml", inventory=refused)
        made.run("site-check", "playbooks/site.yml", "--check")
        said = made.run("site", "playbooks/site.yml")
        assert made.codes["site"] == 0, said[-5000:]
        made.run("again-check", "playbooks/site.yml", "--check")
        made.run("deploy", "deploy.yml", "-e", "tag=2026.2.31")
        limits = json.dumps({"integr8scode_healthy_timeout_seconds": 25})
        made.run(FAILED, "deploy.yml", "-e", f"tag={NEVER_HEALTHY}", "-e", limits)
        made.run("rollback", "playbooks/rollback.yml")
        made.run("status", "playbooks/status.yml", "-e", "format=json", "-e", f"status_file={fetched}/status.json")
        made.run("doctor", "playbooks/doctor.yml", "-e", "format=json", "-e", f"doctor_file={fetched}/doctor.json")
        made.run("diagnostics", "playbooks/diagnostics.yml", "-e", f"diagnostics_dir={fetched}")
        made.run("drift", "playbooks/drift.yml", "-e", f"drift_report_dir={fetched}/drift")
        made.run("backup", "playbooks/backup.yml")
        confirmed = ("-e", f"restore_confirm={SERVER}", "-e", "restore_from=latest")
        made.run("restore-check", "playbooks/restore.yml", "--limit", SERVER, *confirmed, "--check")
        made.run("renew", "playbooks/renew-kubeconfig.yml", "-e", "renew_force=true")
        made.run("recover", "playbooks/recover-k3s.yml")
        made.run("unlock", "playbooks/unlock.yml")
        place_canaries(made, server)
    yield made
    for path in (Path.home() / ".ansible" / "tmp").glob(f"leak-test-{mark.text[:6]}-*"):
        path.unlink()


def test_every_playbook_did_its_work(trial: Trial) -> None:
    expected = {name: 2 if name in (REFUSED, FAILED) else 0 for name in trial.codes}
    assert trial.codes == expected, {
        name: (trial.folder / f"{name}.log").read_text("utf-8")[-3000:]
        for name in trial.codes
        if trial.codes[name] != expected[name]
    }


def test_what_is_wrong_with_secrets_is_said_by_their_names(trial: Trial) -> None:
    said = (trial.folder / f"{REFUSED}.log").read_text("utf-8")
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
