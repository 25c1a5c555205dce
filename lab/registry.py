"""A small client of the lab's registry (Docker Registry HTTP API V2), through its port on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from lab.settings import REGISTRY_PASSWORD, REGISTRY_USER, LabError, Settings

_TYPES = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.index.v1+json",
)
MANIFESTS = ", ".join(_TYPES)
"""What an engine accepts as a manifest: single images and indices of several, Docker's format and OCI's."""


@dataclass(frozen=True)
class Registry:
    """The registry at ``https://127.0.0.1:port``, trusted by the lab's CA.

    Attributes:
        port: where it is published.
        ca: the lab's CA certificate.
        user, password: the login; defaults are the right ones.
    """

    port: int
    ca: Path
    user: str = REGISTRY_USER
    password: str = REGISTRY_PASSWORD

    @classmethod
    def of(cls, settings: Settings) -> Registry:
        """The one of this lab, with the right login."""
        return cls(settings.registry_port, settings.state / "ca.crt")

    @property
    def address(self) -> str:
        """The registry as an engine on this machine names it: 127.0.0.0/8 needs no CA there."""
        return f"127.0.0.1:{self.port}"

    def get(self, path: str, method: str = "GET", accept: str = MANIFESTS) -> requests.Response:
        """One request below ``/v2/``, with the login (unless the user is empty).

        Raises:
            LabError: no answer.
        """
        return self._ask(method, path, {"Accept": accept})

    def _ask(self, method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> requests.Response:
        with requests.Session() as session:
            # neither this machine's proxies nor its netrc nor its CA bundle have a say here
            session.trust_env = False
            auth = (self.user, self.password) if self.user else None
            try:
                return session.request(
                    method,
                    f"https://{self.address}/v2/{path}",
                    headers=headers,
                    data=body,
                    auth=auth,
                    verify=str(self.ca),
                    timeout=20,
                )
            except requests.RequestException as error:
                raise LabError(f"the lab's registry does not answer at {self.address}: {error}") from None

    def digest(self, repository: str, tag: str) -> str:
        """Digest of a tag; empty if there is none."""
        answer = self.get(f"{repository}/manifests/{tag}", "HEAD")
        return answer.headers.get("Docker-Content-Digest", "") if answer.ok else ""

    def move(self, repository: str, tag: str, digest: str) -> None:
        """Let a tag name another image that the repository holds, as a registry does when somebody pushes it again.

        Raises:
            LabError: the repository does not hold that image, or does not take the tag.
        """
        manifest = self.get(f"{repository}/manifests/{digest}")
        if not manifest.ok:
            raise LabError(f"{repository} holds no {digest} in the lab's registry (status {manifest.status_code})")
        kind = {"Content-Type": manifest.headers["Content-Type"]}
        taken = self._ask("PUT", f"{repository}/manifests/{tag}", kind, manifest.content)
        if not taken.ok:
            raise LabError(f"the lab's registry does not take {repository}:{tag}: {taken.status_code} {taken.text}")

    def copy(self, repository: str, tag: str, to: str) -> str:
        """Let another repository of the registry have an image under the same tag; no layer is sent again.

        An index is copied with every image that it names. Returns the digest, which stays the same.

        Raises:
            LabError: there is no such image, or the registry does not take it.
        """
        return self._copy(repository, tag, to, tag)

    def _copy(self, repository: str, reference: str, to: str, name: str) -> str:
        """Copy what a tag or digest names to `to` under `name`; its digest."""
        answer = self.get(f"{repository}/manifests/{reference}")
        if not answer.ok:
            raise LabError(f"{repository} holds no {reference} in the lab's registry (status {answer.status_code})")
        manifest: dict[str, Any] = answer.json()
        # a registry takes a manifest only when it has all that it names
        for image in manifest.get("manifests", []):
            self._copy(repository, image["digest"], to, image["digest"])
        blobs = [manifest["config"], *manifest["layers"]] if "config" in manifest else []
        for digest in dict.fromkeys(blob["digest"] for blob in blobs):
            mounted = self._ask("POST", f"{to}/blobs/uploads/?mount={digest}&from={repository}", {}, b"")
            # 202 asks for the bytes themselves
            if mounted.status_code != requests.codes.created:
                raise LabError(
                    f"the lab's registry does not mount {digest} of {repository} in {to} (status {mounted.status_code})"
                )
        kind = {"Content-Type": answer.headers["Content-Type"]}
        taken = self._ask("PUT", f"{to}/manifests/{name}", kind, answer.content)
        if not taken.ok:
            raise LabError(f"the lab's registry does not take {to}:{name}: {taken.status_code} {taken.text}")
        return taken.headers["Docker-Content-Digest"]

    def labels(self, repository: str, tag: str) -> dict[str, str] | None:
        """Labels of the image that a tag names; None if there is none (or it is an index of several)."""
        answer = self.get(f"{repository}/manifests/{tag}")
        if not answer.ok:
            return None
        manifest: dict[str, Any] = answer.json()
        if "config" not in manifest:
            return None
        config = self.get(f"{repository}/blobs/{manifest['config']['digest']}", accept="*/*")
        if not config.ok:
            return None
        return dict(config.json().get("config", {}).get("Labels") or {})
