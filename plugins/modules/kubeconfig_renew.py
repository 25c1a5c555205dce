#!/usr/bin/python
"""Ansible module: a kubeconfig for each worker, renewed only when it has to be."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubeconfig_renew
short_description: Keep a kubeconfig with a short-lived token for each service account, renewed when it is due
description:
  - Reads the file of each worker and asks the API for a new token only when the old one has less than a third of its
    life left, has expired, outlives the wanted life, is not accepted (401), belongs to another account, or the account
    was made again.
  - Another server or certificate authority, or a changed text, rewrites the file with the token that is still good.
  - A new token is tried before the file is replaced, in one step, mode 0400. Tokens are never returned, shown in a
    diff or logged.
  - Refuses a server that is an address, and one that the API server's certificate does not name.
  - In check mode no token is asked for; the prediction says which workers would be renewed and why.
requirements: [PyYAML]
author: [Integr8sCode operators]
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
options:
  workers:
    description: Service accounts; each gets DIRECTORY/NAME.yaml.
    type: list
    elements: str
    required: true
  namespace:
    description: Namespace of the accounts, and the one that the kubeconfigs name.
    type: str
    required: true
  server:
    description: Address of the API as the workers see it, https://NAME:PORT.
    type: str
    required: true
  directory:
    description: Folder of the files; made with mode 0700 when it is missing.
    type: path
    required: true
  token_lifetime_seconds:
    description: Life of a new token, 600 or more.
    type: int
    default: 2592000
  admin_kubeconfig:
    description: A kubeconfig on the server with the cluster administrator's rights; its CA goes into the files.
    type: path
    default: /etc/rancher/k3s/k3s.yaml
  force:
    description: Renew every token now.
    type: bool
    default: false
  timeout:
    description: Seconds to wait for the API.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Have the workers' kubeconfigs
  kubeconfig_renew:
    workers: [k8s-worker, pod-monitor]
    namespace: integr8scode
    server: https://host.docker.internal:6443
    directory: /opt/integr8scode/kubeconfig
"""

RETURN = r"""
workers:
  description: For each worker path, changed, restart (the content changed), reasons, expires (UTC), token_renewed.
  type: dict
  returned: always
restart:
  description: Workers whose file has new content, so that a running container has to be restarted to see it.
  type: list
  returned: always
"""

import contextlib
import dataclasses
import os
import time
import traceback
from pathlib import Path
from typing import Any

from ansible.module_utils.atomic_files import Access, ensure_access, ensure_folder
from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.kubeconfig_file import (
    Wanted,
    assess,
    check_lifetime,
    check_server,
    iso,
    masked,
    read_claims,
    read_text,
    render,
    write,
)
from ansible.module_utils.kubernetes_access_client import (
    ApiError,
    ApiRefusedError,
    ApiTlsError,
    Client,
    Credentials,
    explain,
    parse_kubeconfig,
    read_admin,
    wait_ready,
)

try:
    import yaml  # noqa: F401
except ImportError:
    YAML_ERROR: str | None = traceback.format_exc()
else:
    YAML_ERROR = None

# owner, group and mode of a kubeconfig; the application's containers run as root
FILE_ACCESS = Access(0, 0, 0o400)
SELF = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


@dataclasses.dataclass(frozen=True)
class Settings:
    """The module's parameters that concern every worker alike."""

    namespace: str
    server: str
    directory: str
    lifetime: int
    force: bool
    apply: bool
    access: Access = FILE_ACCESS


@dataclasses.dataclass
class Outcome:
    """What happened (or would happen) to one worker's file. `diff` holds no secret."""

    path: str
    reasons: list[str] = dataclasses.field(default_factory=list)
    restart: bool = False
    token_renewed: bool = False
    expires: str = ""
    diff: dict[str, str] = dataclasses.field(default_factory=dict)

    def report(self) -> dict[str, Any]:
        """What the module returns of it."""
        return {
            "path": self.path,
            "changed": bool(self.reasons),
            "restart": self.restart,
            "token_renewed": self.token_renewed,
            "reasons": self.reasons,
            "expires": self.expires,
        }


class Renewer:
    """Keeps the workers' files; `admin` are the cluster administrator's credentials, `client` uses them."""

    def __init__(self, settings: Settings, admin: Credentials, client: Client) -> None:
        self._settings = settings
        self._admin = admin
        self._client = client

    def account_uid(self, worker: str) -> str:
        """The uid of the service account; "" when it does not exist and this is a prediction. Raises ApiError."""
        path = f"/api/v1/namespaces/{self._settings.namespace}/serviceaccounts/{worker}"
        account = self._client.find(path)
        if account is None and self._settings.apply:
            raise ApiError(
                f"service account {self._settings.namespace}/{worker} does not exist. Cure: run the role "
                "kubernetes_access wholly, not only its kubeconfigs"
            )
        return str(account["metadata"]["uid"]) if account else ""

    def accepted(self, token: str) -> bool:
        """Whether the API takes the token (401: no, whatever the cause). Raises ApiError."""
        client = Client(self._admin, token=token)
        try:
            body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
            answer = client.request("POST", SELF, body)
        finally:
            client.close()
        # 403: authenticated, and somebody took away the right to ask who one is
        if answer.status not in (200, 201, 401, 403):
            raise ApiRefusedError(answer.status, f"POST {SELF}: {answer.status} {answer.message}")
        return answer.status != 401

    def request_token(self, worker: str) -> str:
        """A new token that the API accepts. Raises ApiError."""
        path = f"/api/v1/namespaces/{self._settings.namespace}/serviceaccounts/{worker}/token"
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": self._settings.lifetime},
        }
        token = str(self._client.need("POST", path, body)["status"]["token"])
        if not self.accepted(token):
            raise ApiError(
                f"the API does not accept the token that it has just issued for {worker}: 401. The old file was kept. "
                "Cure: `journalctl -u k3s` names the cause (clock, service-account keys)"
            )
        return token

    def handle(self, worker: str) -> Outcome:
        """Makes one worker's file right, or says what would be done. Raises ApiError, OSError."""
        settings = self._settings
        outcome = Outcome(file_of(settings, worker))
        text = read_text(outcome.path)
        wanted = Wanted(settings.server, self._admin.ca, settings.namespace, worker, self.account_uid(worker))
        found = assess(text, wanted, now=time.time(), lifetime=settings.lifetime)
        token_reasons = list(found.token)
        if text is not None and not token_reasons and not self.accepted(parse_kubeconfig(text).token):
            token_reasons.append("the API does not accept the token (401)")
        if settings.force and not token_reasons:
            token_reasons.append("asked for")
        outcome.reasons = token_reasons + list(found.file)
        outcome.restart = bool(outcome.reasons)
        outcome.token_renewed = bool(token_reasons)
        if text is not None:
            found_access = Access.of(Path(outcome.path))
            if found_access != settings.access:
                outcome.reasons.append(f"owner and mode were {found_access}, not {settings.access}")
        self._write(worker, wanted, outcome, text)
        return outcome

    def _write(self, worker: str, wanted: Wanted, outcome: Outcome, text: str | None) -> None:
        settings = self._settings
        token = ""
        if not outcome.token_renewed:
            token = parse_kubeconfig(text or "").token
        elif settings.apply:
            token = self.request_token(worker)
        outcome.expires = iso(read_claims(token).expires) if token else f"{settings.lifetime} s after the renewal"
        if outcome.restart:
            new = render(wanted, token, outcome.expires)
            outcome.diff = {"before": masked(text), "after": masked(new)}
            if settings.apply:
                write(outcome.path, new, settings.access)
        elif outcome.reasons:
            outcome.diff = {"before": "\n".join(outcome.reasons) + "\n", "after": ""}
            if settings.apply:
                ensure_access(Path(outcome.path), settings.access)


def file_of(settings: Settings, worker: str) -> str:
    """The path of a worker's kubeconfig."""
    return os.path.join(settings.directory, f"{worker}.yaml")


def predict_without_cluster(settings: Settings, workers: list[str]) -> dict[str, Outcome]:
    """What a run would do on a server that has no cluster yet: a new file for each worker. Raises InputError."""
    outcomes = {}
    for worker in workers:
        path = file_of(settings, worker)
        reason = "there is no file" if read_text(path) is None else "there is no cluster yet"
        outcomes[worker] = Outcome(
            path,
            [reason],
            restart=True,
            token_renewed=True,
            expires=f"{settings.lifetime} s after the renewal",
            diff={"before": "", "after": "a new kubeconfig\n"},
        )
    return outcomes


def check_certificate(admin: Credentials, host: str) -> None:
    """Proves that the API server's certificate names `host`, as a worker's client will demand.

    Raises ApiTlsError with the cure, ApiUnreachableError.
    """
    try:
        Client(admin).handshake(host)
    except ApiTlsError as error:
        if "mismatch" not in str(error).lower() and "not valid for" not in str(error).lower():
            raise
        raise ApiTlsError(
            f"the certificate of {admin.server} does not name {host}, so no worker could use it: {error}. "
            f"Cure: add {host} to k3s_tls_sans and run the role k3s"
        ) from error


def make_folder(settings: Settings) -> list[str]:
    """Makes the folder (0700, its parents 0755) or corrects its mode and owner. Returns what was wrong with it."""
    path, wanted = Path(settings.directory), dataclasses.replace(settings.access, mode=0o700)
    found = Access.of(path)
    if found == wanted:
        return []
    if settings.apply:
        ensure_folder(path, wanted)
    return [f"{path} was {found}, not {wanted}" if found else f"{path} was missing"]


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "workers": {"type": "list", "elements": "str", "required": True},
            "namespace": {"type": "str", "required": True},
            "server": {"type": "str", "required": True},
            "directory": {"type": "path", "required": True},
            # a number of seconds, no secret
            "token_lifetime_seconds": {"type": "int", "default": 2592000, "no_log": False},
            "admin_kubeconfig": {"type": "path", "default": "/etc/rancher/k3s/k3s.yaml"},
            "force": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    params = module.params
    settings = Settings(
        namespace=params["namespace"],
        server=params["server"],
        directory=params["directory"],
        lifetime=params["token_lifetime_seconds"],
        force=params["force"],
        apply=not module.check_mode,
    )
    if YAML_ERROR and os.path.exists(params["admin_kubeconfig"]):
        module.fail_json(msg=missing_required_lib("PyYAML"), exception=YAML_ERROR)
    try:
        host = check_server(settings.server)
        check_lifetime(settings.lifetime)
        if os.path.exists(params["admin_kubeconfig"]) or not module.check_mode:
            admin = read_admin(params["admin_kubeconfig"])
            with contextlib.closing(Client(admin)) as client:
                wait_ready(client, float(params["timeout"]))
                try:
                    check_certificate(admin, host)
                except ApiTlsError as error:
                    # the same run may be about to add the name
                    if not module.check_mode:
                        raise
                    module.warn(explain(error))
                folder = make_folder(settings)
                renewer = Renewer(settings, admin, client)
                outcomes = {worker: renewer.handle(worker) for worker in params["workers"]}
        else:
            folder = make_folder(settings)
            outcomes = predict_without_cluster(settings, params["workers"])
    except (ApiError, OSError) as error:
        module.fail_json(msg=explain(error))
    module.exit_json(
        changed=bool(folder) or any(outcome.reasons for outcome in outcomes.values()),
        workers={name: outcome.report() for name, outcome in outcomes.items()},
        restart=[name for name, outcome in outcomes.items() if outcome.restart],
        directory=folder,
        diff=[
            {"before_header": path, "after_header": path, **diff}
            for path, diff in [(settings.directory, {"before": f"{line}\n", "after": ""}) for line in folder]
            + [(outcome.path, outcome.diff) for outcome in outcomes.values() if outcome.diff]
        ],
    )


if __name__ == "__main__":
    main()
