"""Most variables set otherwise: each can be seen on the server, and nothing is where the defaults would have put it."""

from __future__ import annotations

import base64
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.servers.variant import (
    BASE,
    CURRENT,
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

MIB = 2**20
NAMESPACE: str = VARIANT["kubernetes_access_namespace"]
NAMES: list[str] = VARIANT["integr8scode_public_names"]
HTTPS, FRONTEND, ADMIN = (VARIANT[f"integr8scode_{name}_port"] for name in ("https", "frontend", "edge_admin"))
K3S_AUTHORITY = "/var/lib/rancher/k3s/server/tls/server-ca.crt"
PROFILES = {"victoria-metrics": 8428, "otel-collector": 13133, "jaeger": 16686, "grafana": 3000, "kafdrop": 9000}


@pytest.fixture(scope="module")
def stack(host: Any) -> dict[str, dict[str, Any]]:
    return containers(host)


def test_nothing_is_where_the_defaults_have_it(host: Any) -> None:
    for path in ("/opt/integr8scode", "/var/backups/integr8scode"):
        assert not host.file(path).exists, path
    assert listening(host, 443, 5001, 8404, 6443) == set()
    assert "namespace/integr8scode" not in host.check_output("k3s kubectl get namespaces --output name").split()


# -- docker


def test_the_daemon_has_its_settings(host: Any) -> None:
    assert written(host, "/etc/docker/daemon.json") == {
        "log-driver": "json-file",
        "log-opts": {"max-size": "7m", "max-file": "4"},
        "live-restore": True,
        "bip": VARIANT["docker_bridge_address"],
        "default-address-pools": VARIANT["docker_address_pools"],
        "registry-mirrors": VARIANT["docker_registry_mirrors"],
        "proxies": {
            "http-proxy": VARIANT["docker_http_proxy"],
            "no-proxy": ",".join(VARIANT["docker_no_proxy"]),
        },
        "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 4096, "Hard": 8192}},
        **VARIANT["docker_daemon_options"],
    }
    info = json.loads(host.check_output("docker info --format '{{json .}}'"))
    assert info["DefaultAddressPools"] == [{"Base": "172.28.0.0/15", "Size": 26}]
    assert info["RegistryConfig"]["Mirrors"] == [f"{one}/" for one in VARIANT["docker_registry_mirrors"]]
    assert VARIANT["docker_bridge_address"] in host.check_output("ip -brief address show docker0")


def test_a_container_without_limits_of_its_own_has_the_daemons(host: Any, stack: dict[str, dict[str, Any]]) -> None:
    limits = host.file(f"/proc/{stack['coordinator']['State']['Pid']}/limits").content_string
    (line,) = [one for one in limits.splitlines() if one.startswith("Max open files")]
    assert line.split()[3:5] == ["4096", "8192"]


def test_each_registry_has_its_authority(host: Any, lab_home: Path) -> None:
    for registry, file in (("registry.lab.test", "ca.crt"), (f"mirror.{WORD}.lab.test:5443", "site-variant/ca.crt")):
        installed = host.file(f"/etc/docker/certs.d/{registry}/ca.crt").content_string
        assert (lab_home / "state" / file).read_text().strip() in installed


# -- k3s and who reaches it


def test_k3s_has_its_settings_and_listens_there(host: Any) -> None:
    config = written(host, "/etc/rancher/k3s/config.yaml")
    assert config == {
        "token-file": "/etc/rancher/k3s/token",
        "write-kubeconfig-mode": "0600",
        "node-ip": VARIANT["k3s_node_ip"],
        "tls-san": VARIANT["k3s_tls_sans"],
        "disable": VARIANT["k3s_disable"],
        **VARIANT["k3s_config"],
    }
    for name in VARIANT["k3s_tls_sans"]:
        assert ask(host, K3S_AUTHORITY, name, 6444, "/version")[0] in (200, 401, 403), name
    assert "LimitNOFILE=262144" in host.check_output("systemctl cat k3s.service").splitlines()
    assert host.file("/etc/modules-load.d/k3s.conf").content_string.split() == VARIANT["k3s_kernel_modules"]
    lines = host.file("/etc/sysctl.d/90-k3s.conf").content_string.splitlines()
    assert lines == [f"{name} = {value}" for name, value in VARIANT["k3s_sysctls"].items()]


def test_the_workers_have_their_rights_in_that_namespace(host: Any) -> None:
    accounts = host.check_output(f"k3s kubectl -n {NAMESPACE} get serviceaccounts,roles,rolebindings --output name")
    assert len([one for one in accounts.split() if one.endswith(("/k8s-worker", "/pod-monitor"))]) == 6
    for worker in ("k8s-worker", "pod-monitor"):
        kubeconfig = written(host, f"{VARIANT['kubernetes_access_directory']}/{worker}.yaml")
        assert kubeconfig["clusters"][0]["cluster"]["server"] == VARIANT["kubernetes_access_server"]
        payload = kubeconfig["users"][0]["user"]["token"].split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        assert claims["kubernetes.io"]["namespace"] == NAMESPACE
        assert claims["exp"] - claims["iat"] == pytest.approx(172800, abs=60)


# -- what the server does by itself


def test_timers_and_their_jobs(host: Any) -> None:
    for name, hour, delay in (
        ("integr8scode-renew-kubeconfig", "*-*-* 04:30:00", "2min"),
        ("integr8scode-backup", "*-*-* 05:15:00", "4min"),
    ):
        shown = timer(host, f"{name}.timer")
        assert f"OnCalendar={hour}" in shown
        assert f"RandomizedDelayUSec={delay}" in shown.splitlines()
        assert "ActiveState=active" in shown
        unit = host.check_output(f"systemctl show {name}.service --property=OnFailure --value")
        assert unit == f"alarm-of-the-{WORD}.service"
    job = written(host, "/etc/integr8scode/maintenance.d/renew-kubeconfig.json")
    assert {name: job[name] for name in job if name.startswith(("k3s_", "authority_", "worker_", "token_"))} == {
        "k3s_node_name": "",
        "k3s_restart_days": 20,
        "k3s_stable_seconds": 12,
        "k3s_timeout_seconds": 300,
        "authority_warning_days": 200,
        "worker_stable_seconds": 12,
        "token_lifetime_seconds": 172800,
    }
    assert (job["namespace"], job["server"]) == (NAMESPACE, VARIANT["kubernetes_access_server"])
    assert job["directory"] == VARIANT["kubernetes_access_directory"]
    job = written(host, "/etc/integr8scode/maintenance.d/backup.json")
    assert (job["directory"], job["base"], job["keep"]) == (VARIANT["backup_directory"], BASE, 3)
    assert (job["recipients"], job["local_volumes"]) == (VARIANT["backup_age_recipients"], True)
    assert (job["min_free_mb"], job["timeout"]) == (400, 900)


def test_a_backup_lies_there_and_is_encrypted(host: Any) -> None:
    host.check_output("systemctl start integr8scode-backup.service")
    names = host.check_output(f"ls {VARIANT['backup_directory']}").split()
    assert {name.split("-")[0] for name in names if name.endswith(".tar.gz.age")} == {"k3s", "application"}, names
    assert not [name for name in names if name.endswith(".tar.gz")]


def test_the_renewal_knows_where_everything_is(host: Any) -> None:
    host.check_output("systemctl start integr8scode-renew-kubeconfig.service")


# -- the stack


def test_the_edge_answers_there_with_the_given_certificate(host: Any, lab_home: Path) -> None:
    answers = {
        ask(host, VARIANT["integr8scode_tls_ca_file"], name, port, path)
        for name in NAMES
        for port, path in ((HTTPS, "/api/v1/health/live"), (FRONTEND, "/"))
    }
    # 429: the limiter's refusal is an answer, too
    assert {status for status, _ in answers} <= {200, 429}
    assert len({digest for _, digest in answers}) == 1
    chain = (lab_home / "state/site-variant/server.crt").read_text()
    assert host.file(f"{BASE}/tls/public/server.crt").content_string.strip() == chain.strip()
    # the server's own authority did not sign it
    assert not host.file(f"{BASE}/tls/public/ca.crt").exists


def test_who_listens(host: Any) -> None:
    wanted = {HTTPS, FRONTEND, ADMIN, 6444, *PROFILES.values()}
    assert listening(host, *wanted) == wanted
    assert "maxconn 700" in host.file(f"{BASE}/edge/haproxy.cfg").content_string


def test_images_come_from_the_other_repositories(stack: dict[str, dict[str, Any]]) -> None:
    images = {name: one["Config"]["Image"] for name, one in stack.items()}
    own = VARIANT["integr8scode_app_registry"]
    assert {name for name, image in images.items() if image.startswith(f"{own}/")} > {"backend", "frontend"}
    others = (f"{own}/", f"{VARIANT['integr8scode_hub_registry']}/")
    assert [image for image in images.values() if not image.startswith(others)] == []


def test_limits_and_logs(stack: dict[str, dict[str, Any]]) -> None:
    assert stack["coordinator"]["HostConfig"]["Memory"] == 176 * MIB
    for name in ("mongo", "kafka"):
        (limit,) = [one for one in stack[name]["HostConfig"]["Ulimits"] if one["Name"] == "nofile"]
        assert (limit["Soft"], limit["Hard"]) == (16384, 16384)
    logs = {json.dumps(one["HostConfig"]["LogConfig"]["Config"], sort_keys=True) for one in stack.values()}
    assert logs == {'{"max-file": "2", "max-size": "5m"}'}
    backend = variables_of(stack["backend"])
    assert [backend[f"WEB_{name}"] for name in ("CONCURRENCY", "THREADS", "TIMEOUT")] == ["3", "2", "50"]


def test_the_profiles_run(stack: dict[str, dict[str, Any]]) -> None:
    assert stack.keys() > PROFILES.keys()
    assert "--retentionPeriod=11d" in stack["victoria-metrics"]["Config"]["Cmd"]


def test_the_application_is_told(host: Any) -> None:
    config = tomllib.loads(settings(host))
    assert {name: config[name] for name in VARIANT["integr8scode_config"]} == VARIANT["integr8scode_config"]
    assert config["ENVIRONMENT"] == WORD
    # where pods are made is where the workers have their rights
    assert config["K8S_NAMESPACE"] == NAMESPACE
    assert config["APP_URL"] == f"https://{NAMES[0]}"
    origins = {f"https://{name}" for name in [*NAMES, *VARIANT["integr8scode_public_addresses"]]}
    assert set(config["CORS_ORIGINS"]) == origins | {f"{one}:{FRONTEND}" for one in origins}
    assert config["OTEL_EXPORTER_OTLP_ENDPOINT"]


def test_the_networks_have_their_addresses(host: Any, stack: dict[str, dict[str, Any]]) -> None:
    found = networks(host)
    assert found["integr8scode"]["Subnet"] == VARIANT["integr8scode_stack_subnet"]
    assert found["integr8scode_proxy"]["Subnet"] == VARIANT["integr8scode_proxy_subnet"]
    assert found["integr8scode_proxy"]["IPRange"] == VARIANT["integr8scode_proxy_ip_range"]
    edge = stack["edge"]["NetworkSettings"]["Networks"]["integr8scode_proxy"]["IPAddress"]
    assert edge == VARIANT["integr8scode_edge_proxy_address"]
    backend = variables_of(stack["frontend"])["BACKEND_URL"]
    assert backend == f"https://{edge}:8443"


def test_how_releases_are_switched(host: Any) -> None:
    """The newest switch as it was asked for."""
    job = written(host, host.check_output("ls -td /var/lib/integr8scode/runs/*/ | head -n 1") + "job.json")["settings"]
    names = ("healthy_timeout", "drain", "stream", "executions_wait")
    assert [job[f"{name}_seconds"] for name in names] == [280, 20, 3, 20]
    assert (job["workers_at_once"], job["keep_releases"], job["verify_username"]) == (3, 3, "admin")
    assert (job["server_name"], job["ca"]) == (NAMES[0], VARIANT["integr8scode_tls_ca_file"])
    assert job["kubernetes"]["namespace"] == NAMESPACE
    assert (job["backup_directory"], job["age_recipients"]) == (
        VARIANT["backup_directory"],
        VARIANT["backup_age_recipients"],
    )


def test_plain_compose_knows_it(host: Any, stack: dict[str, dict[str, Any]]) -> None:
    assert set(host.check_output(f"cd {CURRENT} && docker compose ps --services").split()) == stack.keys()


# -- and the playbooks that only look. With the fixture `host` as all others: pytest sorts by it, and runs those without
# it after the variables were taken out again


@pytest.mark.usefixtures("host")
def test_drift_compares_with_the_same_variables(playbook: Any, tmp_path: Path) -> None:
    done = playbook("playbooks/drift.yml", "-e", f"drift_report_dir={tmp_path}")
    (server,) = json.loads((tmp_path / "drift.json").read_text())["hosts"]
    assert (done.returncode, server["findings"]) == (0, []), done.stdout
    assert changes(done.stdout) == 0


@pytest.mark.usefixtures("host")
def test_the_doctor_looks_where_everything_is(playbook: Any, tmp_path: Path) -> None:
    report = tmp_path / "doctor.json"
    # the others judge the machine that the server runs on
    checks = ["stack_unit", "containers", "edge", "kubernetes_access", "certificates", "tokens", "jobs"]
    wanted = json.dumps({"doctor_checks": checks, "doctor_file": str(report)})
    done = playbook("playbooks/doctor.yml", "-e", wanted)
    assert done.returncode == 0, done.stdout
    (server,) = json.loads(report.read_text())["servers"]
    assert {one["status"] for one in server["findings"]} == {"ok"}, server
