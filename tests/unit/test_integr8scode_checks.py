"""What refuses early names the cure, and never shows a secret."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ansible.plugins.filter import integr8scode_checks as checks

from tests.unit.support.templating import ROOT, evaluate, load, role_variables

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
        ("integr8scode_user_password", "user1234", "12 are the least"),
        ("k3s_token", "t" * 15, "16 are the least"),
        ("k3s_token", "two words of a token", "white space"),
        ("k3s_token", "a-token-with:a-colon-in-it", "colon"),
        ("integr8scode_admin_password", "é" * 37, "has 74 bytes in UTF-8"),
    ],
)
def test_bad_secrets_are_named_and_not_shown(name: str, value: Any, says: str) -> None:
    problems = checks.secret_problems({**GOOD, name: value})
    assert problems
    assert any(name in problem and says in problem for problem in problems)
    assert not value or all(value not in problem for problem in problems)


@pytest.mark.parametrize(
    "value",
    [
        "t",
        "a b",
        "p" * 200,
        "ghp_" + "A1" * 18,
        "lab-registry-password-not-a-secret",
        "password",
        "admin",
        "change_me1",
    ],
)
def test_a_registry_password_is_as_its_registry_gives_it(value: str) -> None:
    assert checks.secret_problems({"integr8scode_registry_password": value}) == []


@pytest.mark.parametrize(
    "value", ["", "CHANGE_ME", "changeme", "<your-token>", "Replace me", "TODO", "placeholder", "line\nbreak"]
)
def test_a_registry_password_is_not_made_by_hand(value: str) -> None:
    named = {"integr8scode_registry_password": value}
    for registry, where in (
        ("ghcr.io/hardmax71/integr8scode", "at ghcr.io, a classic token with read:packages"),
        ("registry.lab.test:5000/a", "at registry.lab.test:5000"),
        ("", "at its registry"),
    ):
        (problem,) = checks.secret_problems(named, registry=registry)
        assert problem.endswith(
            f" It is the token or password of integr8scode_registry_username {where}: put it into vault.yml as "
            "vault_registry_password"
        )
        assert "openssl" not in problem


def test_what_a_registry_password_cannot_be_is_listed() -> None:
    text = (ROOT / "roles/integr8scode/README.md").read_text(encoding="utf-8")
    said = text.partition("## Passwords")[2].partition("\n## ")[0].partition("A registry's password")[2]
    listed = {one.replace("_", "").lower() for one in re.findall(r"`([A-Z_]+)`", said)}
    assert listed == checks._NO_REGISTRY_PASSWORD


@pytest.mark.parametrize(
    ("names", "addresses", "given", "told"),
    [
        (["app1"], [], False, True),
        (["app1"], [], True, False),
        (["app1"], ["192.0.2.1"], False, False),
        (["app1.example.org"], [], False, False),
        ("app1", [], False, False),
    ],
)
def test_a_server_without_public_names_is_told_of(names: Any, addresses: Any, given: bool, told: bool) -> None:
    found = checks.name_notes(names, addresses, "app1", given=given)
    assert [
        one.startswith("integr8scode_public_names is not set: users are expected at https://app1,") for one in found
    ] == ([True] if told else [])
    assert checks.name_notes(["app1.example.org"], [], "app1.example.org", given=False) == []


def notes(folder: Path, vault: str, **more: Any) -> list[str]:
    """What the role notes of a server, the first of two, that the inventory in `folder` names."""
    (folder / "group_vars/all").mkdir(parents=True, exist_ok=True)
    (folder / "group_vars/all/vault.yml").write_text(vault, encoding="utf-8")
    known = role_variables("integr8scode") | {
        "inventory_hostname": "app1",
        "ansible_play_hosts_all": ["app1", "app2"],
        "ansible_inventory_sources": [str(folder)],
        "hostvars": {"app1": {}, "app2": {}},
        **more,
    }
    found: list[str] = evaluate("{{ __integr8scode_notes }}", known)
    return found


def test_what_the_role_notes_of_an_inventory(tmp_path: Path) -> None:
    names, vault = notes(tmp_path, "vault_x: hidden\n")
    assert names.startswith("integr8scode_public_names is not set")
    path = tmp_path / "group_vars/all/vault.yml"
    assert vault.startswith(f"{path} is not encrypted: ")
    assert f"ansible-vault encrypt {path}" in vault
    assert "hidden" not in vault
    given = {"integr8scode_public_names": ["app1"], "hostvars": {"app1": {"integr8scode_public_names": ["app1"]}}}
    assert notes(tmp_path, "$ANSIBLE_VAULT;1.1;AES256\n61\n", **given) == []
    assert notes(tmp_path, "vault_x: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  61\n", **given) == []
    open_one = "vault_x: hidden\n"
    assert len(notes(tmp_path, open_one, **given)) == 1
    assert notes(tmp_path, open_one, **given, ansible_inventory_sources=["app1,"]) == []
    # the lab's are fakes, and one server tells for all
    assert notes(tmp_path, open_one, **given, integr8scode_allow_fake_secrets=True) == []
    assert notes(tmp_path, open_one, **given, ansible_play_hosts_all=["app2", "app1"]) == []
    hosts = tmp_path / "hosts.yml"
    hosts.write_text("{}", encoding="utf-8")
    assert len(notes(tmp_path, open_one, **given, ansible_inventory_sources=[str(hosts)])) == 1


def test_the_notes_stop_nothing() -> None:
    look = load("roles/integr8scode/tasks/refuse_server.yml")[-1]["integr8scode_preflight"]
    assert "__integr8scode_notes" in look["notes"]


@pytest.mark.parametrize(
    ("more", "judged"),
    [
        ({}, True),
        ({"integr8scode_mongo_login_was_changed": "true"}, False),
        ({"integr8scode_user_password": "x"}, False),
    ],
)
def test_mongos_login_is_judged_unless_it_was_changed(more: dict[str, Any], judged: bool) -> None:
    login = "p$ \"' {{ x }} \\#é-long-enough "
    known = role_variables("integr8scode") | GOOD | {"integr8scode_mongo_root_password": login} | more
    known |= {"__integr8scode_templates": []}
    found = evaluate("{{ __integr8scode_judged_login }}", known)
    assert found == ({"username": "root", "password": login} if judged else {})


def test_the_cure_names_the_place_that_the_shipped_inventories_read() -> None:
    for name in ("production", "staging"):
        shipped = load(f"inventories/{name}/group_vars/all/main.yml")
        secrets = {one: "" for one, text in shipped.items() if "{{ vault_" in str(text)}
        assert len(secrets) > 5
        for problem in checks.secret_problems(secrets):
            secret = problem.split()[0]
            assert problem.endswith(f"put it into vault.yml as {shipped[secret].strip('{} ')}")
            assert ("(openssl rand -base64 48)" in problem) is (secret != "integr8scode_registry_password")


def test_a_placeholder_is_one_cause() -> None:
    shipped = load("inventories/production/group_vars/all/vault.yml")
    secrets = {one.replace("vault_", "integr8scode_" if "registry" in one else "", 1): "CHANGE_ME" for one in shipped}
    problems = checks.secret_problems(secrets)
    assert len(problems) == len(shipped)
    assert all("is a default or placeholder value. " in one for one in problems)


def test_the_lab_may_have_fakes_but_no_short_ones() -> None:
    fakes = {**GOOD, "integr8scode_user_password": "lab-user-not-a-secret"}
    assert checks.secret_problems(fakes, allow_fake=True) == []
    assert checks.secret_problems({**fakes, "integr8scode_secret_key": "short"}, allow_fake=True)


@pytest.mark.parametrize("inventory", ["production", "staging"])
def test_the_shipped_inventories_are_refused_as_they_are(inventory: str) -> None:
    known = role_variables("integr8scode") | load(f"inventories/{inventory}/group_vars/all/main.yml")
    problems = evaluate("{{ __integr8scode_example_problems }}", known | {"vault_registry_password": "x"})
    assert [one.split()[0] for one in problems] == ["integr8scode_registry_username"]
    problems = evaluate("{{ __integr8scode_example_problems }}", known | {"integr8scode_registry_username": "me"})
    assert problems == []


@pytest.mark.parametrize(
    ("registries", "mirrors", "names"),
    [
        (["ghcr.io/a/b", "docker.io"], [], ["ghcr.io", "registry-1.docker.io", "auth.docker.io"]),
        (["ghcr.io/a", "docker.io"], ["https://mirror.example:5000"], ["ghcr.io", "mirror.example"]),
        (["registry.example:5000/a", "registry.example:5000"], [], ["registry.example"]),
        (["192.0.2.5:5000/a", "localhost:5000", "[2001:db8::1]:5000/b"], [], []),
    ],
)
def test_the_names_to_pull_from(registries: list[str], mirrors: list[str], names: list[str]) -> None:
    assert checks.download_hosts(registries, mirrors) == names


def test_files_and_addresses_need_no_name() -> None:
    assert checks.url_host("https://files.example/k3s") == "files.example"
    assert [checks.url_host(url) for url in ("file:///srv/k3s", "http://192.0.2.1/k3s", "")] == ["", "", ""]


@pytest.mark.parametrize(
    ("url", "no_proxy", "name"),
    [
        ("https://github.com/k3s-io/k3s", [], "proxy.lab.test"),
        ("https://files.lab.test/k3s", [".lab.test"], "files.lab.test"),
        ("https://files.lab.test/k3s", "10.0.0.0/8, .lab.test", "files.lab.test"),
        ("https://files.lab.test/k3s", "", "proxy.lab.test"),
        # there is none for plain http
        ("http://files.lab.test/k3s", [], "files.lab.test"),
        ("file:///srv/k3s", [], ""),
    ],
)
def test_a_proxy_finds_the_name_of_a_download_itself(url: str, no_proxy: Any, name: str) -> None:
    assert checks.url_host(url, "", "http://me:fake@proxy.lab.test:3128", no_proxy) == name


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({}, "github.com"),
        ({"k3s_https_proxy": "http://192.0.2.7:3128"}, ""),
        ({"k3s_https_proxy": "http://proxy.lab.test:3128"}, "proxy.lab.test"),
        ({"k3s_https_proxy": "http://proxy.lab.test:3128", "k3s_no_proxy": ["github.com"]}, "github.com"),
        ({"k3s_http_proxy": "http://proxy.lab.test:3128"}, "github.com"),
    ],
)
def test_the_preflight_looks_for_no_name_that_k3s_proxy_finds(given: dict[str, Any], name: str) -> None:
    known = role_variables("k3s") | role_variables("integr8scode") | {"__integr8scode_whole": True}
    assert evaluate("{{ __integr8scode_k3s_host }}", known | given) == name


def test_a_proxy_finds_the_names_itself() -> None:
    registries = ["ghcr.io/team", "registry.example.org:5000/team", "docker.io"]
    names = checks.download_hosts(
        registries, [], "http://me:fake@proxy.example.org:3128", [".example.org", "10.0.0.0/8"]
    )
    assert names == ["registry.example.org", "proxy.example.org"]
    assert checks.download_hosts(["ghcr.io/team"], [], "http://192.0.2.7:3128", []) == []
