"""The same server with its variables taken out again: nothing of what they did is left, but for what says why.

What stays, and the reason:

- the base, MongoDB's root user, the networks' addresses: refused (inventory `plain`); the networks go in the last test
- docker0's address: the role keeps what docker0 has, so that containers go on finding the server
- a name in k3s' certificate: k3s keeps each name that its certificate once had
- settings of the kernel: in force until the next boot; a container's kernel is not its own
- volumes of the profiles, backups, the package age, images of releases that a rollback can go to: data, or needed
- the namespace: it may hold what people made; drift.yml names it with the command that deletes it
"""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.servers.conftest import run
from tests.servers.test_variant import ADMIN, FRONTEND, HTTPS, K3S_AUTHORITY, MIB, NAMESPACE, PROFILES
from tests.servers.variant import (
    BASE,
    CURRENT,
    PLAIN,
    ROOT,
    SCENARIO,
    SERVER,
    VARIANT,
    WORD,
    ask,
    changes,
    containers,
    listening,
    networks,
    settings,
    timer,
    variables_of,
    written,
)

DEFAULTS: dict[str, Any] = yaml.safe_load((ROOT / "roles/integr8scode/defaults/main.yml").read_text("utf-8"))
NETWORK_SETTINGS = {
    f"integr8scode_{name}": DEFAULTS[f"integr8scode_{name}"]
    for name in ("stack_subnet", "proxy_subnet", "proxy_ip_range", "edge_proxy_address")
}
# written by the daemon's role, which leaves docker0 where it is
BRIDGE: str = VARIANT["docker_bridge_address"]


def plain(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a playbook with the inventory that has the variables no more."""
    return run("ansible-playbook", "-i", str(SCENARIO / "plain"), name, *arguments)


def ids(host: Any) -> dict[str, str]:
    """Id of each service's container."""
    return {name: one["Id"] for name, one in containers(host).items()}


def json_variables(variables: dict[str, Any]) -> tuple[str, str]:
    return "-e", json.dumps(variables)


@pytest.fixture(scope="module", autouse=True)
def back() -> None:
    """The run that has to undo everything."""
    done = plain("playbooks/site.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert changes(done.stdout) > 10


@pytest.fixture(scope="module")
def stack(host: Any, back: None) -> dict[str, dict[str, Any]]:
    return containers(host)


def test_no_text_of_the_variant_is_left(host: Any) -> None:
    """In no setting, unit, certificate or file of the running release, nor in a container's definition."""
    record = json.loads(host.file(f"{CURRENT}/release.json").content_string)
    places = ["/etc", "/usr/local/sbin", *(f"{BASE}/{name}" for name in ("edge", "secrets", "tls", "kubeconfig"))]
    places += [f"{CURRENT}/", *record["files"].values()]
    # the scenario's own file
    found = host.run(f"grep -rlI --exclude=own-authority.crt -- {WORD} {' '.join(places)}").stdout.split()
    assert found == []
    names = host.check_output(f"find /etc {BASE} -name '*{WORD}*'")
    assert names == ""
    inspected = host.check_output("docker inspect $(docker ps --all --quiet)")
    assert WORD not in inspected


def test_nobody_listens_any_more(host: Any) -> None:
    assert listening(host, HTTPS, FRONTEND, ADMIN, 6444, *PROFILES.values()) == set()
    assert listening(host, 443, 5001, 8404, 6443) == {443, 5001, 8404, 6443}


def test_the_daemon_is_as_it_is_elsewhere(host: Any) -> None:
    assert written(host, "/etc/docker/daemon.json") == {
        "log-driver": "json-file",
        "log-opts": {"max-size": "10m", "max-file": "3"},
        "live-restore": True,
        "bip": BRIDGE,
        "default-address-pools": [{"base": "172.24.0.0/14", "size": 24}],
        "registry-mirrors": [],
    }
    info = json.loads(host.check_output("docker info --format '{{json .}}'"))
    assert info["DefaultAddressPools"] == [{"Base": "172.24.0.0/14", "Size": 24}]
    assert not info["RegistryConfig"]["Mirrors"]
    assert not info["HttpProxy"]
    assert not info["NoProxy"]
    assert host.check_output("ls /etc/docker/certs.d").split() == ["registry.lab.test"]


def test_a_new_container_has_the_daemons_limits_no_more(host: Any, stack: dict[str, dict[str, Any]]) -> None:
    limits = host.file(f"/proc/{stack['coordinator']['State']['Pid']}/limits").content_string
    (line,) = [one for one in limits.splitlines() if one.startswith("Max open files")]
    assert line.split()[3:5] != ["4096", "8192"]


def test_k3s_is_as_it_is_elsewhere(host: Any) -> None:
    assert written(host, "/etc/rancher/k3s/config.yaml") == {
        "token-file": "/etc/rancher/k3s/token",
        "write-kubeconfig-mode": "0600",
        "tls-san": ["host.docker.internal"],
        "disable": ["traefik", "servicelb"],
    }
    assert ask(host, K3S_AUTHORITY, "host.docker.internal", 6443, "/version")[0] in (200, 401, 403)
    assert "LimitNOFILE=1048576" in host.check_output("systemctl cat k3s.service").splitlines()
    role = yaml.safe_load((ROOT / "roles/k3s/defaults/main.yml").read_text("utf-8"))
    assert host.file("/etc/modules-load.d/k3s.conf").content_string.split() == role["k3s_kernel_modules"]
    lines = host.file("/etc/sysctl.d/90-k3s.conf").content_string.splitlines()
    assert lines == [f"{name} = {value}" for name, value in role["k3s_sysctls"].items()]


def test_timers_and_their_jobs_are_as_they_are_elsewhere(host: Any) -> None:
    for name in ("integr8scode-renew-kubeconfig", "integr8scode-backup"):
        shown = timer(host, f"{name}.timer")
        assert "OnCalendar=*-*-* 00:00:00" in shown
        assert "RandomizedDelayUSec=1h" in shown.splitlines()
        assert "ActiveState=active" in shown
        assert host.check_output(f"systemctl show {name}.service --property=OnFailure --value") == ""
    job = written(host, "/etc/integr8scode/maintenance.d/renew-kubeconfig.json")
    assert (job["namespace"], job["server"]) == ("integr8scode", "https://host.docker.internal:6443")
    assert (job["k3s_restart_days"], job["authority_warning_days"]) == (30, 180)
    assert (job["token_lifetime_seconds"], job["worker_stable_seconds"], job["k3s_stable_seconds"]) == (2592000, 30, 20)
    job = written(host, "/etc/integr8scode/maintenance.d/backup.json")
    assert (job["directory"], job["keep"], job["recipients"]) == ("/var/backups/integr8scode", 7, [])
    assert (job["local_volumes"], job["min_free_mb"], job["timeout"]) == (False, 500, 3600)
    assert host.file("/var/backups/integr8scode").mode == 0o700
    # backups are data: nothing but people removes them
    assert host.check_output(f"ls {VARIANT['backup_directory']}") != ""


def test_the_edge_has_a_certificate_of_the_servers_own_authority(host: Any) -> None:
    authority = f"{BASE}/tls/public/ca.crt"
    for name in (SERVER, "localhost"):
        assert ask(host, authority, name, 443, "/api/v1/health/live")[0] in (200, 429)
        assert ask(host, authority, name, 5001, "/")[0] == 200
    assert "maxconn 1000" in host.file(f"{BASE}/edge/haproxy.cfg").content_string


def test_the_stack_is_as_it_is_elsewhere(stack: dict[str, dict[str, Any]]) -> None:
    assert not stack.keys() & PROFILES.keys()
    prefixes = {name: one["Config"]["Image"].rpartition("/")[0] for name, one in stack.items()}
    assert prefixes["backend"] == prefixes["frontend"] == "registry.lab.test/hardmax71/integr8scode"
    assert (prefixes["mongo"], prefixes["kafka"]) == ("registry.lab.test/library", "registry.lab.test/confluentinc")
    assert stack["coordinator"]["HostConfig"]["Memory"] == 160 * MIB
    (limit,) = [one for one in stack["kafka"]["HostConfig"]["Ulimits"] if one["Name"] == "nofile"]
    assert limit["Hard"] == 20000
    logs = {json.dumps(one["HostConfig"]["LogConfig"]["Config"], sort_keys=True) for one in stack.values()}
    assert logs == {'{"max-file": "3", "max-size": "10m"}'}
    backend = variables_of(stack["backend"])
    assert [backend[f"WEB_{name}"] for name in ("CONCURRENCY", "THREADS", "TIMEOUT")] == ["2", "4", "60"]


def test_what_the_profiles_have_stored_stays_and_no_volume_without_a_name(host: Any) -> None:
    unused = host.check_output("docker volume ls --quiet --filter dangling=true").split()
    assert sorted(unused) == ["integr8scode_grafana_data", "integr8scode_victoria_data"]


def test_the_application_is_told_the_usual(host: Any) -> None:
    config = tomllib.loads(settings(host))
    assert (config["LOG_LEVEL"], config["RATE_LIMITS"], config["K8S_MAX_CONCURRENT_PODS"]) == ("INFO", "100/minute", 10)
    assert (config["ENVIRONMENT"], config["K8S_NAMESPACE"]) == ("lab", "integr8scode")
    assert config["APP_URL"] == f"https://{SERVER}"
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" not in config
    assert config["OTLP_TRACES_ENDPOINT"] == ""


def test_again_changes_nothing(host: Any, stack: dict[str, dict[str, Any]]) -> None:
    done = plain("playbooks/site.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert changes(done.stdout) == 0, done.stdout
    assert {name: one["Id"] for name, one in containers(host).items()} == {
        name: one["Id"] for name, one in stack.items()
    }


def drift(folder: Path, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    """Exit code and findings of drift.yml."""
    done = plain("playbooks/drift.yml", "-e", f"drift_report_dir={folder}", *arguments)
    (server,) = json.loads((folder / "drift.json").read_text())["hosts"]
    return done.returncode, server["findings"]


def test_drift_names_the_former_namespace_and_nothing_else(host: Any, tmp_path: Path) -> None:
    code, found = drift(tmp_path)
    assert [one["id"] for one in found] == [f"kubernetes:Namespace {NAMESPACE}#unknown"]
    assert code == 2
    (cure,) = re.findall(r"k3s kubectl delete namespace \S+", found[0]["cure"])
    host.check_output(cure)
    assert drift(tmp_path) == (0, [])


# -- what a running server keeps


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        (
            {"integr8scode_base": "/opt/integr8scode", "kubernetes_access_directory": "/opt/integr8scode/kubeconfig"},
            f"put integr8scode_base back to {BASE}",
        ),
        ({"integr8scode_base": "/opt/integr8scode"}, "set kubernetes_access_directory: /opt/integr8scode/kubeconfig"),
        ({"kubernetes_access_directory": "/opt/other"}, f"set kubernetes_access_directory: {BASE}/kubeconfig"),
        (NETWORK_SETTINGS, f"cd {BASE}/current && docker compose down"),
    ],
    ids=["base", "base alone", "kubeconfigs", "networks"],
)
def test_what_cannot_be_changed_is_refused_before_anything_is(host: Any, variables: dict[str, Any], says: str) -> None:
    before = ids(host)
    done = plain("playbooks/site.yml", *json_variables(variables))
    output = re.sub(r"\s+", " ", done.stdout)
    assert done.returncode == 2, output
    assert says in output
    assert "Nothing was changed." in output
    assert changes(done.stdout) == 0
    assert ids(host) == before
    assert not host.file("/opt/integr8scode").exists


def test_another_root_user_of_mongo_is_refused(host: Any) -> None:
    before = ids(host)
    done = plain("playbooks/site.yml", *json_variables({"integr8scode_mongo_root_username": "root"}))
    assert done.returncode == 2, done.stdout
    assert "keeps that login" in re.sub(r"\s+", " ", done.stdout)
    assert ids(host) == before


def test_networks_are_made_anew_as_the_refusal_says(host: Any, tmp_path: Path) -> None:
    assert networks(host)["integr8scode"]["Subnet"] == PLAIN["integr8scode_stack_subnet"]
    made = "docker volume inspect integr8scode_mongo_data --format '{{.CreatedAt}}'"
    volume = host.check_output(made)
    host.check_output(f"cd {CURRENT} && docker compose down")
    usual = json_variables(NETWORK_SETTINGS)
    done = plain("playbooks/site.yml", *usual)
    assert done.returncode == 0, done.stdout + done.stderr
    found = networks(host)
    assert found["integr8scode"]["Subnet"] == NETWORK_SETTINGS["integr8scode_stack_subnet"]
    assert found["integr8scode_proxy"]["IPRange"] == NETWORK_SETTINGS["integr8scode_proxy_ip_range"]
    again = plain("playbooks/site.yml", *usual)
    assert (again.returncode, changes(again.stdout)) == (0, 0), again.stdout
    assert drift(tmp_path, *usual) == (0, [])
    # the deploy has logged in: with what Mongo kept in its volume
    assert host.check_output(made) == volume
