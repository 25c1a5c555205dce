#!/usr/bin/python
"""Resolve the images of a stack to digests and pull them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_images
short_description: Resolve images to digests and pull them
description:
  - Asks the registries, through the Docker Engine and so with its mirrors, proxies and certificates, which digest each
    tag stands for at this moment, and pulls what the server lacks by that digest.
  - Credentials are handed to the engine with each call and stored nowhere.
  - Looks at the free disk before each pull, so that a full one is told by its name and before it is full.
options:
  services:
    description: Image reference (C(registry/repository:tag)) of each service.
    type: dict
    required: true
  locked:
    description: Digests that are not asked for again, by image reference.
    type: dict
    default: {}
  credentials:
    description: Logins, by the registry's host as it stands in the references.
    type: list
    elements: dict
    default: []
    suboptions:
      registry:
        description: Host, with port if any. C(docker.io) for Docker Hub.
        type: str
        required: true
      username:
        description: Name to log in with.
        type: str
        required: true
      password:
        description: Password or token.
        type: str
        required: true
  pull:
    description:
      - Whether to pull. False only resolves, says what is missing, and asks the registry whether it has each of those.
    type: bool
    default: true
  min_free_mb:
    description: MiB that must be free below Docker's root directory before each pull.
    type: int
    default: 1024
attributes:
  check_mode:
    support: full
    description: Resolves, and says what would be pulled. Where there is no engine yet, digests are unknown (null).
"""

EXAMPLES = r"""
- name: Pull the release's images
  container_images:
    services:
      backend: ghcr.io/hardmax71/integr8scode/backend:2026.2.20
    credentials:
      - {registry: ghcr.io, username: ops, password: "{{ vault_registry_password }}"}
"""

RETURN = r"""
services:
  description: Pinned reference (C(registry/repository:tag@sha256:…)) of each service.
  type: dict
  returned: always
digests:
  description: Digest by image reference.
  type: dict
  returned: always
missing:
  description: References of which the server had no image before the task.
  type: list
  returned: always
pulled:
  description: References that were (in check mode, would be) pulled.
  type: list
  returned: always
"""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.integr8scode_docker import EngineUnavailableError, connect, docker_errors

PARALLEL_PULLS = 3  # the engine's own limit of layers at a time (max-concurrent-downloads)


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


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "services": {"type": "dict", "required": True},
            "locked": {"type": "dict", "default": {}},
            "credentials": {
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
            },
            "pull": {"type": "bool", "default": True},
            "min_free_mb": {"type": "int", "default": 1024},
        },
        supports_check_mode=True,
    )
    # ... and in results only the passwords are masked: a registry's host or a user's name stands in messages
    module.no_log_values = {entry["password"] for entry in module.params["credentials"] if entry["password"]}
    services: dict[str, str] = module.params["services"]
    references = sorted(set(services.values()))
    try:
        # a look is quick or is none; a layer of a pull may be slow
        client = connect(timeout=600 if module.params["pull"] else 60)
    except EngineUnavailableError as error:
        if module.check_mode:
            module.exit_json(
                changed=module.params["pull"],
                services=services,
                digests=dict.fromkeys(references),
                missing=references,
                pulled=references if module.params["pull"] else [],
                msg=f"digests are unknown: {error}",
            )
        module.fail_json(msg=str(error))
    images = Images(client, module.params["credentials"], module.params["min_free_mb"])
    locked: dict[str, str] = module.params["locked"]
    try:
        with ThreadPoolExecutor(PARALLEL_PULLS) as pool:
            resolved = dict(
                zip(
                    references,
                    pool.map(lambda reference: locked.get(reference) or images.resolve(reference), references),
                    strict=True,
                )
            )
            missing = [reference for reference in references if not images.present(reference, resolved[reference])]
            if module.params["pull"] and not module.check_mode:
                list(pool.map(lambda reference: images.pull(reference, resolved[reference]), missing))
            elif not module.params["pull"]:
                # what was resolved just now is there; what a release names may be gone
                known = [reference for reference in missing if reference in locked]
                list(pool.map(lambda reference: images.find(reference, resolved[reference]), known))
    except ImageError as error:
        module.fail_json(msg=f"Nothing was changed. {error}")
    module.exit_json(
        changed=bool(missing) and module.params["pull"],
        services={service: f"{reference}@{resolved[reference]}" for service, reference in services.items()},
        digests=resolved,
        missing=missing,
        pulled=missing if module.params["pull"] else [],
    )


if __name__ == "__main__":
    main()
