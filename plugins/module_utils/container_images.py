"""Images of a stack: which digest a tag stands for, what the server lacks, and how it gets it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.integr8scode_docker import docker_errors

PARALLEL = 3  # the engine's own limit of layers at a time (max-concurrent-downloads)

LOGINS: dict[str, Any] = {
    "type": "list",
    "elements": "dict",
    "default": [],
    # the whole, since the server's journal gets sub-options as they are
    "no_log": True,
    "options": {
        "registry": {"type": "str", "required": True},
        "username": {"type": "str", "required": True},
        "password": {"type": "str", "required": True, "no_log": True},
    },
}
"""The argument of a module that takes logins, by the registry's host as it stands in the references."""


class ImageError(Exception):
    """An image cannot be had; the message says which, why, and the cure."""


def registry_of(reference: str) -> str:
    """Return the registry's host of an image reference (distribution/reference: a dot, a colon or localhost)."""
    first, slash, _ = reference.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first
    return "docker.io"


def explain(reference: str, error: Exception, username: str | None) -> str:
    """Turn an engine's error about an image into what happened and what to do."""
    registry = registry_of(reference)
    text = str(getattr(error, "explanation", None) or error)
    lowered = text.lower()
    if any(word in lowered for word in ("unauthorized", "denied", "authentication required", "no basic auth")):
        login = f"the login of {username!r}" if username else "access without a login"
        return (
            f"{reference}: {registry} refuses {login} ({text}). Check integr8scode_registry_username and "
            "integr8scode_registry_password, which is vault_registry_password in vault.yml (for ghcr.io a token with "
            "read:packages)."
        )
    if any(word in lowered for word in ("manifest unknown", "not found", "name unknown")):
        return (
            f"{reference} does not exist in the registry ({text}). Check the tag: a release carries it as "
            "YYYY.M.PATCH, or as sha- and seven hex digits."
        )
    if any(word in lowered for word in ("x509", "certificate")):
        return (
            f"{reference}: the certificate of {registry} is not trusted ({text}). "
            "Give its CA as docker_registry_ca_certificates and run playbooks/site.yml."
        )
    if "toomanyrequests" in lowered or "too many requests" in lowered:
        return (
            f"{reference}: {registry} answers, and holds this server back for too many requests ({text}). Wait: Docker "
            "Hub counts the pulls of an address, or of a login, for some hours. A mirror is not counted: "
            "docker_registry_mirrors, or integr8scode_hub_registry."
        )
    if "no space left" in lowered:
        return f"{reference}: the disk is full ({text}). Free some room: `docker system df` says what uses it."
    return (
        f"{reference}: {registry} cannot be reached ({text}). Check from the server: name resolution, the way out, "
        "and whether the registry is up."
    )


@dataclass(frozen=True)
class Found:
    """Images as they are now.

    Attributes:
        services: pinned reference (``registry/repository:tag@sha256:…``) of each service.
        digests: digest by image reference.
        missing: references of which the server has no image.
    """

    services: dict[str, str]
    digests: dict[str, str]
    missing: list[str]


class Images:
    """The images of one run, resolved and pulled through the engine.

    min_free_mb: MiB that must be free before each pull.
    """

    def __init__(self, client: Any, credentials: list[dict[str, str]], min_free_mb: int = 0) -> None:
        self.client = client
        self.min_free_mb = min_free_mb
        self.credentials = {
            entry["registry"]: {"username": entry["username"], "password": entry["password"]} for entry in credentials
        }

    def look(self, services: Mapping[str, str], locked: Mapping[str, str]) -> Found:
        """Resolve what is not locked to a digest, and look what the server lacks.

        :param services: image reference of each service.
        :param locked: digests that are not asked for, by reference.
        :raises ImageError: the registry does not say, or the engine.
        """
        references = sorted(set(services.values()))
        with ThreadPoolExecutor(PARALLEL) as pool:
            found = pool.map(lambda reference: locked.get(reference) or self.resolve(reference), references)
            digests = dict(zip(references, found, strict=True))
            here = pool.map(lambda reference: self.present(reference, digests[reference]), references)
            missing = [reference for reference, present in zip(references, here, strict=True) if not present]
        pinned = {service: f"{reference}@{digests[reference]}" for service, reference in services.items()}
        return Found(pinned, digests, missing)

    def find_all(self, found: Found, locked: Iterable[str]) -> None:
        """See that the registry has what is missing: what was resolved just now is there, what was locked may be gone.

        :raises ImageError: it has not, or does not say.
        """
        with ThreadPoolExecutor(PARALLEL) as pool:
            known = [reference for reference in found.missing if reference in locked]
            list(pool.map(lambda reference: self.find(reference, found.digests[reference]), known))

    def pull_all(self, found: Found) -> None:
        """Pull what is missing. Raises ImageError."""
        with ThreadPoolExecutor(PARALLEL) as pool:
            list(pool.map(lambda reference: self.pull(reference, found.digests[reference]), found.missing))

    def _login(self, reference: str) -> dict[str, str] | None:
        return self.credentials.get(registry_of(reference))

    def _failure(self, reference: str, error: Exception) -> ImageError:
        return ImageError(explain(reference, error, (self._login(reference) or {}).get("username")))

    def resolve(self, reference: str) -> str:
        """Return the digest that a tag stands for now.

        :raises ImageError: the registry does not say.
        """
        try:
            answer = self.client.api.inspect_distribution(reference, auth_config=self._login(reference) or {})
        except (docker_errors.APIError, OSError) as error:
            raise self._failure(reference, error) from error
        return str(answer["Descriptor"]["digest"])

    def find(self, reference: str, digest: str) -> None:
        """See that the registry has an image of this digest.

        :raises ImageError: it has not, or does not say.
        """
        pinned = f"{repository_of(reference)}@{digest}"
        try:
            self.client.api.inspect_distribution(pinned, auth_config=self._login(reference) or {})
        except (docker_errors.APIError, OSError) as error:
            raise self._failure(f"{reference}@{digest}", error) from error

    def present(self, reference: str, digest: str) -> bool:
        """Return whether the server already has this image.

        :raises ImageError: the engine does not say.
        """
        try:
            self.client.api.inspect_image(f"{repository_of(reference)}@{digest}")
        except docker_errors.ImageNotFound:
            return False
        except (docker_errors.APIError, OSError) as error:
            raise ImageError(
                f"{reference}: the Docker Engine does not say whether it is here ({error}). "
                "See `systemctl status docker`."
            ) from error
        return True

    def check_disk(self, reference: str) -> None:
        """See that there is room for another image.

        :raises ImageError: there is not.
        """
        root = str(self.client.info()["DockerRootDir"])
        status = os.statvfs(root)
        free = status.f_bavail * status.f_frsize // 2**20
        if free < self.min_free_mb:
            raise ImageError(
                f"{reference} is not pulled: {root} has {free} MiB free, and {self.min_free_mb} are the least. "
                "`docker system df` says what uses it, `docker builder prune -f` frees what nobody misses. Not "
                "`docker image prune`: it takes the images that a rollback needs."
            )

    def pull(self, reference: str, digest: str) -> None:
        """Pull an image by digest.

        :raises ImageError: it cannot be pulled, or the disk is too full for it.
        """
        try:
            self.check_disk(reference)
            for event in self.client.api.pull(
                repository_of(reference),
                tag=digest,
                auth_config=self._login(reference) or {},
                stream=True,
                decode=True,
            ):
                if "error" in event:
                    raise self._failure(reference, RuntimeError(event["error"]))
        except (docker_errors.APIError, OSError) as error:
            raise self._failure(reference, error) from error


def repository_of(reference: str) -> str:
    """Return an image reference without its tag."""
    head, colon, tail = reference.rpartition(":")
    return head if colon and "/" not in tail else reference
