"""The Docker daemon of this server, as the module docker_daemon sees it: its unit, its API, its files."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import tempfile
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.docker_daemon_common import DockerDaemonError

CONFIG = "/etc/docker/daemon.json"
DOCKER_SOCKET = "/run/docker.sock"


# in the names of settings whose value is a secret, such as the log driver's splunk-token
_SECRET = r"token|passw|secret"  # noqa: S105  (a pattern)


def mask(text: str) -> str:
    """Text for a diff, without the user and password of a URL, and without a token."""
    # a file that somebody else has written may hold \" in it
    text = re.sub(r"://(?:[^\s\"\\]|\\.)+@", "://***@", text)
    return re.sub(rf'(?i)("[^"]*(?:{_SECRET})[^"]*"\s*:\s*)"(?:[^"\\]|\\.)*"', r'\1"***"', text)


def secret_texts(value: Any, *, named: bool = False) -> set[str]:
    """Every text in nested settings that the name of a setting above it calls a secret."""
    if isinstance(value, str):
        return {value} if named and value else set()
    if isinstance(value, dict):
        below = ((one, named or bool(re.search(_SECRET, str(name), re.IGNORECASE))) for name, one in value.items())
    else:
        below = ((one, named) for one in (value if isinstance(value, list) else []))
    return {text for one, secret in below for text in secret_texts(one, named=secret)}


def read(path: str) -> str | None:
    """A file's text; None when there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return None


class Daemon:
    """The Docker daemon of this server."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module

    def systemctl(self, *arguments: str) -> tuple[int, str]:
        """Run systemctl; its exit code and output."""
        code, out, err = self.module.run_command(["systemctl", *arguments])
        return int(code), (out or err).strip()

    def api(self, path: str) -> Any:
        """GET a path of the Engine API through its socket. Raises OSError when the daemon does not answer."""
        connection = http.client.HTTPConnection("localhost", timeout=30)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(30)
        connection.sock.connect(DOCKER_SOCKET)
        connection.request("GET", path)
        answer = connection.getresponse()
        return json.loads(answer.read())

    def state(self) -> tuple[bool, bool]:
        """Whether the unit is (enabled, active)."""
        _code, out = self.systemctl("show", "docker.service", "--property=UnitFileState,ActiveState")
        values = dict(line.partition("=")[::2] for line in out.splitlines())
        return values.get("UnitFileState") == "enabled", values.get("ActiveState") == "active"

    def flags(self) -> list[str]:
        """The flags that the unit starts dockerd with: a key of the file that is also a flag keeps it from starting."""
        _code, out = self.systemctl("show", "docker.service", "--property=ExecStart")
        match = re.search(r"argv\[\]=\S+ (.*?) ;", out)
        words = match.group(1).split() if match else []
        return [word for word in words if not word.startswith("$")]

    def validate(self, text: str) -> None:
        """Have dockerd read the new file. Raises DockerDaemonError with its words when it refuses."""
        dockerd = shutil.which("dockerd", path="/usr/sbin:/usr/bin:/usr/local/bin:/sbin:/bin")
        if dockerd is None:
            return  # only in check mode on a fresh server: packages come first
        with tempfile.NamedTemporaryFile("w", suffix=".json", dir=self.module.tmpdir) as file:
            file.write(text)
            file.flush()
            command = [dockerd, *self.flags(), "--validate", "--config-file", file.name]
            code, out, err = self.module.run_command(command)
        if code != 0:
            words = mask((err or out).strip().replace(file.name, CONFIG))
            raise DockerDaemonError(
                f"dockerd refuses the new {CONFIG}: {words} The old file is untouched. Correct the docker_* variables "
                "that name these keys (docker_daemon_options for free ones)."
            )

    def running_containers(self) -> list[str]:
        """Names of the containers that run; empty when the daemon does not."""
        try:
            return sorted(container["Names"][0].lstrip("/") for container in self.api("/containers/json"))
        except OSError:
            return []

    def protect_containers(self) -> None:
        """Have the daemon that is about to be stopped know that containers live on.

        SIGHUP returns before the file was read, and a file that cannot be started with is not read at all: so ask.
        Raises DockerDaemonError when containers run and the daemon would stop them.
        """
        if not self.running_containers():
            return
        self.systemctl("reload", "docker.service")
        for _attempt in range(50):
            if self.api("/info").get("LiveRestoreEnabled"):
                return
            time.sleep(0.1)
        raise DockerDaemonError(
            f"Docker does not reload {CONFIG}, so a restart would stop the running containers: {self.journal(3)}"
        )

    def journal(self, lines: int) -> str:
        """The last lines of the daemon's journal."""
        command = ["journalctl", "-u", "docker.service", "-n", str(lines), "-o", "cat", "--no-pager"]
        _code, out, _err = self.module.run_command(command)
        return mask(str(out).strip())

    def apply(self, action: str) -> None:
        """Start, reload or restart. Raises DockerDaemonError with the journal's last lines when that fails."""
        # three starts in a minute and systemd would refuse the fourth (docker.service: StartLimitBurst=3)
        self.systemctl("reset-failed", "docker.service")
        code, out = self.systemctl(action, "docker.service")
        if code != 0:
            raise DockerDaemonError(f"'systemctl {action} docker' failed: {out}\n{self.journal(8)}")


def write(path: str, text: str, mode: int) -> None:
    """Replace a file in one step."""
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path))
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
