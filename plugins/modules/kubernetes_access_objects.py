#!/usr/bin/python
"""Ansible module: Kubernetes objects as defined, in one execution, with a truthful check mode and diff."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubernetes_access_objects
short_description: Make a namespace, accounts, roles, bindings and network policies be exactly as defined
description:
  - Compares each definition with the object in the cluster and creates, updates or replaces what differs.
  - Everything that a definition says must be exactly so. What it does not speak of is left alone.
  - Works through the Kubernetes API with the standard library, so that a missing namespace does not stop a prediction.
  - In check mode on a server without k3s, every object is predicted to be created.
requirements: [PyYAML]
author: [Integr8sCode operators]
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
options:
  definitions:
    description: The objects, in the order in which they are made (namespace first).
    type: list
    elements: dict
    required: true
  admin_kubeconfig:
    description: A kubeconfig on the server with the cluster administrator's rights.
    type: path
    default: /etc/rancher/k3s/k3s.yaml
  timeout:
    description: Seconds to wait for the API, for a namespace in deletion and for a new namespace's default account.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Have the namespace
  kubernetes_access_objects:
    definitions:
      - apiVersion: v1
        kind: Namespace
        metadata: {name: integr8scode}
"""

RETURN = r"""
changes:
  description: One line for each object that was (or would be) changed.
  type: list
  returned: always
  sample: [create Namespace integr8scode]
former_namespaces:
  description: Namespaces with the labels of a defined one and another name, from an earlier run; told, not removed.
  type: list
  returned: always
foreign_bindings:
  description: Bindings made by others that give rights to the accounts; reported, not removed.
  type: list
  returned: always
"""

import contextlib
import json
import os
import traceback
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.kubernetes_access_client import ApiError, Client, explain, read_admin, wait_ready
from ansible.module_utils.kubernetes_access_plan import (
    Change,
    Planner,
    check_definition,
    foreign_grants,
    former_namespaces,
    projection,
    title,
)

try:
    import yaml
except ImportError:
    yaml = None  # type: ignore[assignment]
    YAML_ERROR: str | None = traceback.format_exc()
else:
    YAML_ERROR = None


def to_text(value: Any) -> str:
    """YAML for people; "" for an object that is not there."""
    if value is None:
        return ""
    # sorted: the API gives keys in an order of its own, which would look like a difference
    return (
        str(yaml.safe_dump(value, default_flow_style=None, width=110)) if yaml else json.dumps(value, indent=2) + "\n"
    )


def diff_of(changes: list[Change]) -> list[dict[str, str]]:
    """Ansible's form of a diff, one entry for each object."""
    return [
        {
            "before_header": change.title,
            "after_header": f"{change.title} ({change.action})",
            "before": to_text(change.before),
            "after": to_text(change.after),
        }
        for change in changes
    ]


def predict_without_cluster(definitions: list[dict[str, Any]]) -> list[Change]:
    """What a run would do on a server that has no cluster yet: create everything."""
    return [Change(title(d), "create", None, projection(d, d)) for d in definitions]


def make_right(definitions: list[dict[str, Any]], planner: Planner, changes: list[Change]) -> None:
    """Makes the objects right; puts each change into `changes` as it happens. Raises ApiError."""
    for definition in definitions:
        change = planner.ensure(definition)
        if change is not None:
            changes.append(change)
    for definition in definitions:
        if definition["kind"] == "Namespace":
            planner.wait_default_account(str(definition["metadata"]["name"]))


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "definitions": {"type": "list", "elements": "dict", "required": True},
            "admin_kubeconfig": {"type": "path", "default": "/etc/rancher/k3s/k3s.yaml"},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    definitions: list[dict[str, Any]] = module.params["definitions"]
    path = module.params["admin_kubeconfig"]
    timeout = float(module.params["timeout"])
    foreign: list[str] = []
    former: list[str] = []
    # a run that fails half-way says what it has changed
    changes: list[Change] = []
    try:
        for definition in definitions:
            check_definition(definition)
        if os.path.exists(path) or not module.check_mode:
            if YAML_ERROR:
                module.fail_json(msg=missing_required_lib("PyYAML"), exception=YAML_ERROR)
            with contextlib.closing(Client(read_admin(path))) as client:
                wait_ready(client, timeout)
                make_right(definitions, Planner(client, apply=not module.check_mode, timeout=timeout), changes)
                foreign = foreign_grants(client, definitions)
                former = former_namespaces(client, definitions)
        else:
            changes += predict_without_cluster(definitions)
    except (ApiError, OSError) as error:
        module.fail_json(
            msg=explain(error), changed=bool(changes), changes=[f"{change.action} {change.title}" for change in changes]
        )
    for grant in foreign:
        module.warn(f"{grant} was not made here and gives a worker's account rights that it does not need: delete it")
    for name in former:
        module.warn(
            f"namespace {name} was made by an earlier run and is not used any more; accounts and rights are still in "
            f"it. Once the workers run with the new one: k3s kubectl delete namespace {name}"
        )
    module.exit_json(
        changed=bool(changes),
        changes=[f"{change.action} {change.title}" for change in changes],
        former_namespaces=former,
        foreign_bindings=foreign,
        diff=diff_of(changes),
    )


if __name__ == "__main__":
    main()
