#!/usr/bin/python
"""Ansible module: a kubeconfig for each worker, renewed only when it has to be."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubeconfig_renew
short_description: Keep a kubeconfig with a short-lived token for each service account, renewed when it is due
description:
  - Reads the file of each worker and asks the API for a new token only when the old one has less than a third of its
    life left, has expired, outlives the wanted life, is not accepted (401), belongs to another account, or the account
    was made again.
  - Another server or certificate authority, or a changed text, rewrites the file with the token that is still good.
  - A new token is tried before the file is replaced, in one step, mode 0400. Tokens are never returned, shown in a
    diff or logged.
  - Refuses a server that is an address, and one that the API server's certificate does not name.
  - In check mode no token is asked for; the prediction says which workers would be renewed and why.
requirements: [PyYAML]
author: [Integr8sCode operators]
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
options:
  workers:
    description: Service accounts; each gets DIRECTORY/NAME.yaml.
    type: list
    elements: str
    required: true
  namespace:
    description: Namespace of the accounts, and the one that the kubeconfigs name.
    type: str
    required: true
  server:
    description: Address of the API as the workers see it, https://NAME:PORT.
    type: str
    required: true
  directory:
    description: Folder of the files; made with mode 0700 when it is missing.
    type: path
    required: true
  token_lifetime_seconds:
    description: Life of a new token, 600 or more.
    type: int
    default: 2592000
  admin_kubeconfig:
    description: A kubeconfig on the server with the cluster administrator's rights; its CA goes into the files.
    type: path
    default: /etc/rancher/k3s/k3s.yaml
  force:
    description: Renew every token now.
    type: bool
    default: false
  timeout:
    description: Seconds to wait for the API.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Have the workers' kubeconfigs
  kubeconfig_renew:
    workers: [k8s-worker, pod-monitor]
    namespace: integr8scode
    server: https://host.docker.internal:6443
    directory: /opt/integr8scode/kubeconfig
"""

RETURN = r"""
workers:
  description: For each worker path, changed, restart (the content changed), reasons, expires (UTC), token_renewed.
  type: dict
  returned: always
restart:
  description: Workers whose file has new content, so that a running container has to be restarted to see it.
  type: list
  returned: always
"""

import os
import traceback

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.kubeconfig_renewal import Settings, renew
from ansible.module_utils.kubernetes_access_client import ApiError, explain

try:
    import yaml  # noqa: F401
except ImportError:
    YAML_ERROR: str | None = traceback.format_exc()
else:
    YAML_ERROR = None


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "workers": {"type": "list", "elements": "str", "required": True},
            "namespace": {"type": "str", "required": True},
            "server": {"type": "str", "required": True},
            "directory": {"type": "path", "required": True},
            # a number of seconds, no secret
            "token_lifetime_seconds": {"type": "int", "default": 2592000, "no_log": False},
            "admin_kubeconfig": {"type": "path", "default": "/etc/rancher/k3s/k3s.yaml"},
            "force": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    params = module.params
    settings = Settings(
        namespace=params["namespace"],
        server=params["server"],
        directory=params["directory"],
        lifetime=params["token_lifetime_seconds"],
        force=params["force"],
        apply=not module.check_mode,
    )
    if YAML_ERROR and os.path.exists(params["admin_kubeconfig"]):
        module.fail_json(msg=missing_required_lib("PyYAML"), exception=YAML_ERROR)
    try:
        renewal = renew(
            settings, params["workers"], admin_kubeconfig=params["admin_kubeconfig"], timeout=float(params["timeout"])
        )
    except (ApiError, OSError) as error:
        module.fail_json(msg=explain(error))
    for warning in renewal.warnings:
        module.warn(warning)
    outcomes = renewal.outcomes
    module.exit_json(
        changed=renewal.changed,
        workers={name: outcome.report() for name, outcome in outcomes.items()},
        restart=renewal.restart,
        directory=renewal.folder,
        diff=[
            {"before_header": path, "after_header": path, **diff}
            for path, diff in [(settings.directory, {"before": f"{line}\n", "after": ""}) for line in renewal.folder]
            + [(outcome.path, outcome.diff) for outcome in outcomes.values() if outcome.diff]
        ],
    )


if __name__ == "__main__":
    main()
