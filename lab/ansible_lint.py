"""ansible-lint as `make lint` runs it: `python -m lab.ansible_lint`.

Its rule `args` imports modules to check what a task gives them. Ansible's own importer finds this project's
module_utils; the rule's does not, unless another thread has happened to, and skips the module in silence.
"""

from __future__ import annotations

import os
import runpy
import sys

import ansible.module_utils

from lab.settings import ROOT


def main() -> None:
    """Lint the checkout; ends the process with ansible-lint's exit code."""
    # the lab's inventory alone is known here, and it lacks groups that some playbooks are for
    os.environ["ANSIBLE_HOST_PATTERN_MISMATCH"] = "ignore"
    os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    os.chdir(ROOT)
    ansible.module_utils.__path__.append(str(ROOT / "plugins" / "module_utils"))

    sys.argv = ["ansible-lint", "--offline", "--strict", *sys.argv[1:]]
    runpy.run_module("ansiblelint", run_name="__main__")


if __name__ == "__main__":
    main()
