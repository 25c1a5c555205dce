#!/usr/bin/python
"""Ansible module: Docker's packages, the distribution's or those of Docker's own apt repository."""

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_daemon_packages
short_description: Install Docker Engine and Compose
description:
  - Takes them from the distribution, or from Docker's own apt repository in pinned versions that are put on hold.
  - Refuses systems that are not supported, packages of the other source, and versions older than the minimum, before
    anything is installed.
  - Refreshes apt's lists only when something is to be installed. In check mode it reads fresh lists into a temporary
    folder, so that the prediction is true on a server whose lists are empty, and the server stays as it is.
  - With Docker's repository its key is compared with the pinned fingerprint, and the repository tried with sources and
    lists in a temporary folder, before either is written to the server.
options:
  source:
    description: Where Docker comes from.
    type: str
    choices: [distribution, vendor]
    default: distribution
  engine_min_version:
    description: Oldest Docker Engine that is accepted.
    type: str
    required: true
  compose_min_version:
    description: Oldest Docker Compose that is accepted.
    type: str
    required: true
  vendor_url:
    description: Docker's repository, without the distribution's name that follows.
    type: str
    default: ""
  vendor_key_fingerprint:
    description: Fingerprint of the repository's key, forty hexadecimal digits.
    type: str
    default: ""
  vendor_key:
    description: The key itself in armored form. Empty fetches C(gpg) from the repository.
    type: str
    default: ""
  vendor_versions:
    description: Package to its version, Docker's own or apt's whole one. An empty one leaves a package out.
    type: dict
    default: {}
  allow_container_restart:
    description: Allow an upgrade that stops running containers (only without live-restore).
    type: bool
    default: false
author: integr8scode-ansible
"""

EXAMPLES = r"""
- name: Install Docker
  docker_daemon_packages:
    engine_min_version: "25.0"
    compose_min_version: 2.26.0

- name: Install Docker from its own repository
  docker_daemon_packages:
    source: vendor
    engine_min_version: "25.0"
    compose_min_version: 2.26.0
    vendor_url: https://download.docker.com/linux
    vendor_key_fingerprint: 9DC8 5822 9FC7 DD38 854A E2D8 8D81 803C 0EBF CD88
    vendor_versions:
      docker-ce: 28.5.2
      docker-ce-cli: 28.5.2
      containerd.io: 1.7.29
      docker-compose-plugin: 2.40.3
"""

RETURN = r"""
installed:
  description: Packages that were (in check mode, would be) installed or brought to their pinned version.
  type: list
  returned: always
versions:
  description: Version of each package that makes up Docker, after the run (in check mode, the candidate).
  type: dict
  returned: always
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.docker_daemon_apt import Apt
from ansible.module_utils.docker_daemon_common import (
    COMMON_PACKAGES,
    FOREIGN_PACKAGES,
    DockerDaemonError,
    System,
    packages_for,
    parse_os_release,
    version_tuple,
)
from ansible.module_utils.docker_daemon_engine import Daemon, write
from ansible.module_utils.docker_daemon_refusals import refuse_foreign, refuse_interruption, refuse_old
from ansible.module_utils.docker_daemon_vendor import (
    KEY_FILE,
    SOURCE_FILE,
    SOURCE_MARK,
    check_pins,
    check_url,
    checked_key,
    choose,
    is_pinned,
    is_trusted,
    other_entries,
    plain_fingerprint,
    refuse_downgrade,
    source_text,
    upgrades,
)


def on_disk(path: str) -> str | None:
    """A file's text, None when there is none; bytes of a key that is not armored become what no key has."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return None


def made_diff(path: str, before: str | None, after: str | None) -> dict[str, str]:
    """A file's change as --diff shows it."""
    return {"before_header": path, "after_header": path, "before": before or "", "after": after or ""}


def run_installed(daemon: Daemon, version: str) -> None:
    """Restart an engine that still runs in another version than the installed one; mostly its package has done so."""
    try:
        running = str(daemon.api("/version")["Version"])
    except OSError:
        return  # the module docker_daemon starts it
    if version_tuple(running) != version_tuple(version):
        daemon.apply("restart")


def from_distribution(module: AnsibleModule, apt: Apt, system: System) -> dict[str, Any]:
    """Have the distribution's packages; what is returned to Ansible."""
    packages = packages_for(system)
    present = apt.installed(packages + FOREIGN_PACKAGES["distribution"])
    refuse_foreign(present, "distribution", system)
    missing = [name for name in packages if name not in present]
    # what is there is never upgraded behind the operator's back: that would restart the daemon
    versions = {name: present.get(name, "") for name in packages}
    if missing:
        if module.check_mode:
            apt.imagine()
        apt.refresh()
        versions |= apt.candidates(missing)
        absent = [name for name in missing if not versions.get(name)]
        if absent:
            raise DockerDaemonError(
                f"{system.name} offers no package {', '.join(absent)} through this server's apt sources. "
                "Debian needs the component main; Ubuntu main and universe with noble-updates. "
                + (f"apt-get update said: {apt.complaints}" if apt.complaints else "apt-get update had no complaint.")
            )
    refuse_old(versions, module.params, system)
    # the way back from Docker's own repository: its packages were removed by hand, what the role wrote goes with them
    source = on_disk(SOURCE_FILE)
    left = [path for path in (SOURCE_FILE, KEY_FILE) if (source or "").startswith(SOURCE_MARK) and on_disk(path)]
    diff = [made_diff(path, on_disk(path), None) for path in left]
    if missing:
        apt.install(missing, simulate=module.check_mode)
    if not module.check_mode:
        # the source last: it is what tells that the key is the role's
        for path in reversed(left):
            os.unlink(path)
        if missing:
            versions = {**dict.fromkeys(packages, ""), **apt.installed(packages)}
            refuse_old(versions, module.params, system)
    return {"changed": bool(missing or left), "installed": missing, "versions": versions, "diff": diff}


class Vendor:
    """Docker's own repository, and what this server has of it."""

    def __init__(self, module: AnsibleModule, apt: Apt, system: System) -> None:
        self.module, self.apt, self.system = module, apt, system
        self.base = check_url(module.params["vendor_url"])
        self.url = f"{self.base}/{system.id}"
        self.fingerprint = plain_fingerprint(module.params["vendor_key_fingerprint"])
        self.pins = {str(name): str(pin) for name, pin in module.params["vendor_versions"].items() if pin}
        check_pins(self.pins)
        self.source = source_text(self.base, system)
        self.present: dict[str, str] = {}

    def look(self) -> None:
        """See what is installed. Raises DockerDaemonError when it is in the way."""
        self.present = self.apt.installed([*self.pins, *COMMON_PACKAGES, *FOREIGN_PACKAGES["vendor"]])
        refuse_foreign(self.present, "vendor", self.system)
        refuse_downgrade(self.present, self.pins)
        refuse_old(self.pins, self.module.params, self.system)
        others = other_entries(self.apt.source_files(), self.url)
        if others:
            raise DockerDaemonError(
                f"{self.url} stands in {', '.join(others)} too, and apt refuses a repository with two keys. The role "
                f"writes {SOURCE_FILE}: take it out there (a file of its own: rm {' '.join(others)}), and run again. "
                "Nothing has been changed."
            )

    def wrong(self) -> list[str]:
        """Docker's packages that are missing or have another version than the pinned one."""
        return [name for name, pin in self.pins.items() if not is_pinned(self.present.get(name, ""), pin)]

    def missing(self) -> list[str]:
        """Packages of the distribution that are missing."""
        return [name for name in COMMON_PACKAGES if name not in self.present]

    def key(self) -> str:
        """The key for apt, compared with the pinned fingerprint: the given one, the trusted one, or the repository's.

        Raises DockerDaemonError when it is another one or cannot be fetched.
        """
        given = self.module.params["vendor_key"]
        if given:
            return checked_key(given, self.fingerprint, "docker_vendor_key")
        trusted = on_disk(KEY_FILE)
        if trusted is not None and is_trusted(trusted, self.fingerprint):
            return trusted
        address = f"{self.url}/gpg"
        return checked_key(self.apt.download(address), self.fingerprint, address)

    def blind(self) -> bool:
        """Whether https to the repository cannot work yet, as on a server without certificates of authorities."""
        return self.base.startswith("https:") and "ca-certificates" not in self.present

    def versions(self, wrong: list[str]) -> dict[str, str]:
        """The whole version of each wrong package.

        Raises DockerDaemonError when the repository lacks one, or apt does not accept the repository.
        """
        offered = self.apt.offered(self.pins, self.url)
        if not offered:
            said = self.apt.complaints or "nothing; apt-get update on the server may say more"
            raise DockerDaemonError(
                f"apt gets no packages from {self.url} (suite {self.source.split('Suites: ')[1].split()[0]}), or they "
                f"are not signed by the key {self.fingerprint}. apt-get update said: {said} Nothing has been changed."
            )
        return choose({name: self.pins[name] for name in wrong}, offered, self.url)

    def bring(self, wrong: list[str], missing: list[str], files: dict[str, str], key: str) -> dict[str, str]:
        """Write the repository's files and install; in check mode only see that it would work.

        Raises DockerDaemonError before anything is changed when it would not. Returns the versions of `wrong`.
        """
        check = self.module.check_mode
        if check or files:
            # the repository proves itself before the server trusts it
            self.apt.imagine(self.source, key)
        self.apt.refresh()
        chosen = self.versions(wrong)
        packages = [*(f"{name}={version}" for name, version in chosen.items()), *missing]
        if packages:
            self.apt.install(packages, simulate=True, held=True)
        daemon = Daemon(self.module)
        upgraded = upgrades(self.present, wrong)
        refuse_interruption(daemon, upgraded, allowed=self.module.params["allow_container_restart"])
        if not check:
            self.apt.back_to_earth()
            for path, text in files.items():
                write(path, text, 0o644)
            if files:
                self.apt.refresh()
            if packages:
                self.apt.install(packages, simulate=False, held=True)
            if "docker-ce" in upgraded:
                run_installed(daemon, chosen["docker-ce"])
        return chosen

    def run(self) -> dict[str, Any]:
        """Have the repository and the pinned packages, on hold; what is returned to Ansible."""
        self.look()
        if not self.blind() or self.module.check_mode:
            return self.have()
        # apt itself cannot ask over https without it, and the role has it installed anyway
        first = ["ca-certificates"]
        self.apt.refresh()
        self.apt.install(first, simulate=False)
        self.look()
        try:
            result = self.have()
        except DockerDaemonError as error:
            told = str(error).replace("Nothing has been changed.", "Nothing but ca-certificates has been installed.")
            raise DockerDaemonError(told) from error
        return {**result, "changed": True, "installed": first + result["installed"]}

    def have(self) -> dict[str, Any]:
        """Have the repository and the pinned packages, once it can be asked; what is returned to Ansible."""
        check = self.module.check_mode
        wrong, missing = self.wrong(), self.missing()
        versions = {name: self.present.get(name, "") for name in self.pins}
        if self.blind():
            self.module.warn(
                f"{self.url} is asked over https, which works once ca-certificates is installed: the versions of "
                f"{', '.join(wrong)} are told as pinned, not as offered."
            )
            key = ""
            versions |= {name: self.pins[name] for name in wrong}
        else:
            key = self.key()
        # the key before the source that names it
        files = {path: text for path, text in ((KEY_FILE, key), (SOURCE_FILE, self.source)) if on_disk(path) != text}
        diff = [
            made_diff(path, on_disk(path), f"the key {self.fingerprint}\n" if path == KEY_FILE else text)
            for path, text in files.items()
        ]
        if (wrong or missing or files) and not self.blind():
            versions |= self.bring(wrong, missing, files, key)
        loose = [name for name in self.pins if name in wrong or name not in self.apt.held]
        if loose and not check:
            self.apt.hold(self.pins)
        if wrong and not check:
            versions = self.confirm()
        return {
            "changed": bool(wrong or missing or files or loose),
            "installed": [*wrong, *missing],
            "versions": versions,
            "diff": diff,
        }

    def confirm(self) -> dict[str, str]:
        """The versions that are installed now. Raises DockerDaemonError when they are not the pinned ones, on hold."""
        self.present = self.apt.installed(self.pins)
        failed = self.wrong() or [name for name in self.pins if name not in self.apt.held]
        if failed:
            raise DockerDaemonError(
                f"{', '.join(failed)} has another version than the pinned one, or is not on hold, although apt-get "
                "said that it is done. Look at apt-cache policy and apt-mark showhold on the server."
            )
        return {name: self.present[name] for name in self.pins}


def run(module: AnsibleModule, apt: Apt) -> dict[str, Any]:
    """Do the module's work; what it returns to Ansible."""
    with open("/etc/os-release", encoding="utf-8") as file:
        system = parse_os_release(file.read())
    if module.params["source"] == "vendor":
        return Vendor(module, apt, system).run()
    return from_distribution(module, apt, system)


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "source": {"type": "str", "choices": ["distribution", "vendor"], "default": "distribution"},
            "engine_min_version": {"type": "str", "required": True},
            "compose_min_version": {"type": "str", "required": True},
            "vendor_url": {"type": "str", "default": ""},
            "vendor_key_fingerprint": {"type": "str", "default": "", "no_log": False},
            # a public key
            "vendor_key": {"type": "str", "default": "", "no_log": False},
            "vendor_versions": {"type": "dict", "default": {}},
            "allow_container_restart": {"type": "bool", "default": False},
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
