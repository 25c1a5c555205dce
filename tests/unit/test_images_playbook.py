"""playbooks/images.yml: which images a release needs, and what the registries of the inventory call them."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleError

from tests.unit.support.templating import ROOT, evaluate, load, role_variables


def lines(**variables: Any) -> list[str]:
    (play,) = load("playbooks/images.yml")
    known = role_variables("integr8scode") | play["vars"] | {"playbook_dir": str(ROOT / "playbooks")} | variables
    found: list[str] = evaluate(known["images_lines"], known)
    return found


INSIDE = {
    "integr8scode_app_registry": "registry.example.org/team",
    "integr8scode_hub_registry": "registry.example.org:5000/hub",
}


def test_each_image_once_with_both_names() -> None:
    found = lines(tag="2026.2.19", **INSIDE)
    assert "ghcr.io/hardmax71/integr8scode/backend:2026.2.19 registry.example.org/team/backend:2026.2.19" in found
    (mongo,) = [one for one in found if "/mongo:" in one]
    there, here = mongo.split()
    assert here == there.replace("docker.io/", "registry.example.org:5000/hub/")
    assert found == sorted(set(found))
    # backend, frontend, and what the stack is built on
    assert len(found) == 6


def test_profiles_count_and_the_default_release_is_the_roles() -> None:
    found = lines(integr8scode_profiles="observability, debug", **INSIDE)
    assert len(found) == 11
    default = role_variables("integr8scode")["integr8scode_default_tag"]
    assert any(one.endswith(f"/backend:{default}") for one in found)


def test_without_registries_of_ones_own_nothing_has_another_name() -> None:
    assert all(one.split()[0] == one.split()[1] for one in lines())


def allowed(**variables: Any) -> bool:
    """Whether the playbook goes on with the tag; judged before anything is said or written."""
    (play,) = load("playbooks/images.yml")
    judge = play["tasks"][1]["ansible.builtin.assert"]
    known = role_variables("integr8scode") | play["vars"] | variables
    return bool(evaluate(f"{{{{ {judge['that']} }}}}", known))


@pytest.mark.parametrize("tag", ["2026.2.20", "sha-1a2b3c4"])
def test_a_releases_tag_is_taken(tag: str) -> None:
    assert allowed()
    assert allowed(tag=tag)


@pytest.mark.parametrize("tag", ["2026.02.20", "v2026.2.20", "sha-123", "", "2026.2.20 x"])
def test_a_tag_of_another_form_is_refused_as_a_deploy_does(tag: str) -> None:
    with pytest.raises(AnsibleError, match="without leading zeros"):
        allowed(tag=tag)


def test_a_tag_that_moves_has_to_be_allowed_by_name() -> None:
    assert not allowed(tag="latest")
    assert allowed(tag="latest", integr8scode_allow_latest="true")


@pytest.mark.parametrize("task", load("playbooks/images.yml")[0]["tasks"], ids=lambda task: str(task["name"]))
def test_no_server_is_asked(task: dict[str, Any]) -> None:
    local = {"ansible.builtin.debug", "ansible.builtin.assert", "ansible.builtin.import_role"}
    assert local & set(task) or task["delegate_to"] == "localhost"
