"""All probes and all checks, and one examination of a server made of them."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ansible.module_utils.doctor import judge_machine, judge_services, judge_stack, judge_trust
from ansible.module_utils.doctor import probes_docker as docker
from ansible.module_utils.doctor import probes_machine as machine
from ansible.module_utils.doctor import probes_network as network
from ansible.module_utils.doctor import probes_services as services
from ansible.module_utils.doctor import probes_trust as trust
from ansible.module_utils.doctor.finding import Answer, Check, Finding, Judge, Seen, examine
from ansible.module_utils.doctor.judge_services import docker_is_down
from ansible.module_utils.doctor.runner import Probe, run


def _with_docker(name: str, judge: Judge) -> Judge:
    """A judge that has nothing to say while Docker is down."""

    def judged(seen: Seen) -> list[Finding]:
        return docker_is_down(seen, name) or judge(seen)

    return judged


# needs: what must have answered. Where silence itself is the finding, the judge looks at it.
CHECKS = (
    Check("docker", (), judge_machine.docker),
    Check("stack_unit", ("units", "records"), judge_machine.stack_unit),
    Check("containers", ("records",), _with_docker("containers", judge_stack.containers)),
    Check("worker_config", ("records",), _with_docker("worker_config", judge_stack.worker_config)),
    Check("mongo", (), judge_services.mongo),
    Check("redis", (), judge_services.redis),
    Check("kafka", (), judge_services.kafka),
    Check("kafka_topics", ("docker", "kafka", "logs"), judge_stack.kafka_topics),
    Check("kafka_cluster_id", ("records", "kafka_volume"), judge_services.kafka_cluster_id),
    Check("edge", ("edge",), judge_services.edge),
    Check("k3s", ("k3s",), judge_trust.k3s),
    Check("kubernetes_access", ("inside",), judge_trust.kubernetes_access),
    Check("vpn", ("k3s",), judge_trust.vpn),
    Check("dns", ("names",), judge_machine.dns),
    Check("stack_dns", ("inside",), judge_trust.stack_dns),
    Check("clock", ("clock",), judge_machine.clock),
    Check("disk", ("disks",), judge_machine.disk),
    Check("memory", ("memory",), judge_machine.memory),
    Check("oom", ("memory",), judge_machine.oom),
    Check("certificates", ("trust",), judge_trust.certificates),
    Check("tokens", ("tokens",), judge_trust.tokens),
    Check("lock", ("records", "units"), judge_trust.lock),
    Check("history", ("records",), judge_trust.history),
    Check("jobs", ("records", "units"), judge_trust.jobs),
    Check("log_signatures", ("docker", "logs"), judge_stack.log_signatures),
)
NAMES = tuple(check.name for check in CHECKS)


def registry_host(reference: str) -> str:
    """The host of an image's reference that names one; '' else."""
    first, slash, _ = reference.partition("/")
    host = first.partition(":")[0]
    return host if slash and ("." in first or ":" in first) and not re.fullmatch(r"[\d.]+|localhost", host) else ""


def probes(settings: Mapping[str, Any]) -> list[Probe]:
    """What is asked, with the limits of each question."""
    base, limit = settings["base"], float(settings["limit"])
    kubeconfigs, backups = settings["kubeconfigs"], settings["backups"]
    paths = ["/", "/var", "/var/log", "/var/lib/docker", "/var/lib/rancher", "/tmp", base, backups]  # noqa: S108

    def plain(name: str, ask: Any, *arguments: Any, after: str = "") -> Probe:
        question = partial(_ignoring, ask, arguments) if not after else partial(_following, ask, arguments)
        return Probe(name, question, after, limit)

    # the slow ones first
    return [
        plain("docker", docker.look, settings["project"], base),
        plain("k3s", trust.k3s, settings["node_ip"], backups),
        plain("units", machine.units),
        plain("memory", machine.memory),
        plain("records", machine.records, base, backups),
        plain("disks", machine.disks, paths),
        plain("clock", machine.clock),
        plain("trust", trust.trust, base, settings["names"], settings["https_port"], settings["server_name"]),
        plain("tokens", trust.tokens, kubeconfigs),
        plain("edge", services.edge, settings["https_port"], settings["frontend_port"], settings["server_name"]),
        plain("firewalls", network.firewalls),
        plain("names", _registries, after="records"),
        plain("logs", docker.logs, after="docker"),
        plain("mongo", services.mongo, after="docker"),
        plain("kafka", services.kafka, after="docker"),
        plain("redis", services.redis, after="docker"),
        plain("kafka_volume", services.kafka_volume, after="docker"),
        plain("inside", network.inside, kubeconfigs, after="docker"),
    ]


def _ignoring(ask: Any, arguments: tuple[Any, ...], _earlier: Any) -> Any:
    return ask(*arguments)


def _following(ask: Any, arguments: tuple[Any, ...], earlier: Any) -> Any:
    return ask(earlier, *arguments)


def _registries(records: dict[str, Any]) -> dict[str, Any]:
    images = (records["release"] or {}).get("images", {})
    return machine.names(sorted({host for host in map(registry_host, images.values()) if host}))


def ask(settings: Mapping[str, Any]) -> dict[str, Answer]:
    """All answers of this server. Never raises for what is wrong with it."""
    return run(probes(settings))


def judge(
    host: str, answers: Mapping[str, Answer], settings: Mapping[str, Any], only: Sequence[str] = ()
) -> list[Finding]:
    """What the checks say of the answers, in the order of `CHECKS`; `only` names some of them."""
    seen = Seen(host, answers, {"now": time.time(), **settings})
    return [found for check in CHECKS if not only or check.name in only for found in examine(check, seen)]
