"""The scenario `site-variant` keeps its promise: variables that exist, set otherwise, and nearly all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from ansible.module_utils import certificate_tools as tools
from ansible.module_utils import service_certificates as certificates

from tests.servers.variant import PLAIN, ROOT, VARIANT, WORD, make_certificates, repositories

ROLES = ("docker", "k3s", "kubernetes_access", "maintenance", "backup", "integr8scode")
ELSEWHERE = {
    # other scenarios set them
    "docker_source", "docker_live_restore", "docker_https_proxy", "docker_allow_container_restart",
    "k3s_version", "k3s_fixed_node_address", "backup_fetch_directory", "backup_fetch_unencrypted",
    "k3s_registries", "k3s_registry_ca_certificates", "k3s_airgap_images", "k3s_airgap_checksums", "k3s_http_proxy",
    "k3s_https_proxy", "k3s_no_proxy",
    "integr8scode_tag", "integr8scode_default_tag", "integr8scode_allow_latest",
    "integr8scode_backup_before_deploy", "integr8scode_min_memory_mb", "integr8scode_min_free_disk_mb",
    "integr8scode_reserve_disk_mb", "integr8scode_max_clock_difference_seconds", "integr8scode_skip_checks",
    # the lab's own, for each of its servers
    "docker_engine_min_version", "docker_compose_min_version", "k3s_checksums", "k3s_release_url", "k3s_token",
    "k3s_stable_seconds", "integr8scode_registry_username", "integr8scode_registry_password",
    "integr8scode_secret_key", "integr8scode_mongo_root_password", "integr8scode_user_password",
    "integr8scode_admin_password", "integr8scode_allow_fake_secrets", "integr8scode_stable_seconds",
    # of one run, or of a wait that leaves nothing to see
    "k3s_ready_timeout_seconds", "kubernetes_access_renew", "kubernetes_access_verify_image",
    "kubernetes_access_verify_settle_seconds", "maintenance_k3s_timeout_seconds", "integr8scode_run",
    "integr8scode_mongo_login_was_changed", "integr8scode_lock_lease_seconds",
    "integr8scode_verify_kubernetes", "integr8scode_consumer_groups",
    # facts of k3s and of the stack
    "kubernetes_access_admin_kubeconfig", "kubernetes_access_verify_network", "integr8scode_kafka_cluster_id",
}  # fmt: skip


def defaults() -> dict[str, Any]:
    """The default of every variable of the roles that make a server."""
    found: dict[str, Any] = {}
    for role in ROLES:
        text = (ROOT / f"roles/{role}/meta/argument_specs.yml").read_text("utf-8")
        for name, option in yaml.safe_load(text)["argument_specs"]["main"]["options"].items():
            found[name] = option.get("default")
    return found


def test_each_variable_is_one_and_set_otherwise() -> None:
    known = defaults()
    assert [name for name in VARIANT if name not in known] == ["lab_index"]
    assert [name for name, value in VARIANT.items() if name in known and known[name] == value] == []


def test_what_is_left_out_has_a_reason() -> None:
    left = {name for name in defaults() if name not in VARIANT}
    vendor = {name for name in left if name.startswith(("docker_vendor_", "backup_copy_"))}
    assert left - vendor == ELSEWHERE
    assert len(VARIANT) > len(left)


def test_what_a_server_keeps_is_what_it_had() -> None:
    assert {name: VARIANT[name] for name in PLAIN} == PLAIN
    assert WORD not in str(PLAIN)


def test_every_image_of_the_stack_has_a_copy() -> None:
    stack = yaml.safe_load((ROOT / "docker-compose.yaml").read_text("utf-8"))["services"]
    images = {service["image"].partition("}/")[2].partition(":")[0] for service in stack.values()}
    assert {to.split("variance/")[1] for _, _, to in repositories()} == images


def test_the_certificate_is_one_that_the_role_takes(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    assert (tmp_path / "server.key").stat().st_mode & 0o077 == 0
    entry = {
        "name": "public", "directory": str(tmp_path), "common_name": "x", "valid_days": 1, "owner": 0, "group": 0,
        "dns_names": VARIANT["integr8scode_public_names"], "ip_addresses": VARIANT["integr8scode_public_addresses"],
        "key_mode": "0400", "certificate_mode": "0444", "directory_mode": "0755", "with_ca": True,
        "provided_certificate": (tmp_path / "server.crt").read_text(),
        "provided_key": (tmp_path / "server.key").read_text(),
    }  # fmt: skip
    chain = certificates.check_provided(certificates.leaf_of(entry))
    assert len(chain) == 2
    (root,) = tools.load_chain((tmp_path / "ca.crt").read_bytes())
    assert tools.issued_by(chain[-1], root)
    assert tools.issued_by(root, root)
    assert not tools.issued_by(chain[0], root)
