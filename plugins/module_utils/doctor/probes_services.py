"""Asks the stack's services by their own protocols: Mongo, Kafka, Redis, the edge. Read only, and shows no secret."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ansible.module_utils.backups.mongo import LOGIN_PATHS
from ansible.module_utils.doctor.probes_docker import running
from ansible.module_utils.doctor.probes_machine import ProbeRefused
from ansible.module_utils.doctor.wire_kafka import Broker
from ansible.module_utils.doctor.wire_mongo import AUTHENTICATION_FAILED, Connection, MongoRefused

NETWORK = "integr8scode"
SECRETS_TOML = "/app/secrets.toml"
KAFKA_DATA = "/var/lib/kafka/data"


def address_of(docker: dict[str, Any], service: str) -> str:
    """The address of a service's container in the stack's network. Raises ProbeRefused when it does not run."""
    container = running(docker, service)
    if container is None:
        raise ProbeRefused(f"no container of {service} runs")
    networks = container["networks"]
    address = networks.get(NETWORK) or next(filter(None, networks.values()), "")
    if not address:
        raise ProbeRefused(f"{container['name']} has no address in the stack's network")
    return str(address)


def toml_text(text: str, key: str) -> str | None:
    """A text of a TOML file's top level; None where there is none. Python 3.10 has no parser of its own."""
    match = re.search(rf'(?m)^{key}\s*=\s*(?:"((?:[^"\\]|\\.)*)"|\'([^\'\n]*)\')', text)
    if match is None:
        return None
    if match[1] is None:
        return match[2]
    try:
        # TOML's escapes are JSON's but for \U, which an encoded URL has no use for
        return str(json.loads(f'"{match[1]}"'))
    except ValueError:
        return None


def _mounted(docker: dict[str, Any], service: str, target: str) -> str:
    """What a container reads at `target`. Raises ProbeRefused, OSError, ValueError."""
    container = next((one for one in docker["containers"] if one["service"] == service), None)
    mounts = container["mounts"] if container else []
    source = next((one["source"] for one in mounts if one["target"] == target), None)
    if source is None:
        raise ProbeRefused(f"the container of {service} mounts no {target}")
    return Path(source).read_text(encoding="utf-8")


def _logins(docker: dict[str, Any]) -> dict[str, tuple[str, str, str] | str]:
    """User, password and database of each place that holds the login, or why it cannot be read."""
    found: dict[str, tuple[str, str, str] | str] = {}
    try:
        pair = {name: _mounted(docker, "mongo", path).rstrip("\n") for name, path in LOGIN_PATHS.items()}
        found["mongo's own secret files"] = (pair["username"], pair["password"], "admin")
    except (ProbeRefused, OSError, ValueError) as error:
        found["mongo's own secret files"] = str(error)
    try:
        url = toml_text(_mounted(docker, "backend", SECRETS_TOML), "MONGODB_URL")
        parts = urlsplit(url or "")
        if not parts.username or parts.password is None:
            found["secrets.toml"] = "MONGODB_URL in secrets.toml names no user and password"
        else:
            found["secrets.toml"] = (unquote(parts.username), unquote(parts.password), "admin")
    except (ProbeRefused, OSError) as error:
        found["secrets.toml"] = str(error)
    except ValueError:
        # its words may hold a part of the password
        found["secrets.toml"] = "MONGODB_URL in secrets.toml is no URL: a character of the password is not encoded"
    return found


def mongo(docker: dict[str, Any], port: int = 27017) -> dict[str, Any]:
    """Whether Mongo answers, and takes the login of each place. Raises ProbeRefused, OSError."""
    host = address_of(docker, "mongo")
    with contextlib.closing(Connection(host, port)) as connection:
        connection.command({"ping": 1})
    places = _logins(docker)
    pairs = {value for value in places.values() if not isinstance(value, str)}
    tried: dict[tuple[str, str, str], str] = {}
    for pair in pairs:
        with contextlib.closing(Connection(host, port)) as connection:
            try:
                connection.login(*pair)
                tried[pair] = "accepted"
            except MongoRefused as error:
                tried[pair] = "refused" if error.code == AUTHENTICATION_FAILED else str(error)
    return {
        "places": {name: one if isinstance(one, str) else tried[one] for name, one in places.items()},
        "same": len(pairs) < 2,
    }


def kafka(docker: dict[str, Any], port: int = 29092) -> dict[str, Any]:
    """Kafka's cluster, topics and groups with their members. Raises ProbeRefused, OSError, ValueError."""
    with contextlib.closing(Broker(address_of(docker, "kafka"), port)) as broker:
        found = broker.metadata()
        # the coordinator of the groups may come up a little later than the rest
        try:
            groups = broker.members(broker.groups())
        except ValueError:
            groups = None
    return {**found, "groups": groups}


def kafka_volume(docker: dict[str, Any]) -> dict[str, Any]:
    """The cluster id that Kafka's container has and the one that its volume was made with. Raises ProbeRefused."""
    container = next((one for one in docker["containers"] if one["service"] == "kafka"), None)
    if container is None:
        raise ProbeRefused("there is no container of kafka")
    source = next((one["source"] for one in container["mounts"] if one["target"] == KAFKA_DATA), "")
    text = ""
    if source:
        with contextlib.suppress(OSError):
            text = (Path(source) / "meta.properties").read_text(encoding="utf-8", errors="replace")
    match = re.search(r"(?m)^cluster\.id=(.*?)\s*$", text)
    return {
        "container": container["variables"].get("CLUSTER_ID", ""),
        "volume": match[1].replace("\\", "") if match else "",
        "source": source,
    }


def redis(docker: dict[str, Any], port: int = 6379) -> dict[str, Any]:
    """What Redis says to a ping. Raises ProbeRefused, OSError."""
    with socket.create_connection((address_of(docker, "redis"), port), 3) as connection:
        connection.sendall(b"PING\r\n")
        return {"answer": connection.recv(200).decode("utf-8", "replace").strip()}


def _get(port: int, path: str, name: str) -> dict[str, Any]:
    # who answers is the business of the check of certificates
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection(("127.0.0.1", port), 3) as plain,
            context.wrap_socket(plain, server_hostname=name or None) as secure,
        ):
            secure.settimeout(5)
            request = f"GET {path} HTTP/1.1\r\nHost: {name or 'localhost'}\r\nConnection: close\r\n\r\n"
            secure.sendall(request.encode("ascii", "replace"))
            response = http.client.HTTPResponse(secure)
            response.begin()
            return {"status": response.status, "problem": ""}
    except (OSError, http.client.HTTPException) as error:
        return {"status": 0, "problem": str(error) or type(error).__name__}


def edge(https_port: int, frontend_port: int, name: str) -> dict[str, Any]:
    """What the published ports answer, asked on the server itself: `status` (0: no answer) and `problem`."""
    return {
        "api": {"port": https_port, **_get(https_port, "/api/v1/health/live", name)},
        "web": {"port": frontend_port, **_get(frontend_port, "/", name)},
    }
