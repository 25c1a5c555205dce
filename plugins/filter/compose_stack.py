"""Filters that read the stack's compose file."""

from __future__ import annotations

import re
from typing import Any

import yaml
from ansible.errors import AnsibleFilterError
from ansible.module_utils.common.yaml import yaml_load

SEED_PROFILE = "seed"
"""Of the one-shot that is run when it is due; nobody chooses it."""
_SIZE = re.compile(r"(\d+)([mg])b?")
# the forms that Compose interpolates: $VAR is not used by this project's file
_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_]\w*)(?::?(?P<kind>[-?])(?P<rest>[^}]*))?\}")


def interpolate(text: str, environment: dict[str, Any]) -> str:
    """Return text with Compose's ``${NAME}``, ``${NAME:-default}`` and ``${NAME:?message}`` replaced.

    :param environment: values by variable name; an empty value counts as unset, as with Compose's colon forms.
    :raises AnsibleFilterError: a variable without default has no value.
    """

    def value(match: re.Match[str]) -> str:
        given = environment.get(match["name"])
        if given not in (None, ""):
            return str(given)
        if match["kind"] == "-":
            return match["rest"]
        raise AnsibleFilterError(f"docker-compose.yaml needs {match['name']}: {match['rest'] or 'it has no default'}")

    return _VARIABLE.sub(value, text)


def compose_images(compose: str, environment: dict[str, Any], profiles: list[str] | None = None) -> dict[str, str]:
    """Return the image reference of each service of a compose file.

    :param compose: the file's text.
    :param environment: what the file's variables are replaced by.
    :param profiles: profiles whose services count too; services without a profile always do.
    :raises AnsibleFilterError: a variable has no value, or the text is not a compose file.
    """
    return {
        name: interpolate(service["image"], environment) for name, service in _services(compose, profiles or []).items()
    }


def _services(compose: str, profiles: list[str]) -> dict[str, dict[str, Any]]:
    """Services without a profile, and those of `profiles`."""
    try:
        # read in C: a tenth of the time that Python's own reading takes, several times in each run for each server; it
        # takes no text of Ansible's own kind
        services = yaml_load(str(compose))["services"]
        known = {profile for service in services.values() for profile in service.get("profiles", [])}
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise AnsibleFilterError(f"docker-compose.yaml is not a compose file with services: {error}") from error
    unknown = sorted(set(profiles) - known)
    if unknown:
        raise AnsibleFilterError(
            f"docker-compose.yaml has no profile {', '.join(unknown)}. Correct integr8scode_profiles; there are: "
            f"{', '.join(sorted(known - {SEED_PROFILE}))}"
        )
    return {
        name: service
        for name, service in services.items()
        if not service.get("profiles") or set(service["profiles"]) & set(profiles)
    }


def compose_memory_mb(compose: str, environment: dict[str, Any], profiles: list[str]) -> int:
    """Return what the services may take together, MiB: the sum of their limits, one-shots left out.

    :param compose: the file's text.
    :param environment: what the file's variables are replaced by.
    :param profiles: profiles whose services count too.
    :raises AnsibleFilterError: a service has no limit, or the file is none.
    """
    total = 0
    for name, service in _services(compose, profiles).items():
        limit = interpolate(str(service.get("mem_limit", "")), environment).lower()
        found = _SIZE.fullmatch(limit)
        if not found:
            raise AnsibleFilterError(f"docker-compose.yaml: {name} has no memory limit in m or g but {limit!r}")
        total += int(found[1]) * (1024 if found[2] == "g" else 1)
    return total


def compose_fixed_ports(compose: str, profiles: list[str]) -> list[int]:
    """Return the ports that the services publish by number, with no setting for them.

    :param compose: the file's text.
    :param profiles: profiles whose services count too.
    :raises AnsibleFilterError: the text is not a compose file.
    """
    entries = [str(entry) for service in _services(compose, profiles).values() for entry in service.get("ports", ())]
    return sorted({int(match[1]) for entry in entries if (match := re.search(r"(?:^|:)(\d+):\d+$", entry))})


def secret_mounts(services: list[str], target: str) -> list[dict[str, str]]:
    """Return the readers of a secret file, as M(release_files) takes them.

    :param services: names of the services that read it.
    :param target: the file's path in their containers.
    """
    return [{"service": service, "target": target} for service in services]


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {
            "compose_images": compose_images,
            "compose_fixed_ports": compose_fixed_ports,
            "compose_memory_mb": compose_memory_mb,
            "secret_mounts": secret_mounts,
        }
