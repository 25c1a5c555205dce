"""What each worker may do at the Kubernetes API, tried from inside the stack's network in throw-away containers."""

from __future__ import annotations

import concurrent.futures
import inspect
import json
import os
import shutil
import subprocess
import traceback
import uuid
from collections.abc import Mapping
from typing import Any

try:
    # needed here for its source only: it runs in the container
    from ansible.module_utils import kubernetes_access_calls
except ImportError:
    kubernetes_access_calls = None  # type: ignore[assignment]
    CALLS_ERROR: str | None = traceback.format_exc()
else:
    CALLS_ERROR = None

# one request may take 10 s, there are 29 of them, and a frozen API answers none: the first one ends it
CONTAINER_SECONDS = 90
RENEW = "run playbooks/site.yml: its role kubernetes_access renews the kubeconfigs that need it"
FIREWALL = (
    "`systemctl status k3s`; if it runs without a bind-address, a firewall drops what comes from the stack's bridge "
    "(br-integr8scode) to TCP port 6443: `nft list ruleset`, `ufw status`"
)


class ProbeError(Exception):
    """The probe could not be made. `str()` names the cure."""


def cure(kind: str, message: str) -> str:
    """What to do about a worker that cannot ask the API at all."""
    lower = message.lower()
    if kind in ("unauthorized", "kubeconfig"):
        return RENEW
    if kind == "tls":
        if "mismatch" in lower or "not valid for" in lower:
            return "add the name to k3s_tls_sans and run the role k3s: its certificate does not name it"
        if "expired" in lower or "not yet valid" in lower:
            return "look at `date`; `systemctl restart k3s` signs its certificates again"
        return f"the cluster has another certificate authority than the kubeconfig: {RENEW}"
    if "resolved" in lower:
        return "the container must have extra_hosts host.docker.internal:host-gateway, and the kubeconfig that name"
    if "refused" in lower:
        return "k3s is down, or has a bind-address that leaves out Docker's bridge: `systemctl status k3s`"
    return FIREWALL


def docker_cure(stderr: str, image: str, network: str) -> str:
    """What to do about a container that did not start."""
    lower = stderr.lower()
    if "no such image" in lower or "unable to find image" in lower:
        return f"pull {image}, or set kubernetes_access_verify_image to an image with python3 and PyYAML that is there"
    if "network" in lower and "not found" in lower:
        return f"make the stack's network {network} first (docker compose up), or set kubernetes_access_verify_network"
    if "bind source path does not exist" in lower:
        return RENEW
    if "executable file not found" in lower or "no module named" in lower:
        return (
            "set kubernetes_access_verify_image to an image with python3 and PyYAML, such as the application's backend"
        )
    return "`journalctl -u docker -n 50`"


def script() -> str:
    """The source of the program for the container. Raises OSError."""
    # the loader is a zip's: Ansible ships a module and what it imports as one zip file
    return inspect.getsource(kubernetes_access_calls)


def command(name: str, kubeconfig: str, image: str, network: str, arguments: list[str]) -> list[str]:
    """The docker command line: nothing is pulled, nothing kept, nothing granted."""
    return [
        "docker", "run", "--rm", "--interactive", "--name", name, "--pull", "never", "--network", network,
        "--add-host", "host.docker.internal:host-gateway",
        "--mount", f"type=bind,source={kubeconfig},target=/app/kubeconfig.yaml,readonly",
        "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--memory", "128m",
        "--log-driver", "none", "--entrypoint", "python3", image, "-", *arguments,
    ]  # fmt: skip


def probe(worker: str, params: Mapping[str, Any], source: str) -> dict[str, Any]:
    """One worker's report, from a container. Raises ProbeError."""
    name = f"integr8scode-access-{worker}-{uuid.uuid4().hex[:8]}"
    kubeconfig = os.path.join(params["directory"], f"{worker}.yaml")
    settle = params["settle_seconds"]
    line = command(name, kubeconfig, params["image"], params["network"], [worker, params["namespace"], str(settle)])
    try:
        done = subprocess.run(
            line, input=source, capture_output=True, text=True, timeout=CONTAINER_SECONDS + settle, check=False
        )
    except subprocess.TimeoutExpired as error:
        subprocess.run(["docker", "rm", "--force", name], capture_output=True, check=False)
        raise ProbeError(f"{worker}: no result within {error.timeout:g} s. Cure: {FIREWALL}") from error
    if done.returncode != 0:
        text = " ".join(done.stderr.split())[-600:]
        raise ProbeError(
            f"{worker}: its container ended with {done.returncode}: {text}. "
            f"Cure: {docker_cure(done.stderr, params['image'], params['network'])}"
        )
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError as error:
        raise ProbeError(f"{worker}: its container printed no report but {done.stdout[:200]!r}") from error
    return report


def problems(report: dict[str, Any], namespace: str) -> list[tuple[str, str]]:
    """A sentence (worker, call, expected, got) and its cure for each thing that is not as it must be."""
    worker = report["worker"]
    fatal = report["fatal"]
    if fatal:
        return [(f"{worker}: {fatal['kind']}: {fatal['message']}", cure(fatal["kind"], fatal["message"]))]
    result = []
    for row in report["results"]:
        if row["ok"]:
            continue
        said = f" ({row['message']})" if row["message"] else ""
        if row["expected"] == "allowed":
            what = "run the role kubernetes_access, which repairs roles and bindings"
            if row["got"] == "403" and " cannot " not in row["message"]:
                what = f"not RBAC but a rule of the namespace refuses it: `k3s kubectl describe namespace {namespace}`"
        else:
            what = (
                "run the role kubernetes_access, which undoes changes of its roles; it warns of bindings made by "
                "others, which `k3s kubectl delete` removes"
            )
        result.append((f"{worker}: {row['call']}: expected {row['expected']}, got {row['got']}{said}", what))
    return result


def failure_message(found: list[tuple[str, str]]) -> str:
    """The sentences, those with the same cure together and their cure once."""
    lines = []
    for what in dict.fromkeys(what for _, what in found):
        lines += [sentence for sentence, its in found if its == what] + [f"Cure: {what}"]
    return "\n".join(lines)


def missing(params: Mapping[str, Any]) -> str:
    """What a check mode on a server that is not set up yet lacks; "" when the probe can be made."""
    if not shutil.which("docker"):
        return "docker is not installed yet"
    for worker in params["workers"]:
        if not os.path.isfile(os.path.join(params["directory"], f"{worker}.yaml")):
            return f"{worker} has no kubeconfig yet"
    for kind, name in (("image", params["image"]), ("network", params["network"])):
        if subprocess.run(["docker", kind, "inspect", name], capture_output=True, check=False).returncode != 0:
            return f"the {kind} {name} is not there yet"
    return ""


def probe_all(params: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each worker's report, all at a time.

    :param params: ``workers``, ``namespace``, ``directory`` of the kubeconfigs, ``image`` to probe from, ``network``,
        ``settle_seconds``.
    :raises ProbeError: a probe could not be made.
    :raises OSError: docker cannot be run.
    """
    source = script()
    with concurrent.futures.ThreadPoolExecutor(len(params["workers"]) or 1) as pool:
        return list(pool.map(lambda worker: probe(worker, params, source), params["workers"]))
