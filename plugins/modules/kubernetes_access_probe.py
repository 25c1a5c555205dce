#!/usr/bin/python
"""Ansible module: what each worker may do with its kubeconfig, tried from inside the stack's network."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubernetes_access_probe
short_description: Prove from inside a Docker network that each worker's kubeconfig allows what it must, no more
description:
  - Starts one throw-away container for each worker, all at the same time, on the stack's network, with the worker's
    kubeconfig mounted read-only as the stack does, and tries every call for real (writes as dry runs).
  - Fails unless all that a worker needs succeeds, all else is 403, and the API knows of no further right.
  - Changes nothing. In check mode it does not fail but warns, and tries nothing where its image, network or kubeconfigs
    are not there yet.
requirements: [docker command line]
author: [Integr8sCode operators]
attributes:
  check_mode: {support: full}
options:
  workers:
    description: Service accounts whose files are DIRECTORY/NAME.yaml.
    type: list
    elements: str
    required: true
  namespace:
    description: Namespace of the accounts.
    type: str
    required: true
  directory:
    description: Folder of the kubeconfigs.
    type: path
    required: true
  image:
    description: Image with python3 and PyYAML, present on the server; the application's has both.
    type: str
    required: true
  network:
    description: Docker network of the workers.
    type: str
    required: true
  settle_seconds:
    description: A row that is not as it must be is tried again for so long.
    type: int
    default: 10
"""

EXAMPLES = r"""
- name: Prove the workers' access
  kubernetes_access_probe:
    workers: [k8s-worker, pod-monitor]
    namespace: integr8scode
    directory: /opt/integr8scode/kubeconfig
    image: ghcr.io/hardmax71/integr8scode/backend:2026.2.20
    network: integr8scode
"""

RETURN = r"""
matrix:
  description: For each worker a list of rows with call, expected, got, ok, message.
  type: dict
  returned: always
problems:
  description: What is not as it must be, a sentence each.
  type: list
  returned: always
"""

import concurrent.futures
import inspect
import json
import os
import shutil
import subprocess
import traceback
import uuid
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

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


def probe(worker: str, params: dict[str, Any], source: str) -> dict[str, Any]:
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


def missing(params: dict[str, Any]) -> str:
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


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "workers": {"type": "list", "elements": "str", "required": True},
            "namespace": {"type": "str", "required": True},
            "directory": {"type": "path", "required": True},
            "image": {"type": "str", "required": True},
            "network": {"type": "str", "required": True},
            "settle_seconds": {"type": "int", "default": 10},
        },
        supports_check_mode=True,
    )
    params = module.params
    if not params["image"]:
        module.fail_json(
            msg="no image to probe from. Cure: set kubernetes_access_verify_image, for example the backend's"
        )
    if module.check_mode:
        lacking = missing(params)
        if lacking:
            module.exit_json(changed=False, matrix={}, problems=[], msg=f"not tried: {lacking}")
    if CALLS_ERROR:
        module.fail_json(msg=missing_required_lib("PyYAML"), exception=CALLS_ERROR)
    if not shutil.which("docker"):
        module.fail_json(msg="the docker command is not installed here. Cure: run the role docker first")
    try:
        source = script()
        with concurrent.futures.ThreadPoolExecutor(len(params["workers"]) or 1) as pool:
            reports = list(pool.map(lambda worker: probe(worker, params, source), params["workers"]))
    except (ProbeError, OSError) as error:
        module.fail_json(msg=str(error), matrix={})
    matrix = {report["worker"]: report["results"] for report in reports}
    found = [line for report in reports for line in problems(report, params["namespace"])]
    sentences = [sentence for sentence, _ in found]
    if found and module.check_mode:
        # the roles that run before this one would have changed what is found wrong
        module.warn("now, before anything is changed: " + failure_message(found))
        module.exit_json(
            changed=False, matrix=matrix, problems=sentences, msg=f"{len(found)} calls are not as they must be"
        )
    if found:
        module.fail_json(msg=failure_message(found), matrix=matrix, problems=sentences)
    count = sum(len(results) for results in matrix.values())
    module.exit_json(changed=False, matrix=matrix, problems=[], msg=f"{count} calls are as they must be")


if __name__ == "__main__":
    main()
