"""Filters that give the files that services read, as M(release_files) takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomli_w
from ansible.errors import AnsibleFilterError


def configuration_files(config: dict[str, Any], groups: dict[str, str]) -> list[dict[str, str]]:
    """Return ``config.toml`` and one ``config.<worker>.toml`` for each worker, as M(release_files) takes them.

    :param config: keys of config.toml.
    :param groups: Kafka consumer group by worker; the application calls the worker by it in its traces too.
    """
    files = [{"name": "config.toml", "variable": "CONFIG_TOML", "content": tomli_w.dumps(config)}]
    for worker, group in groups.items():
        files.append(
            {
                "name": f"config.{worker}.toml",
                "variable": f"CONFIG_{worker.replace('-', '_').upper()}_TOML",
                "content": tomli_w.dumps({"TRACING_SERVICE_NAME": group, "KAFKA_CONSUMER_GROUP_ID": group}),
            }
        )
    return files


def profile_files(folder: str, names: list[str]) -> list[dict[str, str]]:
    """Return files that a profile's services read, as M(release_files) takes them.

    They are read here and not by a lookup, since Grafana's own ``{{ }}`` must not be taken for Ansible's.

    :param folder: where they are.
    :param names: which; ``a-b.yaml`` goes to the compose file's variable A_B_YAML.
    :raises AnsibleFilterError: one cannot be read.
    """
    files = []
    for name in names:
        try:
            content = (Path(folder) / name).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise AnsibleFilterError(f"{folder}/{name} cannot be read: {error}") from error
        files.append({"name": name, "variable": name.replace("-", "_").replace(".", "_").upper(), "content": content})
    return files


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"configuration_files": configuration_files, "profile_files": profile_files}
