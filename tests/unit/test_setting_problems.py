"""Settings of another type than their role takes: all are told, before a role has changed anything."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils import certificate_tools
from ansible.plugins.filter import integr8scode_checks as checks
from ansible.plugins.filter.release_tags import tag_problems

from tests.unit.support.templating import evaluate, load, role_variables

ROLES = [role["role"] for role in load("playbooks/site.yml")[0]["roles"]]


def problems(role: str, known: dict[str, Any]) -> list[str]:
    """What the lookup says of a role's settings."""
    found: list[str] = evaluate("{{ query('setting_problems', role) }}", known | {"role": role})
    return found


@pytest.mark.parametrize("role", ROLES)
def test_the_defaults_are_what_their_role_takes(role: str) -> None:
    assert problems(role, role_variables(role) | {"inventory_hostname": "app1"}) == []


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("integr8scode_public_names", "app1.example.org", "is a text: it takes a list"),
        ("k3s_kernel_modules", "overlay", "is a text: it takes a list"),
        ("integr8scode_config", "LOG_LEVEL=INFO", "is a text: it takes a mapping"),
        ("k3s_config", None, "has no value"),
        ("integr8scode_https_port", "abc", "is no whole number"),
        ("integr8scode_stable_seconds", "5m", "is no whole number"),
        ("integr8scode_allow_latest", "perhaps", "is neither true nor false"),
        ("integr8scode_environment", False, "is read by YAML as true or false, False: it takes a text"),
        ("docker_engine_min_version", 25.1, "is read by YAML as a number, 25.1: it takes a text"),
        ("integr8scode_worker_memory", {"a": 1}, "is a mapping: it takes a text"),
        ("docker_source", "snap", "must be one of: distribution, vendor"),
    ],
)
def test_another_type_is_told_with_its_cure(name: str, value: Any, said: str) -> None:
    (problem,) = problems(name.partition("_")[0], {name: value})
    assert problem.startswith(name)
    assert said in problem
    assert "docs/variables.md" in problem


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("integr8scode_https_port", "8443"),
        ("integr8scode_allow_latest", "yes"),
        ("integr8scode_profiles", "observability,debug"),
        ("integr8scode_skip_checks", "dns,clock"),
        ("docker_no_proxy", ".example.org,10.0.0.1"),
        ("docker_log_max_size", 10),
        ("integr8scode_registry_username", 12345),
    ],
)
def test_what_comes_from_the_command_line_passes(name: str, value: Any) -> None:
    assert problems(name.partition("_")[0], {name: value}) == []


def test_secrets_and_what_cannot_be_evaluated_are_others_business() -> None:
    known: dict[str, Any] = {"integr8scode_admin_password": ["hidden"], "k3s_token": 5.5}
    known |= {"integr8scode_environment": load("playbooks/site.yml")[0]["hosts"]}
    assert problems("integr8scode", known) == problems("k3s", known) == []


def test_they_are_told_before_the_server_is_looked_at() -> None:
    first, look = load("roles/integr8scode/tasks/refuse_server.yml")
    assert "integr8scode_preflight" in look
    variables = role_variables("integr8scode") | {"inventory_hostname": "app1", "integr8scode_allow_fake_secrets": True}
    variables |= dict.fromkeys(
        variables["__integr8scode_secret_names"], "long enough for any of the secrets that are judged"
    )
    variables |= {"integr8scode_public_names": "app1.example.org"}
    task = first["ansible.builtin.assert"]
    assert evaluate("{{ " + task["that"] + " }}", variables) is False
    begin, problem, end = evaluate(task["fail_msg"], variables)
    assert begin.startswith("app1: settings to correct")
    assert problem.startswith("integr8scode_public_names is a text")
    assert end == "Nothing was changed."


def test_for_a_whole_server_those_of_every_role_are_checked() -> None:
    variables = role_variables("integr8scode") | {"k3s_config": None, "backup_age_recipients": "age1"}
    assert evaluate("{{ __integr8scode_type_problems }}", variables) == []
    found = evaluate("{{ __integr8scode_type_problems }}", variables | {"__integr8scode_whole": True})
    assert [one.split()[0] for one in found] == ["k3s_config", "backup_age_recipients"]
    for role in ROLES:
        assert f"'{role}'" in variables["__integr8scode_type_problems"]


@pytest.mark.parametrize(
    ("names", "addresses", "said"),
    [
        ([], [], "are empty"),
        (["https://app1.example.org"], [], "'https://app1.example.org' is no DNS name. Leave out https://"),
        (["app1.example.org:443"], [], "Leave out https://, port and path"),
        (["app 1"], [], "'app 1' is no DNS name. Letters"),
        ([""], [], "'' is no DNS name"),
        (["bücher.example"], [], "xn--"),
        (["app1"], ["app2"], "integr8scode_public_addresses: 'app2' is no IP address"),
        (["app1"], [""], "'' is no IP address"),
    ],
)
def test_names_that_no_certificate_can_hold_are_told(names: list[str], addresses: list[str], said: str) -> None:
    (problem,) = checks.name_problems(names, addresses)
    assert said in problem
    with pytest.raises(ValueError, match=r"."):
        certificate_tools.parse_names(names, addresses)


@pytest.mark.parametrize(
    ("names", "addresses"),
    [(["app1"], []), (["App1.Example.org."], []), (["192.0.2.1"], []), ([], ["2001:db8::1"]), (["*.example.org"], [])],
)
def test_names_that_a_certificate_can_hold_pass(names: list[str], addresses: list[str]) -> None:
    assert checks.name_problems(names, addresses) == []
    assert certificate_tools.parse_names(names, addresses)


def test_another_type_of_names_is_told_once() -> None:
    assert checks.name_problems("app1", []) == []


def test_a_name_is_judged_as_its_certificate_judges_it() -> None:
    assert checks.DNS_NAME.pattern == certificate_tools.DNS_NAME.pattern


@pytest.mark.parametrize(
    ("tag", "default", "said"),
    [
        ("latest", "2026.2.20", "names another release tomorrow"),
        ("2026.02.20", "", "begins with a zero"),
        (2026.1, "", "is a float, not text"),
        ("", 2026.1, "is a float, not text"),
        ("{{ tag }}", "", "none of the forms"),
    ],
)
def test_a_tag_is_judged_with_the_rest(tag: Any, default: Any, said: str) -> None:
    (problem,) = tag_problems(tag, default)
    assert said in problem


def test_a_tag_that_can_be_shipped_passes() -> None:
    assert (
        tag_problems("2026.2.20") == tag_problems("", "latest") == tag_problems("latest", "", allow_latest=True) == []
    )


def test_a_site_run_has_its_tag_judged_before_anything_is_installed() -> None:
    (task,) = load("playbooks/site.yml")[0]["pre_tasks"]
    variables = role_variables("integr8scode") | {"inventory_hostname": "app1", "tag": "2026.02.20"}
    variables["integr8scode_tag"] = evaluate(task["vars"]["integr8scode_tag"], variables)
    (problem,) = evaluate("{{ __integr8scode_setting_problems }}", variables)
    assert "begins with a zero" in problem
    (look,) = load("roles/integr8scode/tasks/refuse_server.yml")[1:]
    assert "__integr8scode_setting_problems" in look["integr8scode_preflight"]["settings"]
