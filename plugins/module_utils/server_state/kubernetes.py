"""Whether the workers' kubeconfigs are of use, asked from the server itself and quickly."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils import kubernetes_access_client as client
from ansible.module_utils.server_state.machine import importable

ANSWER_SECONDS = 4.0
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
# one thing that each worker has to do all the time
NEEDS = {"k8s-worker": ("create", "pods"), "pod-monitor": ("list", "pods")}


def problem_of(worker: str, path: Path, namespace: str, address: str) -> str:
    """Why a worker could not work with its kubeconfig, as a sentence without a full stop; "" where it could.

    :param address: where the API is asked, in place of the name that only containers know.
    """
    verb, resource = NEEDS.get(worker, ("list", "pods"))
    try:
        credentials = client.read_kubeconfig(str(path))
        parts = urlsplit(credentials.server)
        there = replace(credentials, server=f"https://{address}:{parts.port or 443}")
        api = client.Client(there, timeout=ANSWER_SECONDS)
        try:
            # the name that the containers use has to stand in the certificate
            api.handshake(parts.hostname or "")
            answer = api.request(
                "POST",
                REVIEWS,
                {"spec": {"resourceAttributes": {"namespace": namespace, "verb": verb, "resource": resource}}},
            )
        finally:
            api.close()
    except FileNotFoundError:
        return f"{path} does not exist"
    except client.ApiError as error:
        return str(error)
    if answer.status == 401:
        return f"the API does not accept the token of {path}"
    if answer.status not in (200, 201):
        return f"the API answered {answer.status}: {answer.message}"
    if not (answer.body.get("status") or {}).get("allowed"):
        return f"{worker} may not {verb} {resource} in the namespace {namespace}"
    return ""


def problems(workers: list[str], directory: Path, namespace: str, address: str = "127.0.0.1") -> dict[str, str]:
    """What `problem_of` says, by worker; an empty text for a kubeconfig that can be used."""
    if not importable(["yaml"])["yaml"]:
        return dict.fromkeys(
            workers, "python3-yaml is missing, which reads kubeconfigs; playbooks/site.yml installs it"
        )
    with ThreadPoolExecutor(max(1, len(workers))) as pool:
        said = pool.map(lambda worker: problem_of(worker, directory / f"{worker}.yaml", namespace, address), workers)
        return dict(zip(workers, said, strict=True))


def described(parameters: dict[str, Any]) -> dict[str, Any]:
    """The answer for the module: by worker, whether it can work and why not."""
    found = problems(parameters["workers"], Path(parameters["directory"]), parameters["namespace"])
    return {worker: {"usable": not problem, "problem": problem} for worker, problem in found.items()}
