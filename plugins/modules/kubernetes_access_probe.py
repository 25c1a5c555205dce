#!/usr/bin/python
"""Ansible module: what each worker may do with its kubeconfig, tried from inside the stack's network."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubernetes_access_probe
short_description: Prove from inside a Docker network that each worker's kubeconfig allows what it must, no more
description:
  - Starts one throw-away container for each worker, all at the same time, on the stack's network, with the worker's
    kubeconfig mounted read-only as the stack does, and tries every call for real (writes as dry runs).
  - Fails unless all that a worker needs succeeds, all else is 403, and the API knows of no further right.
  - Changes nothing. In check mode it does not fail but warns, and tries nothing where its image, network or kubeconfigs
    are not there yet.
requirements: [docker command line]
author: [Integr8sCode operators]
attributes:
  check_mode: {support: full}
options:
  workers:
    description: Service accounts whose files are DIRECTORY/NAME.yaml.
    type: list
    elements: str
    required: true
  namespace:
    description: Namespace of the accounts.
    type: str
    required: true
  directory:
    description: Folder of the kubeconfigs.
    type: path
    required: true
  image:
    description: Image with python3 and PyYAML, present on the server; the application's has both.
    type: str
    required: true
  network:
    description: Docker network of the workers.
    type: str
    required: true
  settle_seconds:
    description: A row that is not as it must be is tried again for so long.
    type: int
    default: 10
"""

EXAMPLES = r"""
- name: Prove the workers' access
  kubernetes_access_probe:
    workers: [k8s-worker, pod-monitor]
    namespace: integr8scode
    directory: /opt/integr8scode/kubeconfig
    image: ghcr.io/hardmax71/integr8scode/backend:2026.2.20
    network: integr8scode
"""

RETURN = r"""
matrix:
  description: For each worker a list of rows with call, expected, got, ok, message.
  type: dict
  returned: always
problems:
  description: What is not as it must be, a sentence each.
  type: list
  returned: always
"""

import shutil

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.kubernetes_access_probing import (
    CALLS_ERROR,
    ProbeError,
    failure_message,
    missing,
    probe_all,
    problems,
)


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "workers": {"type": "list", "elements": "str", "required": True},
            "namespace": {"type": "str", "required": True},
            "directory": {"type": "path", "required": True},
            "image": {"type": "str", "required": True},
            "network": {"type": "str", "required": True},
            "settle_seconds": {"type": "int", "default": 10},
        },
        supports_check_mode=True,
    )
    params = module.params
    if not params["image"]:
        module.fail_json(
            msg="no image to probe from. Cure: set kubernetes_access_verify_image, for example the backend's"
        )
    if module.check_mode:
        lacking = missing(params)
        if lacking:
            module.exit_json(changed=False, matrix={}, problems=[], msg=f"not tried: {lacking}")
    if CALLS_ERROR:
        module.fail_json(msg=missing_required_lib("PyYAML"), exception=CALLS_ERROR)
    if not shutil.which("docker"):
        module.fail_json(msg="the docker command is not installed here. Cure: run the role docker first")
    try:
        reports = probe_all(params)
    except (ProbeError, OSError) as error:
        module.fail_json(msg=str(error), matrix={})
    matrix = {report["worker"]: report["results"] for report in reports}
    found = [line for report in reports for line in problems(report, params["namespace"])]
    sentences = [sentence for sentence, _ in found]
    if found and module.check_mode:
        # the roles that run before this one would have changed what is found wrong
        module.warn("now, before anything is changed: " + failure_message(found))
        module.exit_json(
            changed=False, matrix=matrix, problems=sentences, msg=f"{len(found)} calls are not as they must be"
        )
    if found:
        module.fail_json(msg=failure_message(found), matrix=matrix, problems=sentences)
    count = sum(len(results) for results in matrix.values())
    module.exit_json(changed=False, matrix=matrix, problems=[], msg=f"{count} calls are as they must be")


if __name__ == "__main__":
    main()
