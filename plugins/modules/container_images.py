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

from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.container_images import LOGINS, ImageError, Images
from ansible.module_utils.integr8scode_docker import EngineUnavailableError, connect


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "services": {"type": "dict", "required": True},
            "locked": {"type": "dict", "default": {}},
            "credentials": LOGINS,
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
        found = images.look(services, locked)
        if not module.params["pull"]:
            images.find_all(found, locked)
        elif not module.check_mode:
            images.pull_all(found)
    except ImageError as error:
        module.fail_json(msg=f"Nothing was changed. {error}")
    module.exit_json(
        changed=bool(found.missing) and module.params["pull"],
        pulled=found.missing if module.params["pull"] else [],
        **asdict(found),
    )


if __name__ == "__main__":
    main()
