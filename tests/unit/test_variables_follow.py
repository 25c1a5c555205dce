"""A variable that several roles work by reaches all of them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.support.templating import evaluate, load, role_variables


def of(role: str, name: str, **inventory: Any) -> Any:
    """A variable of a role, with those of the inventory."""
    variables = {**role_variables(role), "inventory_hostname": "app1", **inventory}
    return evaluate(variables[name], variables)


@pytest.mark.parametrize(
    ("inventory", "namespace"), [({}, "integr8scode"), ({"kubernetes_access_namespace": "x"}, "x")]
)
def test_pods_are_made_where_the_workers_have_their_rights(inventory: dict[str, str], namespace: str) -> None:
    assert of("integr8scode", "__integr8scode_config", **inventory)["K8S_NAMESPACE"] == namespace
    assert role_variables("kubernetes_access")["kubernetes_access_namespace"] == "integr8scode"


def test_the_applications_own_key_wins() -> None:
    config = of("integr8scode", "__integr8scode_config", integr8scode_config={"K8S_NAMESPACE": "own"})
    assert config["K8S_NAMESPACE"] == "own"


def test_a_recovery_finds_base_and_backups() -> None:
    assert of("recover_k3s", "recover_k3s_base") == role_variables("integr8scode")["integr8scode_base"]
    assert of("recover_k3s", "recover_k3s_base", integr8scode_base="/srv/app") == "/srv/app"
    assert of("recover_k3s", "recover_k3s_backup_directory") == role_variables("backup")["backup_directory"]
    assert of("recover_k3s", "recover_k3s_backup_directory", backup_directory="/srv/b") == "/srv/b"


def test_the_preflight_compares_what_the_stack_is_made_with() -> None:
    networks = of("integr8scode", "__integr8scode_networks", integr8scode_proxy_subnet="10.9.0.0/24")
    variables = of("integr8scode", "__integr8scode_environment_base", integr8scode_proxy_subnet="10.9.0.0/24")
    compose = load("docker-compose.yaml")["networks"]
    names = {compose[one].get("name") for one in compose}
    assert {one["network"] for one in networks.values()} == names
    for setting, one in networks.items():
        assert one["value"] == variables[setting.removeprefix("integr8scode_").upper()]
    needs = load("roles/integr8scode/tasks/refuse_server.yml")[-1]["integr8scode_preflight"]["needs"]
    kubeconfigs = evaluate(needs["kubeconfigs"], {})
    assert kubeconfigs == role_variables("kubernetes_access")["kubernetes_access_directory"]
    assert evaluate(needs["kubeconfigs"], {"kubernetes_access_directory": "/srv/k"}) == "/srv/k"
