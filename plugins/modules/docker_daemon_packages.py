#!/usr/bin/python
"""Ansible module: the distribution's Docker packages, refused before they are installed when they are too old."""

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_daemon_packages
short_description: Install Docker Engine and Compose from the distribution
description:
  - Refuses systems that are not supported, packages of another source, and candidates older than the minimum, before
    anything is installed.
  - Refreshes apt's lists only when a package is missing. In check mode it reads fresh lists into a temporary folder, so
    that the prediction is true on a server whose lists are empty, and the server stays as it is.
options:
  engine_min_version:
    description: Oldest Docker Engine that is accepted.
    type: str
    required: true
  compose_min_version:
    description: Oldest Docker Compose that is accepted.
    type: str
    required: true
author: integr8scode-ansible
"""

EXAMPLES = r"""
- name: Install Docker
  docker_daemon_packages:
    engine_min_version: "25.0"
    compose_min_version: 2.26.0
"""

RETURN = r"""
installed:
  description: Packages that were (in check mode, would be) installed.
  type: list
  returned: always
versions:
  description: Version of each package that makes up Docker, after the run (in check mode, the candidate).
  type: dict
  returned: always
"""

import os
import shutil
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.docker_daemon_common import (
    ENGINE_PACKAGE,
    FOREIGN_PACKAGES,
    DockerDaemonError,
    is_older,
    packages_for,
    parse_apt_policy,
    parse_os_release,
)


class Apt:
    """apt on this server, or in check mode the same apt with lists in a temporary folder."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.options: list[str] = []
        self.scratch = ""
        self.complaints = ""
        self.environment = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8", "NEEDRESTART_MODE": "l"}

    def run(self, program: str, *arguments: str) -> str:
        """Run an apt program; its standard output. Raises DockerDaemonError with its last words when it fails."""
        command = [program, *self.options, *arguments]
        code, out, err = self.module.run_command(command, environ_update=self.environment)
        if code != 0:
            words = " ".join((err or out).strip().splitlines()[-4:])
            raise DockerDaemonError(
                f"'{' '.join([program, *arguments])}' failed with {code}: {words} "
                "Check the server's apt sources and its way to them (apt-get update says more)."
            )
        return str(out)

    def refresh(self, *, imagined: bool) -> None:
        """Fetch the package lists; imagined: into a folder that is removed again (see close)."""
        if imagined:
            self.scratch = tempfile.mkdtemp(prefix="ansible-docker-apt-", dir=self.module.tmpdir)
            os.makedirs(os.path.join(self.scratch, "lists", "partial"))
            # apt drops its rights to _apt for downloads: let it write here
            for path in (
                self.scratch,
                os.path.join(self.scratch, "lists"),
                os.path.join(self.scratch, "lists", "partial"),
            ):
                os.chmod(path, 0o755)  # noqa: S103
            self.options = [
                "-o", f"Dir::State::Lists={self.scratch}/lists",
                "-o", f"Dir::Cache={self.scratch}",
                "-o", "APT::Sandbox::User=root",
            ]  # fmt: skip
        _code, _out, err = self.module.run_command(
            ["apt-get", *self.options, "-q", "update"], environ_update=self.environment
        )
        # apt-get ends with 0 even when every source failed: keep what it said for the message that follows then
        self.complaints = " ".join(line for line in str(err).splitlines() if line[:2] in ("E:", "W:", "Er"))

    def installed(self, packages: tuple[str, ...]) -> dict[str, str]:
        """Package -> version, for those that are installed; much quicker than apt-cache."""
        form = "${Package} ${Version} ${db:Status-Status}\\n"
        # ends with 1 when it knows none of a name; what it knows it prints all the same
        _code, out, _err = self.module.run_command(
            ["dpkg-query", "--show", f"--showformat={form}", *packages], environ_update=self.environment
        )
        rows = [line.split() for line in str(out).splitlines()]
        return {row[0]: row[1] for row in rows if len(row) == 3 and row[2] == "installed"}

    def candidates(self, packages: list[str]) -> dict[str, str]:
        """Package -> version that apt would install."""
        policy = parse_apt_policy(self.run("apt-cache", "policy", *packages))
        return {name: candidate for name, (_installed, candidate) in policy.items() if candidate}

    def close(self) -> None:
        """Remove the temporary lists."""
        if self.scratch:
            shutil.rmtree(self.scratch, ignore_errors=True)


def refuse_old(versions: dict[str, str], minimum: dict[str, str], system: str) -> None:
    """Raise DockerDaemonError when the engine's or Compose's version is older than its minimum."""
    for package, lowest in minimum.items():
        version = versions[package]
        if not version:
            raise DockerDaemonError(f"{package} is not there although apt-get said that it installed it on {system}.")
        if is_older(version, lowest):
            raise DockerDaemonError(
                f"{package} {version} on {system} is older than {lowest}, the oldest that works here (health checks' "
                "start_interval, Compose's waiting). Enable the distribution's updates (noble-updates on Ubuntu 24.04) "
                "or install Debian 13 or Ubuntu 24.04."
            )


def run(module: AnsibleModule, apt: Apt) -> dict[str, Any]:
    """Do the module's work; what it returns to Ansible."""
    with open("/etc/os-release", encoding="utf-8") as file:
        system = parse_os_release(file.read())
    packages = packages_for(system)
    compose = next(name for name in packages if name.startswith("docker-compose"))
    minimum = {ENGINE_PACKAGE: module.params["engine_min_version"], compose: module.params["compose_min_version"]}

    present = apt.installed(packages + FOREIGN_PACKAGES)
    foreign = [name for name in FOREIGN_PACKAGES if name in present]
    if foreign:
        raise DockerDaemonError(
            f"This server has {', '.join(foreign)}, from another source than {system.name}. Installing docker.io would "
            "remove it, and stop every container. Remove it yourself at a moment of your choice (apt-get remove "
            f"{' '.join(foreign)}; images and volumes in /var/lib/docker stay), then run again. "
            "Nothing has been changed."
        )
    missing = [name for name in packages if name not in present]
    # what is there is never upgraded behind the operator's back: that would restart the daemon
    versions = {name: present.get(name, "") for name in packages}
    if missing:
        apt.refresh(imagined=module.check_mode)
        versions |= apt.candidates(missing)
        absent = [name for name in missing if not versions.get(name)]
        if absent:
            raise DockerDaemonError(
                f"{system.name} offers no package {', '.join(absent)} through this server's apt sources. "
                "Debian needs the component main; Ubuntu main and universe with noble-updates. "
                + (f"apt-get update said: {apt.complaints}" if apt.complaints else "apt-get update had no complaint.")
            )
    refuse_old(versions, minimum, system.name)
    if missing:
        simulate = ["--simulate"] if module.check_mode else []
        apt.run(
            "apt-get",
            "-o",
            "DPkg::Lock::Timeout=300",
            "-qq",
            "-y",
            *simulate,
            "--no-install-recommends",
            "install",
            *missing,
        )
        if not module.check_mode:
            versions = {**dict.fromkeys(packages, ""), **apt.installed(packages)}
            refuse_old(versions, minimum, system.name)
    return {"changed": bool(missing), "installed": missing, "versions": versions}


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "engine_min_version": {"type": "str", "required": True},
            "compose_min_version": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    apt = Apt(module)
    try:
        result = run(module, apt)
    except DockerDaemonError as error:
        module.fail_json(msg=str(error))
    finally:
        apt.close()
    module.exit_json(**result)


if __name__ == "__main__":
    main()
