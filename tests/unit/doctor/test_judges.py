"""Each check can fail, names what is wrong, and gives a cure; a server that is well has nothing to say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.doctor.examination import CHECKS, NAMES, registry_host

from .conftest import DAY, NOW, SERVICES, Case


def test_a_server_that_is_well_says_so_once_for_each_check(case: Case) -> None:
    findings = case.findings()
    assert [(one.check, one.status) for one in findings] == [(name, "ok") for name in NAMES]


def test_a_check_that_is_asked_for_alone_comes_alone(case: Case) -> None:
    assert {one.check for one in case.findings("disk", "clock")} == {"disk", "clock"}


@pytest.mark.parametrize("check", [one.name for one in CHECKS])
def test_a_silent_server_is_never_well(case: Case, check: str) -> None:
    """Nothing answered: no check may say ok, and none may crash."""
    case.silent = dict.fromkeys(case.at, "no answer within 15 s")
    assert {one.status for one in case.findings(check)} <= {"problem", "unknown"}


@pytest.mark.parametrize("probe", ["docker", "k3s", "units", "logs", "memory", "records", "inside", "kafka"])
def test_one_silent_probe_costs_its_own_checks_only(case: Case, probe: str) -> None:
    case.silent = {probe: "no answer within 15 s"}
    well = {one.check for one in case.findings() if one.status == "ok"}
    assert {"disk", "clock", "tokens", "edge"} <= well
    assert not well & {check.name for check in CHECKS if probe in check.needs}


def test_an_answer_that_nobody_foresaw_is_a_finding(case: Case) -> None:
    case.at["disks"] = [{"surprise": 1}]
    (found,) = case.bad("disk")
    assert found.status == "unknown"
    assert "KeyError" in found.found


# -- Docker and the stack


def test_dead_docker_is_one_problem_and_what_needs_it_is_unknown(case: Case) -> None:
    for name in ("docker", "logs", "mongo", "kafka", "redis", "kafka_volume", "inside"):
        case.silent[name] = "the Docker Engine does not answer"
    case.at["units"]["units"]["docker.service"].update(ActiveState="failed", Result="start-limit-hit")
    case.at["units"]["docker_lines"] = ["docker.service: Start request repeated too quickly."]
    bad = case.bad()
    (docker,) = [one for one in bad if one.status == "problem"]
    assert docker.check == "docker"
    assert "systemd gave up" in docker.found
    assert "reset-failed" in docker.cure
    assert {one.status for one in bad if one is not docker} == {"unknown"}


@pytest.mark.parametrize(
    ("unit", "line", "cure"),
    [
        ({"LoadState": "not-found"}, "", "playbooks/site.yml --limit app1"),
        ({"ActiveState": "active"}, "", "systemctl restart docker"),
        (
            {"ActiveState": "failed"},
            "unable to configure the Docker daemon with file /etc/docker/daemon.json",
            "--tags docker",
        ),
    ],
)
def test_dead_docker_has_the_cure_of_its_cause(case: Case, unit: dict[str, str], line: str, cure: str) -> None:
    case.silent["docker"] = "no answer within 15 s"
    case.at["units"]["units"]["docker.service"].update(unit)
    case.at["units"]["docker_lines"] = [line]
    (found,) = case.bad("docker")
    assert cure in found.cure


@pytest.mark.parametrize(
    ("unit", "status", "cure"),
    [
        ({"LoadState": "not-found"}, "problem", "site.yml"),
        ({"ActiveState": "failed"}, "problem", "journalctl -u integr8scode"),
        ({"UnitFileState": "disabled"}, "problem", "systemctl enable integr8scode"),
        ({"ActiveState": "inactive"}, "warning", "systemctl start integr8scode"),
    ],
)
def test_the_stacks_unit(case: Case, unit: dict[str, str], status: str, cure: str) -> None:
    case.at["units"]["units"]["integr8scode.service"].update(unit)
    assert cure in case.only("stack_unit", status).cure


def test_dead_docker_is_told_without_systemds_words(case: Case) -> None:
    case.silent = {"docker": "no answer within 15 s", "units": "no answer within 15 s"}
    (found,) = case.bad("docker")
    assert (found.status, bool(found.cure)) == ("problem", True)


def test_no_release(case: Case) -> None:
    case.at["records"]["release"] = None
    (found,) = case.bad("stack_unit")
    assert "No release" in found.found
    case.at["records"]["dangling"] = True
    assert "/opt/integr8scode/current" in case.bad("stack_unit")[0].found


def test_a_missing_container(case: Case) -> None:
    case.at["docker"]["containers"].remove(case.service("frontend"))
    found = case.only("containers", "problem")
    assert found.item == "frontend"
    assert found.cure == "ansible-playbook playbooks/site.yml --limit app1 --tags integr8scode"


# what the programs write (the stack's facts), and what the doctor makes of it
SAYINGS = {
    "mongo_login": "pymongo.errors.OperationFailure: Authentication failed., full error: {'ok': 0.0, 'code': 18}",
    "mongodb_url": "pymongo.errors.InvalidURI: Username and password must be escaped according to RFC 3986",
    "config_file": "IsADirectoryError: [Errno 21] Is a directory: '/app/config.k8s-worker.toml'",
    "unknown_key": "pydantic_core.ValidationError: 1 validation error for Settings [type=extra_forbidden",
    "secret_key": "1 validation error for Settings SECRET_KEY String should have at least 32 characters",
    "toml": "tomllib.TOMLDecodeError: Unescaped '\\' in a string (at line 2, column 14)",
    "kubeconfig": "kubernetes_asyncio.config.ConfigException: Invalid kube-config. Expected key current-context",
    "kubernetes_unreachable": "Cannot connect to host host.docker.internal:6443 ssl:default [Connect call failed]",
    "kubernetes_unauthorized": '(401) Reason: Unauthorized HTTP response body: {"reason":"Unauthorized"}',
    "cluster_id": "org.apache.kafka.common.errors.InconsistentClusterIdException: The Cluster ID a doesn't match",
    "unknown_topic": "UnknownTopicOrPartitionError: topic prod_execution_requested",
    "kafka_unreachable": "aiokafka.errors.KafkaConnectionError: Unable to bootstrap from [('kafka', 29092)]",
    "mongo_unreachable": "pymongo.errors.ServerSelectionTimeoutError: mongo:27017: timed out",
    "redis_unreachable": "redis.exceptions.ConnectionError: Error 111 connecting to redis:6379.",
    "upstream": '2026/02/20 [emerg] 1#1: host not found in upstream "backend" in /etc/nginx/conf.d/default.conf:24',
    "no_room": "write failed: No space left on device",
    "open_files": "OSError: [Errno 24] Too many open files",
    "open_files_limit": "error during container init: error setting rlimit type 7: operation not permitted: unknown",
    "processor": "MongoDB 5.0+ requires a CPU with AVX support, and your current system does not appear to have that!",
    "certificate": "[ALERT] config : parsing [/etc/edge/haproxy.cfg:38] : unable to load certificate from file",
    "java_memory": "java.lang.OutOfMemoryError: Java heap space",
}


@pytest.mark.parametrize("name", SAYINGS)
def test_a_crash_is_told_with_its_cause_and_last_words(case: Case, name: str) -> None:
    one = case.service("k8s-worker")
    one.update(state="restarting", restarts=7, exit_code=1, pid=0)
    case.at["logs"][one["name"]] = ["INFO starting", SAYINGS[name], "INFO bye"]
    (found,) = case.bad("containers")
    assert found.item == "k8s-worker"
    assert SAYINGS[name] in found.lines
    assert "restarts again and again (7 times; exit code 1)" in found.found
    from ansible.module_utils.doctor.signatures import SIGNATURES

    meaning = next(one.meaning for one in SIGNATURES if one.name == name)
    assert meaning in found.found
    assert "{" not in found.cure


def test_every_signature_has_a_saying() -> None:
    from ansible.module_utils.doctor.signatures import SIGNATURES, matches

    assert {one.name for one in SIGNATURES} == set(SAYINGS)
    for name, line in SAYINGS.items():
        assert name in [match.signature.name for match in matches([line])]


def test_harmless_lines_are_no_signatures() -> None:
    from ansible.module_utils.doctor.signatures import matches

    harmless = ["INFO MongoDB initialized via Beanie", "login accepted", "INFO topic created", "kubeconfig loaded"]
    assert matches(harmless) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"state": "exited", "exit_code": 137, "pid": 0}, "killed (SIGKILL"),
        ({"state": "created", "error": "port is already allocated", "pid": 0}, "port is already allocated"),
        ({"state": "paused"}, "is paused"),
        ({"health": "unhealthy"}, "is unhealthy"),
    ],
)
def test_a_container_that_does_not_serve(case: Case, changes: dict[str, Any], words: str) -> None:
    case.service("backend").update(changes)
    (found,) = case.bad("containers")
    assert (found.status, found.item) == ("problem", "backend")
    assert words in found.found
    assert found.cure


@pytest.mark.parametrize("changes", [{"health": "starting"}, {"restarts": 4}])
def test_a_container_that_may_come_up_is_a_warning(case: Case, changes: dict[str, Any]) -> None:
    case.service("backend").update(changes)
    assert case.only("containers", "warning").item == "backend"


def test_containers_of_another_installation(case: Case) -> None:
    case.at["docker"]["foreign"] = ["backend"]
    assert "docker compose ls" in case.only("containers", "problem").cure


def test_a_complaint_of_a_program_that_runs_on(case: Case) -> None:
    """pod-monitor stays up while it cannot reach Kubernetes."""
    for name in ("pod-monitor", "k8s-worker"):
        case.at["logs"][f"integr8scode-{name}-1"] = [SAYINGS["kubernetes_unreachable"]]
    found = case.only("log_signatures", "warning")
    assert found.found.startswith("k8s-worker, pod-monitor wrote")


@pytest.mark.parametrize("kind", ["missing", "directory"])
def test_a_workers_configuration_is_not_a_file(case: Case, kind: str) -> None:
    case.service("pod-monitor")["mounts"][-1]["kind"] = kind
    found = case.only("worker_config", "problem")
    assert found.item == "pod-monitor"
    assert "config.pod-monitor.toml" in found.found
    assert ("rmdir /opt/integr8scode/files/c/config.pod-monitor.toml" in found.cure) == (kind == "directory")


def test_a_worker_that_mounts_no_configuration_of_its_own(case: Case) -> None:
    case.service("coordinator")["mounts"].pop()
    assert "mounts no /app/config.coordinator.toml" in case.only("worker_config", "problem").found


# -- services


def test_wrong_mongo_password(case: Case) -> None:
    case.at["mongo"] = {"places": {"mongo's own secret files": "refused", "secrets.toml": "refused"}, "same": True}
    found = case.only("mongo", "problem")
    assert "secrets.toml" in found.found
    assert found.cure.endswith("-e integr8scode_mongo_login_was_changed=true")


def test_secrets_that_differ(case: Case) -> None:
    case.at["mongo"]["same"] = False
    case.only("mongo", "warning")


def test_a_login_that_cannot_be_read(case: Case) -> None:
    case.at["mongo"]["places"]["secrets.toml"] = "MONGODB_URL in secrets.toml is no URL"
    assert case.only("mongo", "problem").item == "secrets.toml"


@pytest.mark.parametrize("service", ["mongo", "kafka", "redis"])
def test_a_service_that_does_not_answer(case: Case, service: str) -> None:
    case.silent[service] = "timed out"
    (found,) = case.bad(service)
    assert found.status == "problem"
    assert f"docker compose logs --tail 100 {service}" in found.cure


def test_redis_that_answers_something_else(case: Case) -> None:
    case.at["redis"]["answer"] = "-NOAUTH Authentication required."
    assert "NOAUTH" in case.only("redis", "problem").found


def test_kafka_without_a_controller(case: Case) -> None:
    case.at["kafka"]["controller"] = -1
    assert "not ready" in case.only("kafka", "problem").found


def test_kafka_that_cannot_tell_its_groups(case: Case) -> None:
    case.at["kafka"]["groups"] = None
    case.only("kafka", "warning")


def test_a_worker_outside_of_its_group(case: Case) -> None:
    case.at["kafka"]["groups"]["execution-coordinator"] = 0
    assert "coordinator runs, but is not in its consumer group" in case.only("kafka", "warning").found


def test_a_topic_with_another_prefix(case: Case) -> None:
    case.at["logs"]["integr8scode-coordinator-1"] = [SAYINGS["unknown_topic"]]
    (found,) = case.bad("kafka_topics")
    assert found.status == "problem"
    assert "prod_execution_requested; Kafka has dev_execution_requested" in found.found


def test_an_unknown_topic_that_may_pass(case: Case) -> None:
    case.at["logs"]["integr8scode-coordinator-1"] = ["UnknownTopicOrPartitionError: not there yet"]
    (found,) = case.bad("kafka_topics")
    assert found.status == "warning"
    assert "kafka-topics --list" in found.cure


def test_partitions_without_a_leader(case: Case) -> None:
    case.at["kafka"]["topics"]["dev_execution_requested"] = 3
    assert "without a leader" in case.only("kafka_topics", "problem").found


@pytest.mark.parametrize("place", ["container", "release"])
def test_another_cluster_id_than_the_volumes(case: Case, place: str) -> None:
    if place == "container":
        case.at["kafka_volume"]["container"] = "AAAAAAAAAAAAAAAAAAAAAA"
    else:
        case.at["records"]["environment"]["KAFKA_CLUSTER_ID"] = "AAAAAAAAAAAAAAAAAAAAAA"
    found = case.only("kafka_cluster_id", "problem")
    assert f"the {place} has AAAA" in found.found
    assert "integr8scode_kafka_cluster_id: MkU3OEVBNTcwNTJENDM2Qk" in found.cure


@pytest.mark.parametrize("source", ["", "/var/lib/docker/v"])
def test_kafka_without_a_formatted_volume(case: Case, source: str) -> None:
    case.at["kafka_volume"].update(volume="", source=source)
    case.only("kafka_cluster_id", "warning")


@pytest.mark.parametrize(
    ("status", "problem", "judged", "words"),
    [
        (429, "", "warning", "too many requests"),
        (503, "", "problem", "no healthy backend"),
        (0, "Connection refused", "problem", "Connection refused"),
        (404, "", "problem", "404"),
    ],
)
def test_what_the_edge_answers(case: Case, status: int, problem: str, judged: str, words: str) -> None:
    case.at["edge"]["api"].update(status=status, problem=problem)
    assert words in case.only("edge", judged).found


# -- k3s and the way to it


def test_k3s_that_crashes_points_to_the_recovery(case: Case) -> None:
    cause = {"id": "node_ip_stale", "sentence": "node-ip names an old address.", "evidence": ["node-ip 192.0.2.9"],
             "rung": "configuration", "cure": "", "details": {}}  # fmt: skip
    case.at["k3s"].update(healthy=False, causes=[cause])
    found = case.only("k3s", "problem")
    assert found.cure == "ansible-playbook playbooks/recover-k3s.yml --limit app1"
    assert found.lines == ["node-ip 192.0.2.9"]


def test_a_cause_that_a_person_has_to_heal_keeps_its_cure(case: Case) -> None:
    cause = {
        "id": "disk_full",
        "sentence": "The disk is full.",
        "evidence": [],
        "rung": "",
        "cure": "make room",
        "details": {},
    }
    case.at["k3s"].update(healthy=False, causes=[cause])
    cure = case.only("k3s", "problem").cure
    assert cure.startswith("make room. ")
    assert cure.endswith("ansible-playbook playbooks/recover-k3s.yml --limit app1 --check")


def test_k3s_that_is_not_there(case: Case) -> None:
    case.at["k3s"].update(healthy=False, refusal="k3s is not installed. Nothing has been changed.", installed=False)
    found = case.only("k3s", "problem")
    assert "site.yml" in found.cure
    assert "changed" not in found.found


def test_k3s_that_is_not_well_for_no_known_cause(case: Case) -> None:
    case.at["k3s"].update(healthy=False, api_problem="connection refused")
    assert "connection refused" in case.only("k3s", "problem").found


def test_k3s_cautions_are_warnings(case: Case) -> None:
    case.at["k3s"]["warnings"] = ["k3s.service is not enabled."]
    assert case.only("k3s", "warning").found == "k3s.service is not enabled."


def test_vpn(case: Case) -> None:
    case.at["k3s"]["network"] = ["The WireGuard interface nordlynx took the default route."]
    assert "lan-discovery enabled" in case.only("vpn", "warning").cure


@pytest.mark.parametrize(
    ("firewalls", "cure"),
    [
        (["ufw"], "ufw allow in on br-integr8scode to any port 6443 proto tcp"),
        (["firewalld"], "firewall-cmd"),
        ([], "dport 6443 accept"),
    ],
)
def test_a_firewall_between_the_bridge_and_the_api(case: Case, firewalls: list[str], cure: str) -> None:
    case.at["inside"].update(reached="timeout", kubernetes={})
    case.at["firewalls"] = firewalls
    found = case.only("kubernetes_access", "problem")
    assert "a firewall drops" in found.found
    assert cure in found.cure


def test_a_bridge_that_has_moved(case: Case) -> None:
    case.at["inside"].update(reached="timeout", gateway="172.18.0.1")
    assert "has moved" in case.only("kubernetes_access", "problem").found


def test_a_bind_address_that_leaves_the_bridge_out(case: Case) -> None:
    case.at["inside"].update(reached="refused")
    assert "bind-address" in case.only("kubernetes_access", "problem").cure


def test_an_api_that_is_down_is_no_firewall(case: Case) -> None:
    case.at["inside"].update(reached="refused", host="refused")
    assert "recover-k3s.yml" in case.only("kubernetes_access", "problem").cure


@pytest.mark.parametrize(
    ("answer", "cure"),
    [
        ({"status": 401, "kind": "", "problem": ""}, "-e renew_force=true"),
        ({"status": 0, "kind": "tls", "problem": "unable to get local issuer certificate"}, "renew-kubeconfig.yml"),
        ({"status": 0, "kind": "kubeconfig", "problem": "it is not YAML"}, "renew-kubeconfig.yml"),
        ({"status": 500, "kind": "", "problem": ""}, "recover-k3s.yml"),
    ],
)
def test_a_worker_that_the_api_does_not_take(case: Case, answer: dict[str, Any], cure: str) -> None:
    case.at["inside"]["kubernetes"]["pod-monitor"] = answer
    found = case.only("kubernetes_access", "problem")
    assert found.item == "pod-monitor"
    assert cure in found.cure


def test_names_inside_the_stack(case: Case) -> None:
    case.at["inside"]["dns"]["mongo"] = "no such name (NXDOMAIN)"
    assert "mongo: no such name" in case.only("stack_dns", "problem").found


def test_neighbours_inside_the_stack(case: Case) -> None:
    case.at["inside"]["neighbours"]["kafka"] = "timeout"
    assert "kafka: timeout" in case.only("stack_dns", "problem").found


# -- the server


def test_dns(case: Case) -> None:
    case.at["names"]["names"]["registry.example"] = {"addresses": [], "problem": "Name or service not known"}
    found = case.only("dns", "problem")
    assert "registry.example: Name or service not known" in found.found
    case.at["names"]["servers"] = []
    assert "names no server" in case.only("dns", "problem").found


def test_dns_without_a_name_to_ask_for_is_not_well(case: Case) -> None:
    case.at["names"]["names"] = {}
    assert [one.status for one in case.bad("dns")] == ["unknown"]


def test_registries_are_what_is_resolved() -> None:
    assert registry_host("ghcr.io/hardmax71/x:1") == "ghcr.io"
    assert registry_host("registry.example:5000/x") == "registry.example"
    assert registry_host("library/mongo:8") == ""
    assert registry_host("127.0.0.1:5000/x") == ""


@pytest.mark.parametrize(("ahead", "status"), [(40, "warning"), (-3600, "problem")])
def test_a_clock_that_is_wrong(case: Case, ahead: float, status: str) -> None:
    case.at["clock"]["time"] = NOW + ahead
    assert ("ahead of" if ahead > 0 else "behind") in case.only("clock", status).found


def test_a_clock_that_nobody_keeps(case: Case) -> None:
    case.at["clock"].update(synchronized=False, keeper=False)
    assert "switched off" in case.only("clock", "warning").found


def test_a_containers_clock_is_not_its_own_business(case: Case) -> None:
    case.at["clock"].update(container=True, synchronized=None, keeper=None)
    assert case.bad("clock") == []


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"free_percent": 1.0}, "problem"),
        ({"free_mib": 100}, "problem"),
        ({"free_percent": 8.0}, "warning"),
        ({"inodes_percent": 0.0}, "problem"),
        ({"inodes_percent": 7.0}, "warning"),
        ({"read_only": True}, "problem"),
    ],
)
def test_a_disk(case: Case, changes: dict[str, Any], status: str) -> None:
    case.at["disks"][0].update(changes)
    assert case.only("disk", status).item == "/"


def test_a_file_system_that_counts_no_inodes_is_well(case: Case) -> None:
    case.at["disks"][0]["inodes_percent"] = None
    assert case.bad("disk") == []


def test_little_memory(case: Case) -> None:
    case.at["memory"]["available_mib"] = 120
    assert "120 MiB" in case.only("memory", "problem").found


def test_a_budget_that_is_over_the_servers_memory(case: Case) -> None:
    case.at["memory"]["total_mib"] = 4000
    assert "add up to" in case.only("memory", "warning").found


def test_a_worker_close_to_its_limit(case: Case) -> None:
    case.service("coordinator")["memory"]["used"] = 155 << 20
    found = case.only("memory", "warning")
    assert found.item == "coordinator"
    assert "integr8scode_worker_memory" in found.cure


@pytest.mark.parametrize("changes", [{"oom_killed": True}, {"memory": {"oom_kills": 2}}])
def test_an_oom_kill_of_a_container(case: Case, changes: dict[str, Any]) -> None:
    case.service("k8s-worker").update(changes)
    assert case.only("oom", "problem").item == "k8s-worker"


def test_an_oom_kill_outside_of_containers(case: Case) -> None:
    case.at["memory"]["killed"] = ["kernel: Out of memory: Killed process 4711 (k3s-server)"]
    assert "4711" in case.only("oom", "warning").lines[0]


def test_oom_kills_that_nobody_can_tell_of(case: Case) -> None:
    case.at["memory"]["kernel_log_problem"] = "no journal"
    assert case.bad("oom") == []
    case.silent["docker"] = "no answer"
    assert [one.status for one in case.bad("oom")] == ["unknown"]


# -- what ends


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"not_after": NOW - DAY}, "problem"),
        ({"not_after": NOW + 5 * DAY}, "warning"),
        ({"not_before": NOW + DAY}, "problem"),
        ({"problem": "it is not there"}, "problem"),
    ],
)
def test_a_certificate(case: Case, changes: dict[str, Any], status: str) -> None:
    case.at["trust"]["certificates"]["backend"].update(changes)
    assert case.only("certificates", status).item == "backend"


def test_a_certificate_without_the_servers_name(case: Case) -> None:
    case.at["trust"]["missing_names"] = ["www.example.org"]
    assert "does not name www.example.org" in case.only("certificates", "problem").found


def test_an_edge_that_shows_an_old_certificate(case: Case) -> None:
    case.at["trust"]["served"] = "bb"
    assert "SIGUSR2 edge" in case.only("certificates", "warning").cure


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"expires": NOW - 60}, "problem"),
        ({"issued": NOW - 29 * DAY, "expires": NOW + DAY}, "warning"),
        ({"problem": "it is not there"}, "problem"),
    ],
)
def test_a_token(case: Case, changes: dict[str, Any], status: str) -> None:
    case.at["tokens"]["pod-monitor"].update(changes)
    found = case.only("tokens", status)
    assert found.item == "pod-monitor"
    assert "renew-kubeconfig.yml --limit app1" in found.cure


def test_a_token_that_was_made_for_two_days_is_not_late_at_once(case: Case) -> None:
    for one in case.at["tokens"].values():
        one.update(issued=NOW - 3600, expires=NOW - 3600 + 2 * DAY)
    assert case.bad() == []
    # its timer has looked twice since it was due
    case.at["tokens"]["pod-monitor"].update(issued=NOW - 1.6 * DAY, expires=NOW + 0.4 * DAY)
    assert case.only("tokens", "warning").item == "pod-monitor"


# -- lock, history, jobs

OWNER = {
    "run": "r", "action": "deploy", "what": "2026.2.21", "by": "ops@desk", "since": "2026-05-28T10:00:00Z",
    "heartbeat": NOW - 5, "phase": "preparing",
}  # fmt: skip


def test_a_lock_that_is_held(case: Case) -> None:
    case.at["records"]["lock"] = dict(OWNER)
    assert "deploy 2026.2.21 by ops@desk" in case.only("lock", "warning").found


def test_a_deploy_at_work(case: Case) -> None:
    case.at["records"]["lock"] = {**OWNER, "phase": "switching", "heartbeat": NOW - 4000}
    case.at["units"]["units"]["integr8scode-switch.service"]["ActiveState"] = "active"
    assert "at work" in case.only("lock", "warning").found


@pytest.mark.parametrize("changes", [{"phase": "switching"}, {"heartbeat": NOW - 4000}])
def test_a_stale_lock(case: Case, changes: dict[str, Any]) -> None:
    case.at["records"]["lock"] = {**OWNER, **changes}
    assert "unlock_confirm=app1" in case.only("lock", "problem").cure


def test_the_lock_of_a_run_whose_process_has_ended(case: Case) -> None:
    case.settings["gone_run"] = "r"
    case.at["records"]["lock"] = dict(OWNER)
    found = case.only("lock", "warning")
    assert found.found.endswith("that run is over: its process has ended.")
    assert found.cure == "deploy again: it takes the lock over by itself"
    case.at["records"]["lock"] = {**OWNER, "action": "restore"}
    assert case.only("lock", "problem").cure.startswith("run the restore again")
    # the server works on without it
    case.at["records"]["lock"] = {**OWNER, "action": "restore", "phase": "restoring"}
    assert "A restore is at work" in case.only("lock", "warning").why
    case.at["records"]["lock"] = {**OWNER, "run": "another"}
    assert case.only("lock", "warning").cure == "wait for it to end"


def test_a_restore_s_lock(case: Case) -> None:
    case.at["records"]["lock"] = {**OWNER, "action": "restore", "phase": "restoring"}
    assert "A restore is at work" in case.only("lock", "warning").why
    case.at["records"]["lock"] = {**OWNER, "action": "restore", "heartbeat": NOW - 4000}
    assert "run the restore again" in case.only("lock", "problem").cure


def test_a_lock_that_cannot_be_read(case: Case) -> None:
    case.at["records"]["lock"] = {}
    case.only("lock", "problem")


@pytest.mark.parametrize(
    ("entry", "status"),
    [
        ({"action": "deploy", "result": "failed", "release": "2026.2.21-x", "message": "no room"}, "problem"),
        ({"action": "deploy", "result": "rolled_back", "release": "2026.2.21-x"}, "warning"),
        ({"action": "backup", "result": "failed"}, "warning"),
    ],
)
def test_work_that_ended_badly(case: Case, entry: dict[str, Any], status: str) -> None:
    case.at["records"]["history"].append({"at": "2026-05-02", "by": "ops", **entry})
    found = case.only("history", status)
    assert "failed" in found.found
    assert entry.get("message", "") in found.found


def test_of_a_deploy_that_failed_the_first_line_is_told_and_the_command_that_does_it_again(case: Case) -> None:
    message = "backend is starting after 45 s.\nLast lines of integr8scode-backend-4:\nINFO waiting"
    entry = {"action": "deploy", "result": "rolled_back", "release": "sha-0123abc-564312bf9efa", "message": message}
    case.at["records"]["history"].append(entry)
    case.settings["inventory"] = ["inventories/production", "my hosts.yml"]
    found = case.only("history", "warning")
    assert found.found.endswith("failed and was taken back: backend is starting after 45 s.")
    assert found.cure == (
        "cure the cause, then: ansible-playbook -i inventories/production -i 'my hosts.yml' deploy.yml --limit app1 "
        "-e tag=sha-0123abc"
    )


def test_of_a_deploy_that_failed_by_a_known_cause_the_cure_is_told(case: Case) -> None:
    said = (
        "`docker compose up` failed with exit code 1: Error response from daemon: failed to create task for container: "
        "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: "
        "error during container init: error setting rlimit type 7: operation not permitted: unknown"
    )
    entry = {"action": "deploy", "result": "removed", "release": "2026.2.20-564312bf9efa", "message": f"{said}\nmore"}
    case.at["records"]["history"].append(entry)
    found = case.only("history", "problem")
    assert found.found.endswith(f"{said}.")
    assert found.cure == (
        "set integr8scode_nofile_limit to at most what `ulimit -Hn` shows as root on the server, then: "
        "ansible-playbook deploy.yml --limit app1 -e tag=2026.2.20"
    )


@pytest.mark.parametrize(
    ("entry", "status", "command"),
    [
        ({"action": "rollback", "result": "failed", "release": "2026.2.19-76b7dfe4242c"}, "problem",
         "playbooks/rollback.yml --limit app1 -e to=2026.2.19"),
        ({"action": "deploy", "result": "removed", "release": "2026.2.20-76b7dfe4242c"}, "problem",
         "deploy.yml --limit app1 -e tag=2026.2.20"),
        ({"action": "recover-k3s", "result": "failed"}, "problem", "playbooks/recover-k3s.yml --limit app1"),
        ({"action": "restore", "result": "failed"}, "problem", "do it again"),
    ],
)  # fmt: skip
def test_what_failed_has_the_command_that_does_it_again(
    case: Case, entry: dict[str, Any], status: str, command: str
) -> None:
    case.at["records"]["history"].append(entry)
    assert case.only("history", status).cure.endswith(command)


@pytest.mark.parametrize("result", ["rolled_back", "removed", "failed"])
def test_a_good_deploy_makes_the_one_before_good(case: Case, result: str) -> None:
    case.at["records"]["history"] += [{"action": "deploy", "result": result}, {"action": "deploy", "result": "ok"}]
    assert case.bad("history") == []


def test_a_rollback_makes_a_failed_deploy_good(case: Case) -> None:
    case.at["records"]["history"] += [{"action": "deploy", "result": "failed"}, {"action": "rollback", "result": "ok"}]
    assert case.bad("history") == []


def test_a_timer_that_does_not_run(case: Case) -> None:
    case.at["units"]["units"]["integr8scode-backup.timer"]["ActiveState"] = "inactive"
    assert "enable --now integr8scode-backup.timer" in case.only("jobs", "problem").cure


def test_a_job_that_failed(case: Case) -> None:
    case.at["records"]["jobs"]["renew-kubeconfig"] = {"result": "failed", "message": "the API does not answer"}
    assert "the API does not answer" in case.only("jobs", "problem").found


def test_an_old_backup(case: Case) -> None:
    case.at["records"]["backups"]["k3s"] = NOW - 5 * DAY
    assert "5 days old" in case.only("jobs", "warning").found


# -- cures


def test_commands_of_cures_name_the_inventory_of_this_run_and_playbooks_that_exist(
    case: Case, project_root: Path
) -> None:
    """Every kind of thing goes wrong at once, in each way that the tests above know of."""
    case.settings["inventory"] = ["inventories/production"]
    case.at["trust"]["missing_names"] = ["x"]
    case.at["tokens"]["pod-monitor"]["expires"] = NOW - DAY
    case.at["inside"]["kubernetes"]["k8s-worker"] = {"status": 401, "kind": "", "problem": ""}
    case.at["k3s"].update(healthy=False, network=["a VPN is in the way"], warnings=["x"])
    case.at["mongo"]["places"]["secrets.toml"] = "refused"
    case.at["kafka_volume"]["volume"] = "other"
    case.at["edge"]["api"]["status"] = 429
    case.at["records"]["lock"] = {**OWNER, "heartbeat": NOW - 4000}
    case.at["records"]["history"].append({"action": "deploy", "result": "failed", "release": "2026.2.20-76b7dfe4242c"})
    case.at["records"]["jobs"]["backup"] = {"result": "failed"}
    case.service("coordinator")["memory"]["used"] = 159 << 20
    for name, service in zip(SAYINGS, SERVICES, strict=False):
        case.at["logs"][f"integr8scode-{service}-1"] = [SAYINGS[name]]
    cures = [one.cure for one in case.findings() if one.status != "ok"]
    named = [
        words for cure in cures for words in re.findall(r"ansible-playbook ((?:-i \S+ )?)(\S+\.yml) (\S+ \S+)", cure)
    ]
    assert len(named) >= 10
    assert sum(cure.count("ansible-playbook") for cure in cures) == len(named)
    assert {inventory for inventory, _, _ in named} == {"-i inventories/production "}
    assert {limit for _, _, limit in named} == {"--limit app1"}
    # it comes with the releases
    there = {playbook for _, playbook, _ in named} - {"playbooks/unlock.yml"}
    assert [playbook for playbook in there if not (project_root / playbook).is_file()] == []
