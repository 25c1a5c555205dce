"""Which Debian mirror this machine uses, so that the lab's images use the same one.

The lab names no mirror of its own: what apt on this machine is configured to use is reachable from here by
definition. Formats: sources.list(5), both the one-line and the deb822 style; ``mirror+file:`` as in Debian's cloud
images (apt-transport-mirror(1)).
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from lab.settings import LabError

RELEASE = "trixie"
"""Debian 13: what the lab's servers run."""

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

_SUITE = re.compile(
    r"^(?:oldoldstable|oldstable|stable|testing|unstable|sid|bullseye|bookworm|trixie|forky|duke)"
    r"(?P<pocket>-security|-updates|-backports|-proposed-updates|/updates)?$"
)


@dataclass(frozen=True)
class Source:
    """One archive in apt's configuration: a URI and the suites taken from it."""

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]


@dataclass(frozen=True)
class Mirror:
    """Where Debian comes from.

    Attributes:
        main: URI of the archive.
        security: URI of the security archive; empty where the machine has none configured.
        options: ``apt.conf`` lines that are needed to use it (a proxy, a frozen mirror's old dates).
    """

    main: str
    security: str = ""
    options: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The mirror as lines of a ``sources.list`` for Debian 13."""
        signed = f"[signed-by={KEYRING}]"
        lines = [f"deb {signed} {self.main} {suite} main" for suite in (RELEASE, f"{RELEASE}-updates")]
        if self.security:
            lines.append(f"deb {signed} {self.security} {RELEASE}-security main")
        return lines

    @property
    def needs_certificates(self) -> bool:
        """Whether apt needs ``ca-certificates`` to talk to it."""
        return any(urlsplit(uri).scheme == "https" for uri in (self.main, self.security))


def parse_one_line(text: str) -> list[Source]:
    """Sources of a one-line style file. Commented, ``deb-src`` and flat (suite ends in ``/``) lines are left out."""
    found = []
    for line in text.splitlines():
        match = re.match(r"^deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s+(.+)$", line.split("#", 1)[0].strip())
        if match:
            found.append(Source(match[1].rstrip("/"), (match[2],), tuple(match[3].split())))
    return found


def parse_deb822(text: str) -> list[Source]:
    """Sources of a deb822 style file. Stanzas with ``Enabled: no`` or without type ``deb`` are left out."""
    found: list[Source] = []
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for stanza in re.split(r"\n(?:[ \t]*\n)+", "\n".join(lines)):
        fields: dict[str, list[str]] = {}
        name = ""
        for line in stanza.splitlines():
            if line[:1] in " \t":
                fields.setdefault(name, []).extend(line.split())
            elif ":" in line:
                name, value = line.split(":", 1)
                name = name.strip().lower()
                fields[name] = value.split()
        enabled = "".join(fields.get("enabled", ["yes"])).lower()
        if "deb" not in fields.get("types", []) or enabled in ("no", "false", "0", "off", "disable"):
            continue
        suites, components = tuple(fields.get("suites", [])), tuple(fields.get("components", []))
        found.extend(Source(uri.rstrip("/"), suites, components) for uri in fields.get("uris", []))
    return found


def read_sources(directory: Path = Path("/etc/apt")) -> list[Source]:
    """Every source that apt on this machine reads, in apt's order."""
    found = []
    one_line = [directory / "sources.list", *sorted((directory / "sources.list.d").glob("*.list"))]
    for path in one_line:
        if path.is_file():
            found += parse_one_line(path.read_text("utf-8", "replace"))
    for path in sorted((directory / "sources.list.d").glob("*.sources")):
        found += parse_deb822(path.read_text("utf-8", "replace"))
    return found


def _resolve(uri: str) -> str:
    """The first usable address of a ``mirror+file:`` list; any other URI as it is."""
    if not uri.startswith("mirror+file:"):
        return uri
    path = Path(urlsplit(uri).path)
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError:
        return ""
    return next((line.split()[0].rstrip("/") for line in lines if line.strip() and not line.startswith("#")), "")


def find_mirror(sources: Iterable[Source], options: Iterable[str] = ()) -> Mirror:
    """The Debian mirror among apt's sources.

    Args:
        sources: as given by :func:`read_sources`.
        options: ``apt.conf`` lines to carry along.

    Raises:
        LabError: none of them is a Debian archive (an Ubuntu machine, say).
    """
    main = security = ""
    for source in sources:
        if "main" not in source.components:
            continue
        uri = _resolve(source.uri)
        if urlsplit(uri).scheme not in ("http", "https"):
            continue
        for suite in source.suites:
            match = _SUITE.match(suite)
            if not match:
                continue
            if match["pocket"] in ("-security", "/updates"):
                security = security or uri
            elif match["pocket"] is None:
                main = main or uri
    if not main:
        raise LabError(
            "apt on this machine names no Debian mirror, and Docker Hub's debian:13 is out of reach.\n"
            "Set LAB_DEBIAN_MIRROR (and LAB_DEBIAN_SECURITY_MIRROR, if there is one) to a mirror's address."
        )
    return Mirror(main, security, tuple(options))


_CARRIED = re.compile(
    r'^(?:Acquire::(?:Check-Valid-Until|Check-Date|Retries|https?::Proxy)(?:::\S+)?) "(?P<value>[^"]*)";$',
    re.IGNORECASE,
)


def carried_options(dump: str) -> list[str]:
    """The lines of ``apt-config dump`` without which the mirror may not work from a container.

    A proxy on this machine's loopback is left out: in a container that is another machine.
    """
    kept = []
    for line in dump.splitlines():
        match = _CARRIED.match(line.strip())
        if not match:
            continue
        host = urlsplit(match["value"]).hostname or ""
        if host in ("localhost", "::1") or host.startswith("127."):
            continue
        kept.append(line.strip())
    return kept


def host_mirror(environment: dict[str, str]) -> Mirror:
    """This machine's Debian mirror: ``LAB_DEBIAN_MIRROR`` or what apt is configured with.

    Raises:
        LabError: there is none.
    """
    try:
        dump = subprocess.run(["apt-config", "dump"], check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        dump = ""
    options = carried_options(dump)
    if environment.get("LAB_DEBIAN_MIRROR"):
        security = environment.get("LAB_DEBIAN_SECURITY_MIRROR", "").rstrip("/")
        return Mirror(environment["LAB_DEBIAN_MIRROR"].rstrip("/"), security, tuple(options))
    return find_mirror(read_sources(), options)
