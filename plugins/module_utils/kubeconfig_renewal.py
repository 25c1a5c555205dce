"""The workers' kubeconfigs: a short-lived token for each service account, renewed only when it is due.

For the module kubeconfig_renew, and for a server that renews by itself (kubernetes_renewal).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.atomic_files import Access, ensure_access, ensure_folder
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

# owner, group and mode of a kubeconfig; the application's containers run as root
FILE_ACCESS = Access(0, 0, 0o400)
SELF = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What concerns every worker alike."""

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
        """It as a module returns it."""
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


def predict_without_cluster(settings: Settings, workers: Sequence[str]) -> dict[str, Outcome]:
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


@dataclasses.dataclass(frozen=True)
class Renewal:
    """What happened (or would happen) to the folder and to each worker's file; `warnings` are for a person."""

    folder: list[str]
    outcomes: dict[str, Outcome]
    warnings: list[str]

    @property
    def changed(self) -> bool:
        """Whether anything was not as it had to be."""
        return bool(self.folder) or any(outcome.reasons for outcome in self.outcomes.values())

    @property
    def restart(self) -> list[str]:
        """Workers whose file has new content."""
        return [name for name, outcome in self.outcomes.items() if outcome.restart]


def renew(settings: Settings, workers: Sequence[str], *, admin_kubeconfig: str, timeout: float) -> Renewal:
    """Makes every worker's file right, or says what would be done (`settings.apply`).

    timeout: seconds to wait for the API. Raises ApiError (InputError for parameters that cannot be), OSError.
    """
    host = check_server(settings.server)
    check_lifetime(settings.lifetime)
    if not settings.apply and not os.path.exists(admin_kubeconfig):
        return Renewal(make_folder(settings), predict_without_cluster(settings, workers), [])
    admin = read_admin(admin_kubeconfig)
    warnings: list[str] = []
    with contextlib.closing(Client(admin)) as client:
        wait_ready(client, timeout)
        try:
            check_certificate(admin, host)
        except ApiTlsError as error:
            # the same run may be about to add the name
            if settings.apply:
                raise
            warnings.append(explain(error))
        folder = make_folder(settings)
        renewer = Renewer(settings, admin, client)
        return Renewal(folder, {worker: renewer.handle(worker) for worker in workers}, warnings)
