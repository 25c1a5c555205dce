"""Filter that renders the application's configuration files."""

from __future__ import annotations

from typing import Any

import tomli_w


def configuration_files(config: dict[str, Any], groups: dict[str, str]) -> list[dict[str, str]]:
    """Return ``config.toml`` and one ``config.<worker>.toml`` for each worker, as M(release_bundle) takes them.

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


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"configuration_files": configuration_files}
