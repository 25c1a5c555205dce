#!/usr/bin/python
"""What a server has of Integr8sCode, in one look."""

from __future__ import annotations

DOCUMENTATION = r"""
module: integr8scode_state
short_description: What a server has of Integr8sCode
description:
  - Reads, in one execution and without changing anything, the running release, those that are kept, its containers, an
    installation that is not this project's, who holds the ports that the stack publishes, memory, disk, who holds the
    lock, and what of files, libraries, units and Kubernetes is asked for.
  - Works before Docker is installed; C(docker.available) is then false.
  - Nothing that it asks may take long but a registry; what does not answer in time is said to be so.
options:
  base:
    description: Where Integr8sCode is installed.
    type: path
    default: /opt/integr8scode
  project:
    description: Name of the Compose project.
    type: str
    default: integr8scode
  ports:
    description: TCP ports of the server whose listener is looked up.
    type: list
    elements: int
    default: []
  history_lines:
    description: How many of the newest history entries are returned.
    type: int
    default: 5
  files:
    description: Paths whose kind, owner, mode and SHA-256 are looked up.
    type: list
    elements: path
    default: []
  libraries:
    description: Python modules; whether the server's Python finds each is looked up.
    type: list
    elements: str
    default: []
  units:
    description: Units of systemd whose state is looked up.
    type: list
    elements: str
    default: []
  kubernetes:
    description: Whose kubeconfigs are tried at the API, asked on 127.0.0.1. None without it.
    type: dict
    suboptions:
      workers:
        description: Workers whose C(<worker>.yaml) is tried.
        type: list
        elements: str
        required: true
      directory:
        description: Folder of the kubeconfigs.
        type: path
        required: true
      namespace:
        description: Namespace of the application's pods.
        type: str
        required: true
  server:
    description: What a run needs of the server below the stack, for the action C(integr8scode_preflight).
    type: dict
    suboptions:
      names:
        description: Host names that are resolved.
        type: list
        elements: str
        default: []
      whole:
        description: Whether system, control groups, kernel, packages and k3s are looked at, too.
        type: bool
        default: false
      kernel_modules:
        description: Kernel modules that are needed.
        type: list
        elements: str
        default: []
      k3s:
        description: What k3s shall be, as the module C(k3s_preflight) takes it, without its token. None without it.
        type: dict
  k3s_token:
    description: The token that k3s shall have; not judged without it.
    type: str
  images:
    description:
      - A release whose images are asked for at their registries, with C(registry_login), and at the engine. None
        without it.
    type: dict
    suboptions:
      services:
        description: Image reference (C(registry/repository:tag)) of each service.
        type: dict
        required: true
      renewed:
        description: Registry, with its path, whose tags are resolved again. Those of others keep the running digest.
        type: str
        required: true
  registry_login:
    description: Logins for C(images). No password is returned.
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
  mongo_root_username:
    description: The login that MongoDB shall have; not judged without it.
    type: str
  mongo_root_password:
    description: Its password; not judged without it. Never returned, and compared by the server's own keyed hash.
    type: str
  lease_seconds:
    description: After so long without a word, a run that holds the lock and was preparing counts as over.
    type: int
    default: 1800
attributes:
  check_mode:
    support: full
"""

EXAMPLES = r"""
- name: Look at the server
  integr8scode_state:
    ports: [443, 5001]
  register: state
"""

RETURN = r"""
release:
  description: release.json of the running release, or null. Where it cannot be read, id, tag, images and digests as the
    rest of the release tells them, and C(problem).
  type: dict
  returned: always
current_problem:
  description: Why no release could take the place of the running one, with the cure, or an empty text.
  type: str
  returned: always
history:
  description: The newest entries of history.jsonl, oldest first.
  type: list
  returned: always
other_secrets:
  description: Which of O(mongo_root_username) and O(mongo_root_password) is another one than the stack mounts.
  type: list
  elements: str
  returned: always
seeded:
  description: Path of the password file that the users were last seeded with, or null.
  type: str
  returned: always
time:
  description: The server's clock, seconds since 1970.
  type: float
  returned: always
docker:
  description: C(available), C(error), C(version) of the engine and its C(root) directory.
  type: dict
  returned: always
containers:
  description: Containers of the project by service; each with id, name, image, digest, state, health, started_at,
    restarts, exit_code, oom_killed, memory_bytes (its limit), working_dir.
  type: dict
  returned: always
published:
  description: By port, the C(name) of the container that publishes it and whether it is of the project (C(ours)).
  type: dict
  returned: always
networks:
  description: The project's networks by name, each with its C(subnet) and C(ip_range).
  type: dict
  returned: always
foreign:
  description: Containers and volumes of the same Compose project that this project has not made.
  type: dict
  returned: always
listeners:
  description: Who listens on each requested port, by C(name), C(pid), C(unit) and C(container) (id); absent where
    nobody does.
  type: dict
  returned: always
memory:
  description: C(total_bytes), C(available_bytes) and C(swap_bytes).
  type: dict
  returned: always
releases:
  description: The releases that are kept, the newest first; each with id, tag, created_at, by, commit, served_at (when
    it was last switched to, or null), current, differs (names of what is not as in the running one, as lists C(images)
    of services, C(files) and C(environment) of variables; null for the running one and where it is not known), images,
    digests, missing (images that the server has not, null where Docker does not say).
  type: list
  returned: always
rollback_target:
  description: Id of the release that a rollback goes to when it names none, or null.
  type: str
  returned: always
rollback_left:
  description: Id of the release that the last rollback went back from, as long as it is kept, or null.
  type: str
  returned: always
lock:
  description: Who holds the lock as C(owner) and as C(description), and why its run is over as C(stale) (empty while it
    may live); null for nobody.
  type: dict
  returned: always
switching:
  description: Whether a switch works on the server at this moment; null where systemd does not answer.
  type: bool
  returned: always
files:
  description: By path, C(kind), C(uid), C(gid), C(mode) and C(sha256), or null where nothing is.
  type: dict
  returned: always
libraries:
  description: By name, whether it can be imported.
  type: dict
  returned: always
units:
  description: By name, C(active) and C(enabled) in systemd's words, and C(reload), whether its file is newer than what
    systemd has read.
  type: dict
  returned: always
kubernetes:
  description: By worker, whether its kubeconfig is C(usable), and the C(problem).
  type: dict
  returned: always
images:
  description: C(services), C(digests) and C(missing) as M(container_images) returns them, or C(problem), why one cannot
    be had.
  type: dict
  returned: where O(images) is given and an engine could ask
disk:
  description: Free bytes and inodes of the file systems below the base, Docker's root directory, k3s' and /var, and
    whether each is read-only.
  type: dict
  returned: always
server:
  description: What was found of what C(server) asks for.
  type: dict
  returned: where it was asked for
"""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ansible.module_utils.atomic_files import MASK
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.container_images import LOGINS
from ansible.module_utils.history import read_history
from ansible.module_utils.preflight.look import look
from ansible.module_utils.releases.layout import Layout
from ansible.module_utils.releases.lock import UNIT
from ansible.module_utils.releases.targets import left_by_rollback, rollback_target
from ansible.module_utils.secret_files import other_contents
from ansible.module_utils.server_state import images, kubernetes, machine, releases, stack
from ansible.module_utils.server_state.listeners import read_listeners

LOGIN = ("mongo_root_username", "mongo_root_password")
"""The files of secrets whose content the stack keeps (roles/integr8scode/tasks/release.yml)."""


def read(parameters: dict[str, Any], base: Path, release: dict[str, Any] | None) -> dict[str, Any]:
    """The module's result, but for what a registry says."""
    engine = stack.read_docker(parameters["project"], base)
    history = read_history(base)
    running = str(release["id"]) if release else None
    kept = releases.read_kept(base, running, history, engine.pop("images"))
    ids = [one["id"] for one in kept]
    units = machine.read_units([UNIT, *parameters["units"]])
    switching = machine.at_work(units.pop(UNIT))
    places = {
        "base": base,
        "docker": Path(engine["docker"]["root"] or "/var/lib/docker"),
        "k3s": Path("/var/lib/rancher"),
        "var": Path("/var"),
    }
    found = {"server": look(parameters["server"], parameters["k3s_token"])} if parameters["server"] else {}
    return {
        "release": release,
        "current_problem": Layout(base).current_problem(),
        "releases": kept,
        "rollback_target": rollback_target(history, running, ids),
        "rollback_left": left_by_rollback(history, running, ids),
        "history": history[-parameters["history_lines"] :] if parameters["history_lines"] > 0 else [],
        "other_secrets": other_contents(
            base / "secrets", {name: parameters[name] for name in LOGIN if parameters[name] is not None}
        ),
        "seeded": releases.read_seeded(base),
        # where nobody knows, a switch may be at work
        "lock": releases.read_lock(base, parameters["lease_seconds"], switching is not False),
        "switching": switching,
        "time": time.time(),
        "listeners": read_listeners(set(parameters["ports"])),
        "memory": machine.read_memory(),
        "disk": {name: machine.free_space(path) for name, path in places.items()},
        "files": {path: machine.describe_path(Path(path)) for path in parameters["files"]},
        "libraries": machine.importable(parameters["libraries"]),
        "units": units,
        "kubernetes": kubernetes.described(parameters["kubernetes"]) if parameters["kubernetes"] else {},
        **found,
        **engine,
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "base": {"type": "path", "default": "/opt/integr8scode"},
            "project": {"type": "str", "default": "integr8scode"},
            "ports": {"type": "list", "elements": "int", "default": []},
            "history_lines": {"type": "int", "default": 5},
            "files": {"type": "list", "elements": "path", "default": []},
            "libraries": {"type": "list", "elements": "str", "default": []},
            "units": {"type": "list", "elements": "str", "default": []},
            "kubernetes": {
                "type": "dict",
                "options": {
                    "workers": {"type": "list", "elements": "str", "required": True},
                    "directory": {"type": "path", "required": True},
                    "namespace": {"type": "str", "required": True},
                },
            },
            "server": {
                "type": "dict",
                "options": {
                    "names": {"type": "list", "elements": "str", "default": []},
                    "whole": {"type": "bool", "default": False},
                    "kernel_modules": {"type": "list", "elements": "str", "default": []},
                    "k3s": {"type": "dict"},
                },
            },
            "k3s_token": {"type": "str", "no_log": True},
            "images": {
                "type": "dict",
                "options": {
                    "services": {"type": "dict", "required": True},
                    "renewed": {"type": "str", "required": True},
                },
            },
            "registry_login": LOGINS,
            "mongo_root_username": {"type": "str"},
            "mongo_root_password": {"type": "str", "no_log": True},
            "lease_seconds": {"type": "int", "default": 1800},
        },
        supports_check_mode=True,
    )
    parameters = dict(module.params)
    # neither is ever returned; masked, one that is a common word would be masked inside of paths and names too
    if parameters["mongo_root_password"] is not None:
        module.params["mongo_root_password"] = MASK
        module.no_log_values.discard(parameters["mongo_root_password"])
    for login in parameters["registry_login"]:
        module.no_log_values.difference_update(login.values())
    module.params["registry_login"] = [{**login, "password": MASK} for login in parameters["registry_login"]]
    base = Path(parameters["base"])
    try:
        release = releases.read_release(base)
    except ValueError as error:
        module.fail_json(msg=str(error))
    digests: dict[str, str] = (release or {}).get("digests") or {}
    with ThreadPoolExecutor(1) as beside:
        # it takes longest, and waits for others
        asked = beside.submit(images.described, parameters["images"], parameters["registry_login"], digests)
        found = read(parameters, base, release)
    module.exit_json(changed=False, **found, **asked.result())


if __name__ == "__main__":
    main()
