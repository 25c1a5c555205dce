#!/usr/bin/env python3
"""Start Kafka as cp-kafka's /etc/confluent/docker/run does: environment to files, checks, format, exec.

Same order, same messages and same refusals as cp-kafka 7.8 (its scripts `configure`, `ensure`, `launch` and the `dub`
and `cub` helpers). ZooKeeper, TLS and SASL are not part of this stand-in and refused by name.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

ETC = Path("/etc/kafka")
DATA = "/var/lib/kafka/data"

# The missing comma between the first two is cp-kafka 7.8's: so `heap.opts` and `log4j.opts` do reach the properties
# file, where Kafka ignores them.
NOT_PROPERTIES = {
    "KAFKA_VERSION",
    "KAFKA_HEAP_OPTSKAFKA_LOG4J_OPTS",
    "KAFKA_OPTS",
    "KAFKA_JMX_OPTS",
    "KAFKA_JVM_PERFORMANCE_OPTS",
    "KAFKA_GC_LOG_OPTS",
    "KAFKA_LOG4J_ROOT_LOGLEVEL",
    "KAFKA_LOG4J_LOGGERS",
    "KAFKA_TOOLS_LOG4J_LOGLEVEL",
    "KAFKA_ZOOKEEPER_CLIENT_CNXN_SOCKET",
}

LOGGERS = {
    "kafka": "INFO",
    "kafka.network.RequestChannel$": "WARN",
    "kafka.producer.async.DefaultEventHandler": "DEBUG",
    "kafka.request.logger": "WARN",
    "kafka.controller": "TRACE",
    "kafka.log.LogCleaner": "INFO",
    "state.change.logger": "TRACE",
    "kafka.authorizer.logger": "WARN",
}

DEPRECATED = {
    "KAFKA_ADVERTISED_PORT": "advertised.port",
    "KAFKA_ADVERTISED_HOST": "advertised.host",
    "KAFKA_HOST": "host",
    "KAFKA_PORT": "port",
}


def say(text: str) -> None:
    """Print a line at once, before what a child prints."""
    print(text, flush=True)


def fail(text: str) -> NoReturn:
    """End the container with a message."""
    print(text, file=sys.stderr, flush=True)
    raise SystemExit(1)


def unsupported(what: str) -> NoReturn:
    """Refuse what the real image can and this one cannot."""
    fail(f"{what}: not supported by the lab's stand-in for cp-kafka (the real image can).")


def ensure(name: str) -> None:
    """Refuse an absent or empty variable in `dub ensure`'s words."""
    if not os.environ.get(name):
        fail(f"{name} is required.\nCommand [/usr/local/bin/dub ensure {name}] FAILED !")


def ensure_writable(path: str) -> None:
    """Refuse a path that this user cannot write, in `dub path`'s words."""
    if not os.access(path, os.W_OK):
        fail(f"Command [/usr/local/bin/dub path {path} writable] FAILED !")


def properties() -> dict[str, str]:
    """KAFKA_A_B is a.b, two underscores are one, three a dash; values are written as they are."""
    found = {}
    for name, value in os.environ.items():
        if name.startswith("KAFKA_") and name not in NOT_PROPERTIES:
            dotted = re.sub(r"(?<=[^_])_(?=[^_])", ".", name.removeprefix("KAFKA_").lower())
            found[dotted.replace("___", "-").replace("__", "_")] = value
    return found


def log4j(root: str, target: str, loggers: dict[str, str]) -> str:
    """Settings that log to the console (``out`` or ``err``) in cp-kafka's pattern."""
    lines = [
        f"log4j.rootLogger={root}, console",
        "log4j.appender.console=org.apache.log4j.ConsoleAppender",
        f"log4j.appender.console.Target=System.{target}",
        "log4j.appender.console.layout=org.apache.log4j.PatternLayout",
        "log4j.appender.console.layout.ConversionPattern=[%d] %p %m (%c)%n",
        *(f"log4j.logger.{name}={level}" for name, level in loggers.items()),
    ]
    return "\n".join(lines) + "\n"


def configure() -> None:
    """Check the environment and write Kafka's files from it."""
    env = os.environ
    if env.get("KAFKA_PROCESS_ROLES"):
        say("Running in KRaft mode...")
        ensure("CLUSTER_ID")
        if env["KAFKA_PROCESS_ROLES"] == "controller":
            if env.get("KAFKA_ADVERTISED_LISTENERS"):
                say("KAFKA_ADVERTISED_LISTENERS is not supported on a KRaft controller.")
                raise SystemExit(1)
            env.pop("KAFKA_ADVERTISED_LISTENERS", None)
        else:
            ensure("KAFKA_ADVERTISED_LISTENERS")
    else:
        say("Running in Zookeeper mode...")
        ensure("KAFKA_ZOOKEEPER_CONNECT")
        ensure("KAFKA_ADVERTISED_LISTENERS")
        unsupported("ZooKeeper mode (no KAFKA_PROCESS_ROLES)")

    advertised = env.get("KAFKA_ADVERTISED_LISTENERS", "")
    if not env.get("KAFKA_LISTENERS") and env["KAFKA_PROCESS_ROLES"] != "controller":
        env["KAFKA_LISTENERS"] = re.sub(r"://[^,]*:", "://0.0.0.0:", advertised)
    ensure_writable(f"{ETC}/")
    if not env.get("KAFKA_LOG_DIRS"):
        env["KAFKA_LOG_DIRS"] = DATA
    for name, old in DEPRECATED.items():
        if env.get(name):
            say(f"{old} is deprecated. Please use KAFKA_ADVERTISED_LISTENERS instead.")
            raise SystemExit(1)
    if "SSL://" in advertised or "SASL_" in advertised:
        unsupported("SSL and SASL listeners")

    lines = [f"{name}={value}" for name, value in properties().items()]
    (ETC / "kafka.properties").write_text("\n".join(lines) + "\n", encoding="utf-8")
    loggers = dict(LOGGERS)
    for override in env.get("KAFKA_LOG4J_LOGGERS", "").split(","):
        name, separator, level = override.partition("=")
        if separator and "=" not in level:
            loggers[name] = level
    (ETC / "log4j.properties").write_text(
        log4j(env.get("KAFKA_LOG4J_ROOT_LOGLEVEL", "INFO"), "out", loggers), encoding="utf-8"
    )
    (ETC / "tools-log4j.properties").write_text(
        log4j(env.get("KAFKA_TOOLS_LOG4J_LOGLEVEL", "WARN"), "err", {}), encoding="utf-8"
    )


def check_and_format() -> None:
    """Format the storage with CLUSTER_ID; storage that is formatted already is left to the server's own check."""
    data = os.environ.get("KAFKA_DATA_DIRS", DATA)
    say(f"===> Check if {data} is writable ...")
    ensure_writable(data)
    say("===> Running in KRaft mode, skipping Zookeeper health check...")
    cluster = os.environ["CLUSTER_ID"]
    say(f"===> Using provided cluster id {cluster} ...")
    result = subprocess.run(
        ["kafka-storage", "format", f"--cluster-id={cluster}", "-c", f"{ETC}/kafka.properties"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if result.returncode:
        said = " ".join(result.stdout.split())
        say(said)
        if "already formatted" not in said.lower():
            raise SystemExit(1)


def main(arguments: list[str]) -> NoReturn:
    """Run all steps; NAME=VALUE arguments override the environment."""
    if arguments:
        say("===> Overriding env params with args ...")
        for argument in arguments:
            name, separator, value = argument.partition("=")
            if not separator:
                fail(f"{argument!r} is not NAME=VALUE")
            os.environ[name] = value
    say("===> User")
    subprocess.run(["id"], check=True)
    say("===> Configuring ...")
    configure()
    say("===> Running preflight checks ... ")
    check_and_format()
    say("===> Launching ... ")
    say("===> Launching kafka ... ")
    os.execvp("kafka-server-start", ["kafka-server-start", f"{ETC}/kafka.properties"])  # noqa: S606 - PID 1 becomes Kafka


if __name__ == "__main__":
    main(sys.argv[1:])
