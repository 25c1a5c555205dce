"""apt on this server, as the module docker_daemon_packages uses it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.docker_daemon_common import DockerDaemonError, parse_apt_policy
from ansible.module_utils.docker_daemon_engine import read
from ansible.module_utils.docker_daemon_vendor import KEY_FILE, SOURCE_FILE, parse_madison

SOURCES = Path("/etc/apt")
APT_HELPER = "/usr/lib/apt/apt-helper"


class Apt:
    """apt on this server, or the same apt with lists (and sources) in a temporary folder, to see what would come."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.options: list[str] = []
        self.scratch = ""
        self.complaints = ""
        self.held: set[str] = set()
        self.environment = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8", "NEEDRESTART_MODE": "l"}

    def run(self, program: str, *arguments: str) -> str:
        """Run an apt program; its standard output. Raises DockerDaemonError with its last words when it fails."""
        command = [program, *self.options, *arguments]
        code, out, err = self.module.run_command(command, environ_update=self.environment)
        if code != 0:
            words = " ".join((err or out).strip().splitlines()[-4:])
            raise DockerDaemonError(
                f"'{' '.join([program, *arguments])}' failed with {code}: {words} "
                "Check the server's apt sources and its way to them (apt-get update says more)."
            )
        return str(out)

    def _folder(self) -> str:
        """The temporary folder; apt drops its rights to _apt for downloads, so that user may go into it."""
        if not self.scratch:
            self.scratch = tempfile.mkdtemp(prefix="ansible-docker-apt-", dir=self.module.tmpdir)
            os.chmod(self.scratch, 0o755)  # noqa: S103
        return self.scratch

    def imagine(self, source: str = "", key: str = "") -> None:
        """From here on use a temporary folder for lists, in which Docker's source file and key are already these."""
        folder = self._folder()
        os.makedirs(os.path.join(folder, "lists", "partial"), exist_ok=True)
        self.options = [
            "-o", f"Dir::State::Lists={folder}/lists",
            "-o", f"Dir::Cache={folder}",
            "-o", "APT::Sandbox::User=root",
        ]  # fmt: skip
        if source:
            parts, key_file = Path(folder, "sources.list.d"), Path(folder, "docker.asc")
            shutil.copytree(SOURCES / "sources.list.d", parts, dirs_exist_ok=True, ignore_dangling_symlinks=True)
            key_file.write_text(key, encoding="utf-8")
            (parts / os.path.basename(SOURCE_FILE)).write_text(
                source.replace(KEY_FILE, str(key_file)), encoding="utf-8"
            )
            self.options += ["-o", f"Dir::Etc::SourceParts={parts}"]

    def back_to_earth(self) -> None:
        """From here on use the server's own sources and lists."""
        self.options = []

    def refresh(self) -> None:
        """Fetch the package lists."""
        _code, _out, err = self.module.run_command(
            ["apt-get", *self.options, "-q", "update"], environ_update=self.environment
        )
        # apt-get ends with 0 even when every source failed: keep what it said for the message that follows then
        self.complaints = " ".join(line for line in str(err).splitlines() if line[:2] in ("E:", "W:", "Er"))

    def installed(self, packages: Iterable[str]) -> dict[str, str]:
        """Package -> version, for those that are installed (`held`: those on hold); much quicker than apt-cache."""
        form = "${Package} ${Version} ${db:Status-Want} ${db:Status-Status}\\n"
        # ends with 1 when it knows none of a name; what it knows it prints all the same
        _code, out, _err = self.module.run_command(
            ["dpkg-query", "--show", f"--showformat={form}", *packages], environ_update=self.environment
        )
        rows = [row for row in (line.split() for line in str(out).splitlines()) if len(row) == 4]
        self.held = {row[0] for row in rows if row[2] == "hold"}
        return {row[0]: row[1] for row in rows if row[3] == "installed"}

    def candidates(self, packages: list[str]) -> dict[str, str]:
        """Package -> version that apt would install."""
        policy = parse_apt_policy(self.run("apt-cache", "policy", *packages))
        return {name: candidate for name, (_installed, candidate) in policy.items() if candidate}

    def offered(self, packages: Iterable[str], url: str) -> dict[str, list[str]]:
        """Package -> versions that one repository offers, newest first."""
        return parse_madison(self.run("apt-cache", "madison", *packages), url)

    def install(self, packages: list[str], *, simulate: bool, held: bool = False) -> None:
        """Install packages (name, or name=version), `held` ones too; files of /etc that were changed by hand stay."""
        self.run(
            "apt-get",
            "-o",
            "DPkg::Lock::Timeout=300",
            "-o",
            "Dpkg::Options::=--force-confdef",
            "-o",
            "Dpkg::Options::=--force-confold",
            "-qq",
            "-y",
            *(["--simulate"] if simulate else []),
            "--no-install-recommends",
            *(["--allow-change-held-packages"] if held else []),
            "install",
            *packages,
        )

    def hold(self, packages: Iterable[str]) -> None:
        """Keep these at their version, whoever upgrades."""
        self.run("apt-mark", "hold", *packages)

    def download(self, url: str) -> str:
        """The text at a URL, fetched by apt's own means: its proxy, its logins, its trust in certificates.

        Raises DockerDaemonError when it cannot be fetched.
        """
        target = os.path.join(self._folder(), "download")
        command = [APT_HELPER, "-o", "APT::Sandbox::User=root", "-qq", "download-file", url, target]
        code, out, err = self.module.run_command(command, environ_update=self.environment)
        try:
            text = read(target) if code == 0 else None
        except UnicodeDecodeError:
            text = ""  # a key that is not armored; who looks at it says so
        if text is None:
            raise DockerDaemonError(
                f"{url} cannot be fetched: {' '.join((err or out).split())} Check docker_vendor_url and this server's "
                "way there, or give the key itself in docker_vendor_key. Nothing has been changed."
            )
        return text

    def source_files(self) -> dict[str, str]:
        """Path -> text of apt's source files, but for the one of Docker that the role writes."""
        folder = SOURCES / "sources.list.d"
        paths = [SOURCES / "sources.list", *sorted(folder.glob("*.list")), *sorted(folder.glob("*.sources"))]
        return {
            str(path): path.read_text("utf-8", "replace")
            for path in paths
            if path.is_file() and path.name != os.path.basename(SOURCE_FILE)
        }

    def close(self) -> None:
        """Remove the temporary folder."""
        if self.scratch:
            shutil.rmtree(self.scratch, ignore_errors=True)
