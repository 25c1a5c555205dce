#!/usr/bin/python
"""Have running containers load files that are newer than they are."""

from __future__ import annotations

DOCUMENTATION = r"""
module: stale_readers
short_description: Have running containers load files that are newer than they are
description:
  - A container that mounts a single file keeps the file that was there when it started, also after another one has
    taken its name. It is restarted when it started before its file was last replaced.
  - A program that can read its files again gets its signal when it has neither started nor had the signal since one of
    them was written.
  - Decided by what is, not by what a run has changed. So what a run that was cut short has left undone is made up for
    by the next one.
  - While the server switches between releases, nothing is restarted, but for five minutes at most.
options:
  restart:
    description: Path of the file on the server, by service.
    type: dict
    default: {}
  reload:
    description: By service, C(signal) and the C(directories) on the server whose files the program reads.
    type: dict
    default: {}
  marks:
    description: Where the moments of the signals are kept. Not kept over a reboot, which starts everything anew.
    type: path
    default: /run/integr8scode
  project:
    description: Name of the Compose project.
    type: str
    default: integr8scode
attributes:
  check_mode:
    support: full
"""

EXAMPLES = r"""
- name: Have running programs load what is newer than they are
  stale_readers:
    restart:
      k8s-worker: /opt/integr8scode/kubeconfig/k8s-worker.yaml
    reload:
      edge: {signal: SIGUSR2, directories: [/opt/integr8scode/edge]}
"""

RETURN = r"""
restarted:
  description: Services whose containers were (in check mode, would be) restarted.
  type: list
  returned: always
reloaded:
  description: Services whose containers got (in check mode, would get) their signal.
  type: list
  returned: always
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.integr8scode_docker import EngineUnavailableError, connect
from ansible.module_utils.releases import lock
from ansible.module_utils.stale_readers import Readers


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "restart": {"type": "dict", "default": {}},
            "reload": {"type": "dict", "default": {}},
            "marks": {"type": "path", "default": "/run/integr8scode"},
            "project": {"type": "str", "default": "integr8scode"},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    try:
        readers = Readers(connect(), parameters["project"], Path(parameters["marks"]), check_mode=module.check_mode)
        if not module.check_mode and any(
            readers.stale(name, Path(path)) for name, path in parameters["restart"].items()
        ):
            lock.wait_for_switch()
        restarted = [name for name, path in parameters["restart"].items() if readers.restart(name, Path(path))]
        reloaded = [
            name
            for name, how in parameters["reload"].items()
            if readers.reload(name, how["signal"], [Path(directory) for directory in how["directories"]])
        ]
    except FileNotFoundError as error:
        module.fail_json(msg=f"{error.filename}, which a container reads, does not exist. Run playbooks/site.yml.")
    except (EngineUnavailableError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(restarted or reloaded), restarted=restarted, reloaded=reloaded)


if __name__ == "__main__":
    main()
