#!/usr/bin/python
"""Ansible module: what the workers need to reach Kubernetes, renewed before it ends."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubernetes_renewal
short_description: Renew k3s' certificates and the workers' tokens, and restart exactly what has to see that
description:
  - The same work that C(integr8scode-maintenance renew-kubeconfig) does on the server by its timer.
  - Restarts k3s when a certificate of its own has fewer than k3s_restart_days left, since k3s signs them again at its
    start; fails when that did not help. Pods and containers go on meanwhile; the API is away for some seconds.
  - Renews the tokens as the module M(kubeconfig_renew) does.
  - Restarts the workers whose container started before its file was replaced, and watches whether they stay up.
  - Starts the timer's unit once more where its last run has failed, so that no failure is told that is over.
  - In check mode nothing is asked for, written or restarted, and the result says what would be.
requirements: [PyYAML, cryptography, docker]
author: [Integr8sCode operators]
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
options:
  job:
    description: What the file C(/etc/integr8scode/maintenance.d/renew-kubeconfig.json) holds, see the role maintenance.
    type: dict
    required: true
  force:
    description: Renew every token now.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Renew what is due
  kubernetes_renewal:
    job: "{{ __maintenance_renew_kubeconfig }}"
"""

RETURN = r"""
sentences: {description: What was done, for people., type: list, returned: success}
k3s_restarted: {description: Whether k3s was restarted., type: bool, returned: success}
k3s_certificates_renewed: {description: The certificates that were due and why; by file., type: dict, returned: success}
k3s_certificates_end: {description: When the first of k3s' own certificates ends (UTC)., type: str, returned: success}
tokens: {description: "For each worker path, changed, restart, reasons, expires, token_renewed.", type: dict,
         returned: success}
timer_run_again: {description: "Whether the timer's last run had failed, and was made up for.", type: bool,
                  returned: success}
workers_restarted: {description: Workers that were restarted., type: list, returned: success}
warnings: {description: What a person should know., type: list, returned: success}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.k3s_common import K3sError
from ansible.module_utils.kubernetes_renewal import Job, RenewalError, perform
from ansible.module_utils.maintenance import timer
from ansible.module_utils.maintenance.state import MaintenanceError

SUBCOMMAND = "renew-kubeconfig"


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "job": {"type": "dict", "required": True},
            "force": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        report = perform(Job(**module.params["job"]), apply=not module.check_mode, force=module.params["force"])
    except TypeError as error:
        module.fail_json(msg=f"job does not hold what it must: {error}")
    except RenewalError as error:
        module.fail_json(msg=str(error))
    sentences = report.sentences(applied=not module.check_mode)
    try:
        again = timer.last_run_failed(SUBCOMMAND)
        if again and not module.check_mode:
            timer.run_again(SUBCOMMAND)
    except (K3sError, MaintenanceError) as error:
        module.fail_json(msg=str(error))
    if again:
        done = "would be" if module.check_mode else "was"
        sentences.append(f"the last run of the server's own timer had failed: its unit {done} started once more")
    facts = report.facts()
    for warning in facts.pop("warnings"):
        module.warn(warning)
    module.exit_json(
        changed=report.changed or again,
        sentences=sentences,
        timer_run_again=again,
        diff=[
            {"before_header": outcome.path, "after_header": outcome.path, **outcome.diff}
            for outcome in report.tokens.outcomes.values()
            if outcome.diff
        ],
        **facts,
    )


if __name__ == "__main__":
    main()
