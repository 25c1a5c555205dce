"""A lab server's second interface: its address changes while ssh goes on over the first.

The server's inventory says `lab_uplink: true`. A restart of the server restores the address that Docker gave.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class Uplink:
    """Changes addresses and the default route of one server.

    Args:
        host: the server, as testinfra sees it.
        lab: the lab's description (`state/lab.json`).
    """

    def __init__(self, host: Any, lab: dict[str, Any]) -> None:
        self._host = host
        self._lab = lab
        number = (int(host.connection["ansible_port"]) - lab["port_base"]) // 10
        self._prefix: str = lab["uplink"]["address_prefix"]
        self.first = f"{self._prefix}{10 + number}"
        """Address that the server was made with."""
        self.second = f"{self._prefix}{110 + number}"
        """Another one of the same network that nobody else has."""
        self.interface = self._find_interface()

    @classmethod
    def of(cls, host: Any, lab_home: Path) -> Uplink:
        """Return the uplink of a server of the lab whose files are in `lab_home`."""
        return cls(host, json.loads((lab_home / "state/lab.json").read_text("utf-8")))

    def _find_interface(self) -> str:
        """Return the interface that has not the address which ssh comes in by; the uplink's own may be gone."""
        links = json.loads(self._host.check_output("ip -json address show"))
        found = []
        for link in links:
            addresses = [entry["local"] for entry in link.get("addr_info", []) if entry["family"] == "inet"]
            management = any(address.startswith(self._lab["address_prefix"]) for address in addresses)
            if link["ifname"].startswith("eth") and not management:
                found.append(str(link["ifname"]))
        assert len(found) == 1, f"{self._host.server_name} has no uplink (lab_uplink: true?): {found}"
        return found[0]

    @property
    def addresses(self) -> list[str]:
        """Addresses that the interface has now."""
        (link,) = json.loads(self._host.check_output(f"ip -json -4 address show dev {self.interface}"))
        return [str(entry["local"]) for entry in link["addr_info"]]

    def change(self, address: str) -> None:
        """Take every address from the interface, give it this one, and make it the default route again."""
        self._host.check_output(
            f"ip -4 address flush dev {self.interface} && ip address add {address}/24 dev {self.interface}"
            f" && ip link set {self.interface} up"
        )
        self.route()

    def route(self) -> None:
        """Make the interface the default route, so that k3s takes the node's address from it."""
        gateway = self._lab["uplink"]["gateway"]
        self._host.check_output(f"ip -4 route replace default via {gateway} dev {self.interface}")

    def remove_route(self) -> None:
        """Leave the server without a default route; ssh needs none."""
        self._host.check_output("while ip -4 route del default 2>/dev/null; do :; done")

    def restore(self) -> None:
        """Put back the first address, with the default route."""
        self.change(self.first)
