"""Names, paths and ports of the lab. Every other module takes them from here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The checkout."""

LABEL = "integr8scode.lab"
"""Label (value: the lab's name) on every container, volume and network of the lab."""

INPUTS_LABEL = "integr8scode.lab.inputs"
"""Label on every image that the lab builds: the hash of what it was built from."""

SUBNET = "10.213.0.0/24"
"""The lab's network. The upper half is handed out by Docker; named machines have fixed addresses in the lower."""
DYNAMIC_RANGE = "10.213.0.128/25"
GATEWAY = "10.213.0.1"

UPLINK_SUBNET = "10.215.0.0/24"
"""The second network, for servers whose inventory says ``lab_uplink: true``: their address there may change while they
run, as the first one carries ssh and the published ports."""
UPLINK_GATEWAY = "10.215.0.1"

REGISTRY_HOST = "registry.lab.test"
FILES_HOST = "files.lab.test"
REGISTRY_ADDRESS = "10.213.0.2"
FILES_ADDRESS = "10.213.0.3"

REGISTRY_USER = "integr8scode"
REGISTRY_PASSWORD = "lab-registry-password-not-a-secret"  # noqa: S105 (as it says)

MAX_INDEX = 99
"""Highest ``lab_index``: its address is 10.213.0.(10 + index), below the dynamic range, and 10.215.0.(10 + index)."""


class LabError(Exception):
    """Something the user can act on. The text says what failed, why, and what cures it."""


@dataclass(frozen=True)
class Settings:
    """Where the lab lives and what it is called.

    Attributes:
        home: everything that the lab writes outside the checkout.
        name: prefix of containers and volumes, name of the network, value of the label.
        port_base: first port on 127.0.0.1; server ``i`` has ``port_base + 10 * i`` to ``+ 9``.
        sources: ``auto``, ``stand-in`` or ``real``.
        docker_host: the engine that the user named by ``DOCKER_HOST``, or empty.
    """

    home: Path
    name: str = "integr8scode-lab"
    port_base: int = 22100
    sources: str = "auto"
    docker_host: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Read ``LAB_HOME``, ``LAB_NAME``, ``LAB_PORT_BASE``, ``LAB_SOURCES`` and ``DOCKER_HOST``.

        Args:
            environment: defaults to the process's own.

        Raises:
            LabError: a value that cannot be meant.
        """
        env = os.environ if environment is None else environment
        home = Path(env.get("LAB_HOME") or Path(env.get("HOME") or Path.home()) / ".cache" / "integr8scode-lab")
        if not home.is_absolute():
            raise LabError(f"LAB_HOME is {str(home)!r}: give an absolute path")
        name = env.get("LAB_NAME") or "integr8scode-lab"
        if not name.replace("-", "").isalnum() or not name[0].isalnum() or name != name.lower():
            raise LabError(f"LAB_NAME is {name!r}: use lower-case letters, digits and dashes")
        text = env.get("LAB_PORT_BASE") or "22100"
        highest = 65535 - 10 * (MAX_INDEX + 1)
        if not text.isdigit() or not 1024 <= int(text) <= highest:
            raise LabError(f"LAB_PORT_BASE is {text!r}: give a number from 1024 to {highest}")
        sources = env.get("LAB_SOURCES") or "auto"
        if sources not in ("auto", "stand-in", "real"):
            raise LabError(f"LAB_SOURCES is {sources!r}: use auto, stand-in or real")
        return cls(home, name, int(text), sources, env.get("DOCKER_HOST") or "")

    @property
    def state(self) -> Path:
        """What belongs to one lab: keys, CA, addresses. Removed by ``lab-down``."""
        return self.home / "state"

    @property
    def cache(self) -> Path:
        """What is worth keeping between labs: built things, downloads."""
        return self.home / "cache"

    @property
    def engine(self) -> Path:
        """Data of the Docker engine that the lab starts itself."""
        return self.home / "engine"

    @property
    def uplink(self) -> str:
        """Name of the second network. Docker's default route and published ports stay with the alphabetically first."""
        return f"{self.name}-uplink"

    @property
    def labels(self) -> dict[str, str]:
        """Labels of everything that ``lab-down`` removes."""
        return {LABEL: self.name}

    @property
    def registry_port(self) -> int:
        """Port on 127.0.0.1 through which images are pushed."""
        return self.port_base

    @property
    def files_port(self) -> int:
        """Port on 127.0.0.1 of the file server."""
        return self.port_base + 1

    def server_port(self, index: int, service: int = 0) -> int:
        """Port on 127.0.0.1 of a server's service.

        Args:
            index: the host variable ``lab_index``, 1 to 99.
            service: 0 ssh (22), 1 https (443), 2 frontend (5001).

        Raises:
            LabError: out of range.
        """
        if not 1 <= index <= MAX_INDEX:
            raise LabError(f"lab_index is {index}: give each lab server its own number from 1 to {MAX_INDEX}")
        if not 0 <= service <= 9:
            raise LabError(f"a lab server has ten ports, there is no number {service}")
        return self.port_base + 10 * index + service
