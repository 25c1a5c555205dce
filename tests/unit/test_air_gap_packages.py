"""Who carries packages to servers without the Internet is told of all of them, by the guide and in the lab's mirror."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible.module_utils.docker_daemon_common import SUPPORTED


@pytest.mark.parametrize("file", ["docs/air-gap.md", "molecule/air-gap/make-mirror"])
def test_all_that_a_bare_server_installs_is_named(project_root: Path, file: str) -> None:
    words = set((project_root / file).read_text("utf-8").replace("`", " ").split())
    needed = {"python3", "python3-apt", "sudo", "iproute2", *SUPPORTED["debian", "13"]}
    for role in ("maintenance", "kubernetes_access"):
        needed.update(yaml.safe_load((project_root / f"roles/{role}/vars/main.yml").read_text())[f"__{role}_packages"])
    assert sorted(needed - words) == []
