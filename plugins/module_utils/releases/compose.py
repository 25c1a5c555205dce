"""Docker Compose for one release, by its command line: what would change, starting, and taking down."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterable, Sequence

from ansible.module_utils.releases.layout import Release

ENGINE_GONE = re.compile(
    r"cannot connect to the docker daemon|is the docker daemon running|docker\.sock"
    r"|error during connect|unexpected EOF",
    re.IGNORECASE,
)

PROGRESS = re.compile(
    r"\s*(?:Container|Network|Volume|Service|Image) \S+\s+"
    r"(?:Creat|Recreat|Start|Restart|Stopp|Remov|Kill|Pull|Build|Built|Runn|Wait|Health|Exit|Skip|Error|Warning)"
    r"[a-z]*(?:\s+[\d.]+s)?\s*"
)
"""A line of Compose about how far it is: it says nothing of why it stopped."""
WARNING = re.compile(r'time="[^"]*" level=warning ')
CURES = {
    re.compile(r"error setting rlimits?\b"): "This server (or its hoster) allows fewer open files than "
    "integr8scode_nofile_limit asks for. Cure: set it to at most what `ulimit -Hn` shows as root on the server, and "
    "run again",
}
"""What the words of Docker mean where they do not say it, with the cure."""


class ComposeError(Exception):
    """Compose could not do it; the text is its own, shortened.

    said: the text without which command it was; for who ran a program of its own by it. Empty where nothing ran.
    """

    def __init__(self, text: str, said: str = "") -> None:
        super().__init__(text)
        self.said = said


class EngineLostError(ComposeError):
    """The Docker Engine went away meanwhile: what was asked for may be asked for again."""


class Compose:
    """Compose with one release's files.

    release: whose.
    timeout: seconds that one call may take.
    """

    def __init__(self, release: Release, *, timeout: float = 900) -> None:
        self.release = release
        self._timeout = timeout

    def call(self, *arguments: str, timeout: float | None = None) -> str:
        """Run ``docker compose`` and return what it printed.

        :raises EngineLostError: the engine does not answer.
        :raises ComposeError: anything else.
        """
        words = ("compose", "--ansi", "never", "--project-directory", str(self.release.path), *arguments)
        return docker(*words, timeout=timeout or self._timeout, name=f"compose {arguments[0]}")

    def hashes(self) -> dict[str, str]:
        """What Compose labels each service's containers with, one-shots left out: another one means another definition.

        :raises ComposeError: the release's files cannot be read.
        """
        pairs = (line.split() for line in self.call("config", "--hash", "*", timeout=60).splitlines())
        return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}

    def up(self, services: Iterable[str], *options: str) -> None:
        """Create and start services as the release defines them; nothing is pulled.

        What they depend on comes along, and is left alone as long as it is what the release says. (Not ``--no-deps``:
        Compose before 2.27 counts the dependencies into a container's hash, and would make it anew at the next ``up``.)

        :raises ComposeError: it failed.
        """
        self.call("up", "--detach", "--no-build", "--pull", "never", *options, *services)

    def run(self, service: str, *arguments: str) -> str:
        """Run a throw-away container of a service and return what it printed.

        :raises ComposeError: it failed; with its last lines.
        """
        return self.call("run", "--rm", "--no-deps", "--no-TTY", *arguments_before(service, arguments), timeout=300)

    def down(self) -> None:
        """Remove the containers and networks of the project; volumes stay. Raises ComposeError."""
        self.call("down", "--remove-orphans")


def arguments_before(service: str, arguments: Sequence[str]) -> list[str]:
    """Options, then the service, then its command; ``--`` in ``arguments`` stands where the service goes."""
    if "--" not in arguments:
        return [service, *arguments]
    place = list(arguments).index("--")
    return [*arguments[:place], service, *arguments[place + 1 :]]


def environment() -> dict[str, str]:
    """What the docker command needs of this process's environment; nothing else may change what a release is."""
    kept = ("PATH", "HOME", "DOCKER_HOST", "DOCKER_CONFIG", "LANG", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
    found = {name: os.environ[name] for name in kept if name in os.environ}
    return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", **found}


def docker(*arguments: str, timeout: float = 120, name: str = "") -> str:
    """Run the docker command and return what it printed.

    :param timeout: seconds that it may take.
    :param name: what it is called in errors.
    :raises EngineLostError: the engine does not answer.
    :raises ComposeError: anything else.
    """
    name = f"docker {name or arguments[0]}"
    try:
        # a session of its own: Compose is a child of docker, and has to end with it
        process = subprocess.Popen(
            ["docker", *arguments],
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise ComposeError(f"docker cannot be run: {error}. Cure: playbooks/site.yml, role docker") from error
    with process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise ComposeError(f"`{name}` did not end within {timeout:.0f} s") from None
            raise
    if process.returncode == 0:
        return out
    said = last_words(err.strip() or out.strip())
    if ENGINE_GONE.search(said):
        raise EngineLostError(said)
    raise ComposeError(f"`{name}` failed with exit code {process.returncode}: {said}", said)


def last_words(text: str) -> str:
    """What a failed command said, shortened: the error first, and the cure where one is known.

    Compose's progress is left out where anything else was said, and its warnings stand behind the error.
    """
    lines = [line for line in text.splitlines() if not PROGRESS.fullmatch(line)] or text.splitlines()
    lines = sorted(lines[-12:], key=lambda line: bool(WARNING.match(line)))
    return "\n".join([*lines, *(cure for pattern, cure in CURES.items() if pattern.search(text))])
