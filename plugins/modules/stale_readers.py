#!/usr/bin/python
"""Restart containers that hold an older version of a file than the one that stands on the server."""

from __future__ import annotations

DOCUMENTATION = r"""
module: stale_readers
short_description: Restart containers that hold an older version of a file
description:
  - A container that mounts a single file keeps the file that was there when it started, also after another one has
    taken its name. This restarts the containers of a service that started before its file was last replaced.
  - What an interrupted run has left undone is so made up for by the next one.
options:
  readers:
    description: Path of the file on the server, by service.
    type: dict
    required: true
  project:
    description: Name of the Compose project.
    type: str
    default: integr8scode
attributes:
  check_mode:
    support: full
"""

EXAMPLES = r"""
- name: Give each worker its newest kubeconfig
  stale_readers:
    readers:
      k8s-worker: /opt/integr8scode/kubeconfig/k8s-worker.yaml
"""

RETURN = r"""
restarted:
  description: Services whose containers were (in check mode, would be) restarted.
  type: list
  returned: always
"""

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.integr8scode_docker import (
    PROJECT_LABEL,
    SERVICE_LABEL,
    EngineUnavailableError,
    connect,
)

# Go's zero time: the container has never been started
NEVER = "0001-01-01T00:00:00Z"


def started_at(container: Any) -> float:
    """Return when a container was last started, seconds since 1970; in the future where it does not run."""
    state = container.attrs["State"]
    if not state["Running"] or state["StartedAt"] == NEVER:
        return float("inf")
    # nanoseconds are more than Python reads
    text = state["StartedAt"].removesuffix("Z")[:26]
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp()


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "readers": {"type": "dict", "required": True},
            "project": {"type": "str", "default": "integr8scode"},
        },
        supports_check_mode=True,
    )
    restarted = []
    try:
        client = connect()
        for service, path in module.params["readers"].items():
            if not Path(path).exists():
                module.fail_json(msg=f"{path}, which {service} reads, does not exist. Run playbooks/site.yml.")
            replaced_at = Path(path).stat().st_mtime
            labels = [f"{PROJECT_LABEL}={module.params['project']}", f"{SERVICE_LABEL}={service}"]
            for container in client.containers.list(filters={"label": labels}, ignore_removed=True):
                if started_at(container) < replaced_at:
                    restarted.append(service)
                    if not module.check_mode:
                        # with the grace that Compose gave the container
                        container.restart(timeout=container.attrs["Config"].get("StopTimeout") or 20)
    except (EngineUnavailableError, OSError) as error:
        if module.check_mode and isinstance(error, EngineUnavailableError):
            module.exit_json(changed=False, restarted=[])
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(restarted), restarted=restarted)


if __name__ == "__main__":
    main()
