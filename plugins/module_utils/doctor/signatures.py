"""What the programs of the stack write when something is wrong, with its meaning and its cure.

In a cure `{site}` and `{renew}` stand for the commands that run site.yml and renew-kubeconfig.yml for this server,
`{current}` for the running release's folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Signature:
    """A kind of line, what it means and what cures it."""

    name: str
    pattern: re.Pattern[str]
    meaning: str
    cure: str


def _signature(name: str, pattern: str, meaning: str, cure: str) -> Signature:
    return Signature(name, re.compile(pattern, re.IGNORECASE), meaning, cure)


SIGNATURES = (
    _signature(
        "mongo_login",
        r"Authentication failed|AuthenticationFailed|\bcode['\"]?: 18\b",
        "MongoDB refuses the login in secrets.toml: the vault's password is not the database's",
        "put the database's password into the vault (integr8scode_mongo_root_password), then "
        "{site} -e integr8scode_mongo_login_was_changed=true",
    ),
    _signature(
        "mongodb_url",
        r"InvalidURI|pymongo\.errors\.ConfigurationError|must be escaped according to RFC 3986|Port must be an integer",
        "MONGODB_URL holds a character of the password that is not URL-encoded: secrets.toml was changed by hand",
        "{site}",
    ),
    _signature(
        "config_file",
        r"(?:FileNotFoundError|IsADirectoryError|No such file or directory|Is a directory)[^\n]*"
        r"(?:config[\w.-]*\.toml|secrets\.toml)",
        "a configuration file that is mounted is missing, or is a directory that Docker made in its place",
        "{site}",
    ),
    _signature(
        "unknown_key",
        r"extra_forbidden|Extra inputs are not permitted",
        "config.toml has a key that this release does not know",
        "remove the key from integr8scode_config in the inventory, then: {site}",
    ),
    _signature(
        "secret_key",
        r"validation error[^\n]*\n?[^\n]*SECRET_KEY|SECRET_KEY[^\n]*(?:Field required|at least 32|string_too_short)",
        "SECRET_KEY is missing or shorter than 32 characters",
        "set integr8scode_secret_key in the vault (openssl rand -base64 48), then: {site}",
    ),
    _signature(
        "toml",
        r"TOMLDecodeError|tomllib\.|toml\.decoder",
        "a configuration file is no valid TOML: it was changed by hand",
        "{site}",
    ),
    _signature(
        "kubeconfig",
        r"Expected key current-context|Invalid kube-config|ConfigException",
        "the worker has no usable kubeconfig",
        "{renew}",
    ),
    _signature(
        "kubernetes_unreachable",
        r"Cannot connect to host [^\s:]+:\d+ ssl|ClientConnectorError[^\n]*:6443|Max retries exceeded[^\n]*:6443",
        "the Kubernetes API cannot be reached from the container: every execution ends as failed",
        "see the checks k3s and kubernetes_access, which name the cause",
    ),
    _signature(
        "kubernetes_unauthorized",
        r"\(401\)[^\n]*Unauthorized|\"reason\": ?\"Unauthorized\"",
        "the Kubernetes API does not accept the worker's token",
        "{renew}",
    ),
    _signature(
        "cluster_id",
        r"InconsistentClusterIdException|Invalid cluster\.id in",
        "Kafka's volume was made with another cluster id than the one that it is started with",
        "put the volume's id into integr8scode_kafka_cluster_id (the check kafka_cluster_id names it), then: {site}",
    ),
    _signature(
        "unknown_topic",
        r"UnknownTopicOrPartition|UNKNOWN_TOPIC_OR_PARTITION|Unknown topic",
        "a program asks for a topic that Kafka does not have: Kafka was not ready, or the topic has another prefix",
        "see the checks kafka and kafka_topics",
    ),
    _signature(
        "kafka_unreachable",
        r"KafkaConnectionError|NoBrokersAvailable|NodeNotReadyError|Unable (?:to )?bootstrap from|"
        r"GroupCoordinatorNotAvailable",
        "Kafka does not answer the program; after a restart of Kafka that passes within two minutes",
        "wait two minutes; if it stays, as root on the server: cd {current} && docker compose logs --tail 50 kafka",
    ),
    _signature(
        "mongo_unreachable",
        r"ServerSelectionTimeoutError|AutoReconnect",
        "MongoDB cannot be reached",
        "as root on the server: cd {current} && docker compose logs --tail 50 mongo",
    ),
    _signature(
        "redis_unreachable",
        r"redis\.exceptions\.(?:ConnectionError|TimeoutError)|Error \d+ connecting to redis",
        "Redis cannot be reached: logins fail although the backend counts as healthy",
        "as root on the server: cd {current} && docker compose logs --tail 50 redis",
    ),
    _signature(
        "upstream",
        r"\[emerg\][^\n]*host not found in upstream",
        "the frontend started while the name of its backend was not there",
        "{site}",
    ),
    _signature(
        "no_room",
        r"No space left on device|database or disk is full|Disk quota exceeded",
        "a disk is full",
        "see the check disk",
    ),
    _signature(
        "open_files",
        r"Too many open files",
        "the program may not open more files",
        "raise integr8scode_nofile_limit, then: {site}",
    ),
    _signature(
        "open_files_limit",
        r"error setting rlimits?\b",
        "the server, or its hoster, allows a container fewer open files than integr8scode_nofile_limit asks for",
        "set integr8scode_nofile_limit to at most what `ulimit -Hn` shows as root on the server, then: {site}",
    ),
    _signature(
        "processor",
        r"requires a CPU with AVX support|Illegal instruction",
        "the server's processor has no AVX, which MongoDB 5 and newer need",
        "give the (virtual) server a processor with AVX (CPU type 'host' in most hypervisors)",
    ),
    _signature(
        "certificate",
        r"unable to load (?:SSL )?(?:certificate|private key)|cannot load certificate|SSL_CTX_use_PrivateKey",
        "a certificate or its key cannot be read by the program that serves it",
        "{site}",
    ),
    _signature(
        "java_memory",
        r"java\.lang\.OutOfMemoryError",
        "Kafka's heap is full",
        "see the check memory; then, as root on the server: cd {current} && docker compose logs --tail 50 kafka",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Match:
    """A signature in the lines of a program, with the newest line."""

    signature: Signature
    line: str


def matches(lines: Sequence[str]) -> list[Match]:
    """Signatures in these lines, the one whose line is newest first."""
    found: dict[str, tuple[int, Match]] = {}
    for number, line in enumerate(lines):
        for one in SIGNATURES:
            if one.pattern.search(line):
                found[one.name] = (number, Match(one, line))
    return [match for _, match in sorted(found.values(), key=lambda pair: -pair[0])]


def topics_asked_for(lines: Iterable[str]) -> list[str]:
    """Topics that lines complain of not knowing, as far as they name one."""
    found = set()
    for line in lines:
        if SIGNATURE_TOPIC.search(line):
            found |= set(re.findall(r"[Tt]opic(?:s|_name)?[ '\"=:(]+([A-Za-z][\w.-]{2,})", line))
    return sorted(found - {"or", "partition", "not", "name"})


SIGNATURE_TOPIC = next(one.pattern for one in SIGNATURES if one.name == "unknown_topic")
