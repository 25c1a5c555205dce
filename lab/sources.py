"""Which things come from their real makers and which from the lab's stand-ins."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from lab.settings import LabError, Settings
from lab.state import write

PROBE_SECONDS = 5
"""How long a real source may take to answer before it counts as out of reach."""

K3S_RELEASES = "https://github.com/k3s-io/k3s/releases/download"

PROBES = {
    "docker.io": "https://registry-1.docker.io/v2/",
    "ghcr.io": "https://ghcr.io/v2/",
    "k3s": "https://github.com/k3s-io/k3s/releases",
}


def reachable(url: str, seconds: float = PROBE_SECONDS) -> bool:
    """Whether the vendor itself answers there. A registry's 401 is an answer; a proxy's refusal is not."""
    try:
        with urllib.request.urlopen(url, timeout=seconds) as answer:  # noqa: S310 (fixed https addresses)
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        with error:
            return error.code == 401 and "www-authenticate" in {name.lower() for name in error.headers}
    except (OSError, ValueError):
        return False


@dataclass
class Sources:
    """What to take from where, and what was taken.

    Attributes:
        mode: ``auto``, ``stand-in`` or ``real``.
        reach: host (or ``k3s``) to whether it answers.
        used: image reference (or ``k3s``) to ``real`` or ``stand-in``.
        notes: why something real was not used although its source answers.
    """

    mode: str
    reach: dict[str, bool]
    used: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def probe(cls, settings: Settings) -> Sources:
        """Look what answers. ``stand-in`` asks nobody.

        Raises:
            LabError: ``real`` is wanted and something does not answer.
        """
        if settings.sources == "stand-in":
            return cls(settings.sources, dict.fromkeys(PROBES, False))
        with ThreadPoolExecutor(len(PROBES)) as pool:
            reach = dict(zip(PROBES, pool.map(reachable, PROBES.values()), strict=True))
        silent = [PROBES[name] for name, answers in reach.items() if not answers]
        if settings.sources == "real" and silent:
            raise LabError(f"LAB_SOURCES=real, but these do not answer: {', '.join(silent)}. Use LAB_SOURCES=auto.")
        return cls(settings.sources, reach)

    def wants_real(self, reference: str) -> bool:
        """Whether to try the real thing for an image reference (or ``k3s``)."""
        return self.reach.get(reference.split("/", 1)[0], False)

    def describe(self) -> str:
        """One line for people: what is real and what is not."""
        counts = {kind: sum(1 for one in self.used.values() if one == kind) for kind in ("real", "stand-in")}
        parts = [f"{number} {kind}" for kind, number in counts.items() if number]
        return f"sources ({self.mode}): {', '.join(parts) or 'nothing yet'}; k3s: {self.used.get('k3s', 'none')}"

    def save(self, settings: Settings) -> None:
        """Record it in ``LAB_HOME/state/sources.json``."""
        data = {"mode": self.mode, "reach": self.reach, "used": dict(sorted(self.used.items())), "notes": self.notes}
        write(settings.state / "sources.json", json.dumps(data, indent=2) + "\n")
