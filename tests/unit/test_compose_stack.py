"""The compose file, as the plugins read it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible.plugins.filter import compose_stack
from ansible.plugins.filter.configuration_files import configuration_files
from ansible.template import trust_as_template


def test_interpolation_has_composes_forms() -> None:
    assert compose_stack.interpolate("${A:-x}/${B}:${C:?need}", {"B": "b", "C": 3}) == "x/b:3"
    assert compose_stack.interpolate("${A:-x}", {"A": ""}) == "x"
    with pytest.raises(AnsibleFilterError, match="IMAGE_TAG: say which"):
        compose_stack.interpolate("${IMAGE_TAG:?say which}", {})
    with pytest.raises(AnsibleFilterError, match="IMAGE_TAG"):
        compose_stack.interpolate("${IMAGE_TAG}", {})


def test_images_of_the_real_file(project_root: Path) -> None:
    text = (project_root / "docker-compose.yaml").read_text()
    images = compose_stack.compose_images(text, {"IMAGE_TAG": "2026.2.20", "HUB_REGISTRY": "mirror.example"})
    assert images["backend"] == "ghcr.io/hardmax71/integr8scode/backend:2026.2.20"
    assert images["coordinator"] == images["backend"]
    assert images["mongo"].startswith("mirror.example/library/mongo:")
    assert "user-seed" not in images
    assert "user-seed" in compose_stack.compose_images(text, {"IMAGE_TAG": "2026.2.20"}, ["seed"])


def test_a_text_as_ansible_hands_it_over_is_read_like_any_other(project_root: Path) -> None:
    text = (project_root / "docker-compose.yaml").read_text()
    tagged = trust_as_template(text)
    assert type(tagged) is not str
    given = {"IMAGE_TAG": "2026.2.20"}
    assert compose_stack.compose_images(tagged, given) == compose_stack.compose_images(text, given)


def test_every_third_party_image_is_pinned_to_a_full_version(project_root: Path) -> None:
    text = (project_root / "docker-compose.yaml").read_text()
    profiles = ["seed", "observability", "debug"]
    for reference in set(compose_stack.compose_images(text, {"IMAGE_TAG": "2026.2.20"}, profiles).values()):
        tag = reference.rpartition(":")[2]
        assert tag.split("-")[0].count(".") == 2, reference


def test_a_file_that_is_none_is_named() -> None:
    with pytest.raises(AnsibleFilterError, match="not a compose file"):
        compose_stack.compose_images("- a list", {})


def test_a_secret_is_mounted_into_each_of_its_readers() -> None:
    assert compose_stack.secret_mounts(["backend", "user-seed"], "/app/secrets.toml") == [
        {"service": "backend", "target": "/app/secrets.toml"},
        {"service": "user-seed", "target": "/app/secrets.toml"},
    ]


def test_every_worker_of_the_stack_has_its_configuration(project_root: Path) -> None:
    variables = yaml.safe_load((project_root / "roles/integr8scode/vars/main.yml").read_text())
    groups = variables["__integr8scode_worker_groups"]
    files = {entry["name"]: entry for entry in configuration_files({"A": 1}, groups)}
    assert tomllib.loads(files["config.toml"]["content"]) == {"A": 1}
    stack = yaml.safe_load((project_root / "docker-compose.yaml").read_text())["services"]
    for worker, group in groups.items():
        entry = files[f"config.{worker}.toml"]
        assert tomllib.loads(entry["content"])["KAFKA_CONSUMER_GROUP_ID"] == group
        mounts = [volume for volume in stack[worker]["volumes"] if isinstance(volume, str)]
        assert any(f"${{{entry['variable']}:-" in mount and f":/app/{entry['name']}:" in mount for mount in mounts)
        assert stack[worker]["command"] == ["python", f"workers/run_{worker.replace('-', '_')}.py"]


def test_what_asks_for_no_password_is_not_published(project_root: Path) -> None:
    services = yaml.safe_load((project_root / "docker-compose.yaml").read_text())["services"]
    published = {name: [str(port) for port in one["ports"]] for name, one in services.items() if "ports" in one}
    beside = {name for name, one in services.items() if set(one.get("profiles", [])) & {"observability", "debug"}}
    assert set(published) == {"edge", "mongo", *beside}
    assert all(port.startswith("127.0.0.1:") for name in published if name != "edge" for port in published[name])


def test_a_profile_that_is_chosen_counts_and_an_unknown_one_is_named(project_root: Path) -> None:
    text = (project_root / "docker-compose.yaml").read_text()
    plain = compose_stack.compose_images(text, {"IMAGE_TAG": "2026.2.20"})
    debug = compose_stack.compose_images(text, {"IMAGE_TAG": "2026.2.20"}, ["seed", "debug"])
    assert set(debug) - set(plain) == {"user-seed", "kafdrop"}
    with pytest.raises(AnsibleFilterError, match=r"no profile grafana\. Correct .* debug, observability"):
        compose_stack.compose_images(text, {"IMAGE_TAG": "2026.2.20"}, ["seed", "grafana"])


def test_memory_is_the_sum_of_the_limits(project_root: Path) -> None:
    text = (project_root / "docker-compose.yaml").read_text()
    environment = {"IMAGE_TAG": "2026.2.20", "WORKER_MEMORY": "1g"}
    plain = compose_stack.compose_memory_mb(text, {"IMAGE_TAG": "2026.2.20"}, [])
    assert compose_stack.compose_memory_mb(text, environment, []) == plain + 7 * (1024 - 160)
    assert compose_stack.compose_memory_mb(text, {"IMAGE_TAG": "2026.2.20"}, ["debug"]) == plain + 256
    with pytest.raises(AnsibleFilterError, match="a has no memory limit"):
        compose_stack.compose_memory_mb("services: {a: {image: b}}", {}, [])


def every_service(project_root: Path) -> dict[str, dict[str, Any]]:
    services: dict[str, dict[str, Any]] = yaml.safe_load((project_root / "docker-compose.yaml").read_text())["services"]
    return services


def test_every_service_is_limited_and_gains_nothing(project_root: Path) -> None:
    for name, service in every_service(project_root).items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}, name
        assert service["pids_limit"] > 0, name
        assert not service.get("privileged"), name


def test_who_is_not_root_has_no_capability(project_root: Path) -> None:
    services = every_service(project_root)
    adds = {name for name, service in services.items() if service.get("cap_add")}
    assert adds == {"frontend"}
    assert not any(services[name].get("user") for name in adds)


def test_users_are_those_that_files_are_written_for(project_root: Path) -> None:
    """A secret of mode 0400 is for one user: the service's, as the role knows it."""
    services = every_service(project_root)
    variables = yaml.safe_load((project_root / "roles/integr8scode/vars/main.yml").read_text())
    for name, service in (("mongo", "mongo"), ("haproxy", "edge")):
        assert int(services[service]["user"].split(":")[0]) == variables["__integr8scode_uid"][name]


def test_a_read_only_root_belongs_to_images_that_are_known_to_allow_it(project_root: Path) -> None:
    read_only = {name for name, service in every_service(project_root).items() if service.get("read_only")}
    assert read_only == {"mongo", "redis", "edge", "victoria-metrics", "otel-collector"}


def test_ports_that_have_no_setting() -> None:
    compose = """
    services:
      edge: {ports: ["${HTTPS_PORT:-443}:443", "127.0.0.1:${ADMIN:-8404}:8404"]}
      mongo: {ports: ["127.0.0.1:27017:27017"]}
      other: {ports: ["8080:80"]}
      page: {ports: ["127.0.0.1:3000:3000"], profiles: [observability]}
      none: {}
    """
    assert compose_stack.compose_fixed_ports(compose, []) == [8080, 27017]
    assert compose_stack.compose_fixed_ports(compose, ["observability"]) == [3000, 8080, 27017]
