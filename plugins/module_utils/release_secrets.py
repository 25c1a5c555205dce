"""A release's own list of the services that read secrets: a compose file beside its others.

The newest mounts stand in one file for all releases. A release that named that file itself would get services that it
does not have, whenever another one has more: Compose refuses a service of which it knows nothing but mounts.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ansible.module_utils import quick_yaml
from ansible.module_utils.atomic_files import Access, write_file

with suppress(ImportError):  # who reads compose files says what is missing
    import yaml

LIST = "secrets.yaml"


def own_list(services: Iterable[str], newest: Path | str) -> str:
    """The text of a release's list: its services take what `newest`, a compose file, mounts into each by its name."""
    names = {name: {"extends": {"file": str(newest), "service": name}} for name in sorted(services)}
    # JSON is YAML, and needs no library on the server
    return json.dumps({"services": names}, indent=2) + "\n"


def definitions(release: Path) -> dict[str, dict[str, Any]]:
    """The services of a release's compose file, by name; none where it cannot be read."""
    try:
        found = quick_yaml.load((release / "docker-compose.yaml").read_text(encoding="utf-8"))["services"]
        return {str(name): dict(service) for name, service in found.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError):
        return {}


def named_services(releases: Path) -> set[str]:
    """All services of the kept releases."""
    return {name for record in releases.glob("*/release.json") for name in definitions(record.parent)}


def _ending(newest: Path) -> re.Pattern[str]:
    return re.compile(rf"(?m)^(COMPOSE_FILE=.*:){re.escape(str(newest))}(?=['\"]?$)")


def misled(releases: Path, newest: Path, services: Iterable[str]) -> list[Path]:
    """Kept releases that name `newest` themselves, as all once did, and lack one of the `services` that it mounts."""
    wanted = set(services)
    found = []
    for record in sorted(releases.glob("*/release.json")):
        environment = record.parent / ".env"
        if not environment.is_file() or not _ending(newest).search(environment.read_text(encoding="utf-8")):
            continue
        has = definitions(record.parent)
        if has and wanted - set(has):
            found.append(record.parent)
    return found


def give_own_list(release: Path, newest: Path, services: Iterable[str]) -> None:
    """Have a release that names `newest` itself name its own services alone. Raises OSError."""
    access = Access(os.getuid(), os.getgid(), 0o644)
    listed = own_list(set(services) & set(definitions(release)), newest)
    write_file(release / LIST, listed.encode(), access)
    environment = release / ".env"
    text = _ending(newest).sub(lambda match: f"{match[1]}{release / LIST}", environment.read_text(encoding="utf-8"))
    write_file(environment, text.encode(), access)
