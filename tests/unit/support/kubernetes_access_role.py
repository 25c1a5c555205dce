"""What the role kubernetes_access hands to its modules, rendered without a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROLE = Path(__file__).resolve().parents[3] / "roles" / "kubernetes_access"
NAMESPACE = "{{ kubernetes_access_namespace }}"
LABELS = "{{ __kubernetes_access_labels }}"


def definitions() -> list[dict[str, Any]]:
    """The objects that the role's vars define, with its default namespace."""
    variables = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())
    namespace = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())["kubernetes_access_namespace"]

    def render(value: Any) -> Any:
        if value == LABELS:
            return variables["__kubernetes_access_labels"]
        if isinstance(value, dict):
            return {key: render(item) for key, item in value.items()}
        if isinstance(value, list):
            return [render(item) for item in value]
        return value.replace(NAMESPACE, namespace) if isinstance(value, str) else value

    rendered: list[dict[str, Any]] = render(variables["__kubernetes_access_objects"])
    return rendered
