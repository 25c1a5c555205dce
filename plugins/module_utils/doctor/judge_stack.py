"""Judges the stack's containers, what they read, and what they write when they fail."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from ansible.module_utils.doctor.finding import EVIDENCE_LINES, Finding, Seen
from ansible.module_utils.doctor.signatures import Match, matches, topics_asked_for

# how long a program may take until it is healthy, seconds; the backend was seen to take 100 beside seven workers
STARTING_SECONDS = 180
_FILES = re.compile(r"/app/(?:config[\w.-]*\.toml|secrets\.toml|kubeconfig\.yaml)|/run/secrets/\S+|/etc/edge\S*")
_FOLDERS = re.compile(r"/app/certs|/etc/nginx/certs|/etc/edge(?:-tls/\w+|-run)?")
_EXIT = {
    137: "killed (SIGKILL, often for memory)",
    139: "crashed (SIGSEGV)",
    132: "illegal instruction",
    143: "stopped",
}
KUBERNETES_WORKERS = ("k8s-worker", "pod-monitor")


def services(seen: Seen) -> list[str]:
    """What the running release consists of, without what runs only when it is due."""
    release = seen["records"]["release"] or {}
    return sorted(set(release.get("images", {})) - {"user-seed", "cert-generator"})


def workers(seen: Seen) -> list[str]:
    """Services of the release that are workers, by the files that they are given."""
    names = [re.match(r"config\.(.+)\.toml$", name) for name in (seen["records"]["release"] or {}).get("files", {})]
    return sorted(match[1] for match in names if match)


def filled(match: Match, seen: Seen, site: str = "") -> str:
    """The cure of a line, with the commands of this server; `site` stands for site.yml where another one does it."""
    cure = match.signature.cure.replace("{site}", site or seen.site).replace("{current}", seen.current)
    return cure.replace("{renew}", seen.play("playbooks/renew-kubeconfig.yml"))


def _lines(seen: Seen, name: str) -> list[str]:
    answer = seen.answers.get("logs")
    return list((answer.value or {}).get(name, [])) if answer and not answer.problem else []


def _ill(one: dict[str, Any]) -> tuple[str, str]:
    """Status and words for a container that is not well; ('', '') for one that is."""
    ended = _EXIT.get(one["exit_code"], f"exit code {one['exit_code']}")
    if one["state"] == "restarting":
        return "problem", f"restarts again and again ({one['restarts']} times; {ended})"
    if one["state"] in ("exited", "dead"):
        return "problem", f"has ended ({ended})"
    if one["state"] == "created":
        return "problem", f"was never started{': ' + one['error'] if one['error'] else ''}"
    if one["state"] == "paused":
        return "problem", "is paused"
    if one["health"] == "unhealthy":
        return "problem", "is unhealthy: its own check fails"
    if one["state"] == "running" and one["restarts"] >= 3:
        return "warning", f"runs, but Docker has restarted it {one['restarts']} times"
    if one["health"] == "starting":
        return "warning", "is starting"
    return "", ""


def _with_reason(one: dict[str, Any], status: str, words: str, seen: Seen) -> Finding:
    lines = _lines(seen, one["name"])
    known = matches(lines)
    why, cure = (
        "Its part of the service is down.",
        f"as root on the server: cd {seen.current} && docker compose logs --tail 100 {one['service']}",
    )
    if one["state"] == "paused":
        cure = f"as root on the server: docker unpause {one['name']}"
    elif one["oom_killed"]:
        words += "; the kernel killed it for memory"
        why = "It reached its limit of memory (see the check oom)."
    elif known:
        words += f"; {known[0].signature.meaning}"
        cure = filled(known[0], seen)
    elif one["state"] in ("exited", "created"):
        name = one["service"]
        cure = f"as root on the server: cd {seen.current} && docker compose start {name}; docker compose logs {name}"
    elif one["health"] == "starting":
        why, cure = "It does not serve yet.", "run the doctor again in three minutes"
    evidence = [known[0].line] if known else []
    evidence += [line for line in lines[-EVIDENCE_LINES:] if line not in evidence]
    return Finding(
        "containers", status, f"{one['name']} {words}.", why, cure, one["service"], evidence[:EVIDENCE_LINES]
    )


def containers(seen: Seen) -> list[Finding]:
    """Each container that is missing, ended, restarting or unhealthy, with its last words and what they mean."""
    found = []
    there = seen["docker"]["containers"]
    names = {one["service"] for one in there}
    up = seen.site
    missing = [name for name in services(seen) if name not in names]
    if missing:
        why = "Its part of the service is down."
        text = f"No container of {', '.join(missing)} is there."
        found.append(Finding("containers", "problem", text, why, up, missing[0] if len(missing) == 1 else ""))
    for one in there:
        status, words = _ill(one)
        if status:
            found.append(_with_reason(one, status, words, seen))
    foreign = seen["docker"]["foreign"]
    if foreign:
        text = f"Containers of the Compose project integr8scode come from elsewhere: {', '.join(foreign)}."
        why = "A deploy is refused: it would seize them."
        cure = "as root on the server, `docker compose ls --all` names their folder; there: docker compose down"
        found.append(Finding("containers", "problem", text, why, cure))
    return found or [Finding("containers", "ok", f"All {len(names)} services run.")]


def worker_config(seen: Seen) -> list[Finding]:
    """Whether each file that a container mounts is there and is a file: Docker makes a directory for a missing one."""
    found = []
    cure = seen.site
    why = "The program does not start (FileNotFoundError, IsADirectoryError), or does not at its next start."
    expected = {name: f"/app/config.{name}.toml" for name in workers(seen)}
    for one in seen["docker"]["containers"]:
        mounts = {mount["target"]: mount for mount in one["mounts"]}
        wanted = expected.get(one["service"])
        if wanted and wanted not in mounts:
            text = f"{one['name']} mounts no {wanted}."
            found.append(Finding("worker_config", "problem", text, why, cure, one["service"]))
        for target, mount in mounts.items():
            folder = _FOLDERS.fullmatch(target)
            if not folder and not _FILES.fullmatch(target):
                continue
            kind = mount["kind"]
            if kind == ("directory" if folder else "file"):
                continue
            place = f"{mount['source']} ({target} in {one['name']})"
            if kind == "missing":
                text, first = f"{place} is not there.", ""
            else:
                text = f"{place} is a {kind}, not a {'directory' if folder else 'file'}."
                first = f"as root on the server `rmdir {mount['source']}`, then here: " if kind == "directory" else ""
            found.append(Finding("worker_config", "problem", text, why, f"{first}{cure}", one["service"]))
    return found or [Finding("worker_config", "ok", "Every file that a container mounts is there.")]


def log_signatures(seen: Seen) -> list[Finding]:
    """Known complaints of programs that run on: "running" proves nothing."""
    by_name: dict[str, tuple[Match, list[str]]] = {}
    for one in seen["docker"]["containers"]:
        if _ill(one)[0]:
            continue
        for match in matches(_lines(seen, one["name"])):
            by_name.setdefault(match.signature.name, (match, []))[1].append(one["service"])
    found = []
    for match, where in by_name.values():
        text = f"{', '.join(sorted(set(where)))} wrote within the last 15 minutes: {match.signature.meaning}."
        why = "The container runs, but does not do its work, or did not for a while."
        cure = filled(match, seen)
        found.append(Finding("log_signatures", "warning", text, why, cure, match.signature.name, [match.line]))
    return found or [Finding("log_signatures", "ok", "No known complaint in the last 15 minutes of the logs.")]


def kafka_topics(seen: Seen) -> list[Finding]:
    """Topics that programs ask for and Kafka does not have."""
    topics: dict[str, int] = seen["kafka"]["topics"]
    own = [name for name in topics if not name.startswith("__")]
    lines = [line for name in seen["logs"] for line in seen["logs"][name]]
    complaints = [match.line for match in matches(lines) if match.signature.name == "unknown_topic"]
    headless = sorted(name for name, count in topics.items() if count)
    if headless:
        text = f"{len(headless)} topics have partitions without a leader: {_some(headless)}."
        why = "Events to them wait or are lost."
        cure = f"as root on the server: cd {seen.current} && docker compose logs --tail 100 kafka"
        return [Finding("kafka_topics", "problem", text, why, cure)]
    if not complaints:
        return [Finding("kafka_topics", "ok", f"{len(own)} topics, and nobody asked for another one.")]
    why = "What is sent there does not arrive: executions stay queued."
    asked = [name for name in topics_asked_for(complaints) if name not in topics]
    for name in asked:
        like = [one for one in own if one.rpartition(".")[2].endswith(_without_prefix(name))]
        if like:
            text = f"A program asks for topic {name}; Kafka has {_some(like)}: the prefix is another one."
            cure = f"correct the topics' prefix in integr8scode_config, then: {seen.site}"
            return [Finding("kafka_topics", "problem", text, why, cure, lines=complaints[-2:])]
    text = f"A program asked for a topic that Kafka did not have{': ' + _some(asked) if asked else ''}."
    cure = (
        "Kafka was not ready then; topics are made on first use. If it goes on, as root on the server: "
        f"cd {seen.current} && docker compose exec -e KAFKA_HEAP_OPTS=-Xmx96m kafka kafka-topics --list "
        "--bootstrap-server localhost:29092"
    )
    return [Finding("kafka_topics", "warning", text, why, cure, lines=complaints[-2:])]


def _without_prefix(topic: str) -> str:
    """`execution_requested` of `dev_execution_requested`."""
    return topic.partition("_")[2] or topic


def _some(names: Iterable[str], count: int = 5) -> str:
    listed = list(names)
    return ", ".join(listed[:count]) + (f" and {len(listed) - count} more" if len(listed) > count else "")
