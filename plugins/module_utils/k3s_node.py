"""Whether k3s runs, and its node with it: the unit by systemd, the node by the API server that answers."""

from __future__ import annotations

import base64
import json
import os
import re
import ssl
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPSHandler, ProxyHandler, build_opener

from ansible.module_utils.k3s_common import CONFIG_FOLDER, UNIT, K3sError

KUBECONFIG = f"{CONFIG_FOLDER}/k3s.yaml"
SYSTEMD_SECONDS = 30


@dataclass(frozen=True)
class UnitState:
    """What systemd says of the unit.

    `active_since` is on the monotonic clock, in seconds; 0 when it is not active. `invocation` changes at each start.
    """

    loaded: bool
    enabled: bool
    active: str
    sub: str
    restarts: int
    invocation: str
    stale: bool
    active_since: float

    @property
    def running(self) -> bool:
        """Whether it is up, as far as systemd knows."""
        return self.active == "active" and self.sub == "running"


@dataclass(frozen=True)
class NodeState:
    """What the API server says of itself and of the node; `problem` is empty when the node is ready."""

    problem: str
    version: str = ""
    name: str = ""
    internal_ips: list[str] = field(default_factory=list)


def parse_unit(text: str) -> UnitState:
    """The unit's state from `systemctl show`."""
    values = dict(line.partition("=")[::2] for line in text.splitlines())
    return UnitState(
        loaded=values.get("LoadState") == "loaded",
        enabled=values.get("UnitFileState") == "enabled",
        active=values.get("ActiveState", "unknown"),
        sub=values.get("SubState", "unknown"),
        restarts=int(values.get("NRestarts") or 0),
        invocation=values.get("InvocationID", ""),
        stale=values.get("NeedDaemonReload") == "yes",
        active_since=int(values.get("ActiveEnterTimestampMonotonic") or 0) / 1e6,
    )


def unit_state(unit: str = UNIT) -> UnitState:
    """The unit's state now. Raises K3sError when systemd does not answer."""
    names = "LoadState,UnitFileState,ActiveState,SubState,NRestarts,InvocationID,NeedDaemonReload"
    names += ",ActiveEnterTimestampMonotonic"
    command = ["systemctl", "show", unit, f"--property={names}"]
    try:
        shown = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SYSTEMD_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise K3sError(f"systemd has not answered for {SYSTEMD_SECONDS} s (systemctl show {unit})") from error
    return parse_unit(shown.stdout)


class Api:
    """k3s' API server by the admin kubeconfig that k3s writes for root."""

    def __init__(self, kubeconfig: str = KUBECONFIG) -> None:
        """Read the kubeconfig. Raises K3sError when k3s has not written it (yet)."""
        try:
            with open(kubeconfig, encoding="utf-8") as file:
                text = file.read()
        except FileNotFoundError as error:
            raise K3sError(f"{kubeconfig} is not there yet") from error
        self.server = self._value(text, "server")
        context = ssl.create_default_context(cadata=self._decoded(text, "certificate-authority-data"))
        pair = self._decoded(text, "client-certificate-data") + self._decoded(text, "client-key-data")
        # ssl reads key pairs from files only; this one is in memory and gone with its descriptor
        descriptor = os.memfd_create("k3s-client")
        with os.fdopen(descriptor, "w", encoding="utf-8") as memory:
            memory.write(pair)
            memory.flush()
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        # a proxy from the environment has no place between a server and itself
        self.opener = build_opener(ProxyHandler({}), HTTPSHandler(context=context))

    @staticmethod
    def _value(text: str, key: str) -> str:
        """A value of the kubeconfig, which k3s writes with one cluster and one user."""
        match = re.search(rf"^\s*{key}:\s*(\S+)\s*$", text, re.MULTILINE)
        if match is None:
            raise K3sError(f"{KUBECONFIG} has no {key} (yet)")
        return match.group(1).strip("\"'")

    def _decoded(self, text: str, key: str) -> str:
        return base64.b64decode(self._value(text, key)).decode()

    def get(self, path: str) -> Any:
        """GET a path; the decoded answer. Raises K3sError with the reason when there is none."""
        try:
            with self.opener.open(self.server + path, timeout=10) as answer:
                return json.loads(answer.read())
        except HTTPError as error:
            raise K3sError(f"the API server answers {error.code} to {path}") from error
        except (URLError, OSError, ValueError, HTTPException) as error:
            raise K3sError(
                f"the API server at {self.server} does not answer: {getattr(error, 'reason', error)}"
            ) from error


def judge_node(version: Mapping[str, Any], nodes: Mapping[str, Any], *, name: str, node_ip: str) -> NodeState:
    """Judge the answers of /version and /api/v1/nodes.

    `name` is the node's, `node_ip` what it must have as InternalIP ('' for any; two addresses with a comma between).
    """
    running = str(version.get("gitVersion", ""))
    for node in nodes.get("items", []):
        if node["metadata"]["name"] != name:
            continue
        status = node.get("status", {})
        found = [item["address"] for item in status.get("addresses", []) if item["type"] == "InternalIP"]
        ready = [item for item in status.get("conditions", []) if item["type"] == "Ready"]
        problem = ""
        if not ready or ready[0]["status"] != "True":
            reason = ready[0].get("message", "") if ready else "the kubelet has not reported yet"
            problem = f"node {name} is not Ready: {reason}"
        elif node_ip and not set(node_ip.replace(" ", "").split(",")) <= set(found):
            problem = f"node {name} has InternalIP {', '.join(found) or 'none'} and not {node_ip}"
        return NodeState(problem=problem, version=running, name=name, internal_ips=found)
    names = ", ".join(node["metadata"]["name"] for node in nodes.get("items", []))
    return NodeState(problem=f"there is no node {name} (there is: {names or 'none'})", version=running)


def node_state(*, name: str, node_ip: str) -> NodeState:
    """Look at the node now; never raises, an answer that is missing is a problem as well."""
    try:
        api = Api()
        return judge_node(api.get("/version"), api.get("/api/v1/nodes"), name=name, node_ip=node_ip)
    except (K3sError, ssl.SSLError, ValueError) as error:
        return NodeState(problem=str(error))


def monotonic() -> float:
    """Seconds on the clock of `UnitState.active_since`."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)
