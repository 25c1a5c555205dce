"""The edge (HAProxy) while it runs: who gets requests, draining, and another configuration without a lost connection.

By its runtime API (HAProxy 3.0 management guide, chapter 9.3) on a socket in a folder that the container mounts.
"""

from __future__ import annotations

import csv
import io
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from ansible.module_utils.atomic_files import Access, ensure_folder, read_file, write_file
from ansible.module_utils.releases.compose import ComposeError, docker

HAPROXY_UID = 99
ANSWER_SECONDS = 5.0
RUNNING = 2  # srv_op_state: answers its health checks
# srv_admin_state: bits of maintenance and of draining, set by hand, by configuration or inherited
MAINTENANCE_BITS = 0x01 | 0x02 | 0x04 | 0x20
DRAIN_BITS = 0x08 | 0x10
NO_ADDRESS = ("-", "", "::", "0.0.0.0")  # noqa: S104 - how HAProxy writes that it knows none


class EdgeError(Exception):
    """The edge does not do what it should; the text says what and the cure."""


@dataclass(frozen=True)
class Slot:
    """A place for one copy of a service in one of the edge's backends.

    Attributes:
        backend: name in the edge's configuration.
        name: of the place.
        address: of the copy in it; empty for none.
        up: whether it answers its health checks and may get requests.
        draining: whether it gets no new requests.
        sessions: requests under way.
    """

    backend: str
    name: str
    address: str
    up: bool
    draining: bool
    sessions: int


class Edge:
    """The running edge.

    folder: ``edge`` below the installation; ``run/admin.sock`` in it is the runtime API.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "run" / "admin.sock"

    def ask(self, command: str) -> str:
        """Send one command and return the answer; an edge that just starts or reloads is asked again.

        :raises EdgeError: nobody answers.
        """
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            try:
                return self._exchange(command)
            except OSError as error:
                away = isinstance(error, ConnectionRefusedError | FileNotFoundError)
                if not away or time.monotonic() >= deadline:
                    raise EdgeError(
                        f"the edge does not answer on {self.socket} ({error}). Look at `docker compose logs edge` in "
                        f"{self.folder.parent}/current"
                    ) from error
            time.sleep(0.25)

    def _exchange(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWER_SECONDS)
            connection.connect(str(self.socket))
            connection.sendall(command.encode() + b"\n")
            parts = []
            while part := connection.recv(65536):
                parts.append(part)
        return b"".join(parts).decode("utf-8", "replace").strip()

    def slots(self, service: str) -> list[Slot]:
        """The places of a service: in the backend of its name and in the one for its event streams.

        :raises EdgeError: nobody answers, or it has no such backend.
        """
        counts = {
            (row["pxname"], row["svname"]): int(row["scur"] or 0)
            for row in csv.DictReader(io.StringIO(self.ask("show stat").removeprefix("# ")))
        }
        found = []
        for backend in (service, streams_of(service)):
            lines = [line.split() for line in self.ask(f"show servers state {backend}").splitlines()]
            header = next((line[1:] for line in lines if line[:1] == ["#"]), None)
            if header is None:
                raise EdgeError(f"the edge has no backend {backend}: its configuration is not that of this release")
            for line in lines:
                if len(line) < len(header) or line[0] == "#":
                    continue
                row = dict(zip(header, line, strict=False))
                admin = int(row["srv_admin_state"])
                address = "" if row["srv_addr"] in NO_ADDRESS else row["srv_addr"]
                found.append(
                    Slot(
                        backend,
                        row["srv_name"],
                        address,
                        up=int(row["srv_op_state"]) == RUNNING and not admin & MAINTENANCE_BITS and bool(address),
                        draining=bool(admin & DRAIN_BITS),
                        sessions=counts.get((backend, row["srv_name"]), 0),
                    )
                )
        return found

    def serving(self, service: str) -> set[str]:
        """Addresses of the copies that get a service's new requests. Raises EdgeError."""
        return {
            slot.address for slot in self.slots(service) if slot.backend == service and slot.up and not slot.draining
        }

    def set_state(self, slot: Slot, state: str) -> None:
        """Set a place to ``drain`` or ``ready``.

        :raises EdgeError: it refuses.
        """
        answer = self.ask(f"set server {slot.backend}/{slot.name} state {state}")
        if answer:
            raise EdgeError(f"the edge does not set {slot.backend}/{slot.name} to {state}: {answer}")

    def wait_for(self, service: str, address: set[str], deadline: float) -> None:
        """Wait until a copy gets requests, event streams too.

        :param address: its addresses, one of which the edge knows.
        :param deadline: by ``time.monotonic()``.
        :raises EdgeError: it does not within the time.
        """
        while True:
            seen = {slot.backend for slot in self.slots(service) if slot.address in address and slot.up}
            if seen >= {service, streams_of(service)}:
                return
            if time.monotonic() > deadline:
                raise EdgeError(
                    f"the edge sends nothing to the new {service} at {', '.join(sorted(address))}: it does not find it "
                    "by name, or its health check there fails. Look at `docker compose logs edge` in "
                    f"{self.folder.parent}/current"
                )
            time.sleep(0.25)

    def hold(self, service: str) -> None:
        """Send nothing to a copy that is yet to come, in whichever place, until `undrain`.

        HAProxy 3.0 takes a server whose address is new for healthy until its first check has failed. A program that
        listens before it has loaded, as gunicorn does, would get requests in that time.

        :raises EdgeError: nobody answers.
        """
        for slot in self.slots(service):
            if not slot.address:
                self.set_state(slot, "drain")

    def drain(self, service: str, address: set[str]) -> None:
        """Send nothing new to a copy. Raises EdgeError."""
        for slot in self.slots(service):
            if slot.address in address:
                self.set_state(slot, "drain")

    def wait_drained(self, service: str, address: set[str], began: float, *, requests: float, streams: float) -> int:
        """Wait until what a drained copy has is answered.

        :param began: when it was drained, by ``time.monotonic()``.
        :param requests: seconds from then on that requests under way are given.
        :param streams: seconds that event streams are given, which end by themselves only when their client goes.
        :returns: requests and streams that were still open when the time was over.
        :raises EdgeError: the edge does not answer.
        """
        while True:
            left = [slot for slot in self.slots(service) if slot.address in address]
            waited = time.monotonic() - began
            open_requests = sum(slot.sessions for slot in left if slot.backend == service)
            open_streams = sum(slot.sessions for slot in left if slot.backend != service)
            if (not open_requests or waited >= requests) and (not open_streams or waited >= streams):
                self._end_streams(service, left)
                return open_requests + open_streams
            time.sleep(0.2)

    def _end_streams(self, service: str, slots: list[Slot]) -> None:
        """End event streams here: their clients come back at once, and no program waits for them when it is stopped."""
        for slot in slots:
            if slot.backend == streams_of(service) and slot.sessions:
                self.ask(f"shutdown sessions server {slot.backend}/{slot.name}")

    def draining(self, service: str) -> set[str]:
        """Addresses in a service's places that get nothing new; "" for one that has none. Raises EdgeError."""
        return {slot.address for slot in self.slots(service) if slot.draining}

    def forget(self, service: str, address: set[str], *, seconds: float = 15) -> None:
        """Once a copy is gone, wait until the edge has seen that too, and let its place be used again.

        Ready before that would send a request to an address where nobody is.

        :raises EdgeError: the edge does not answer.
        """
        drained = [(slot.backend, slot.name) for slot in self.slots(service) if slot.draining]
        deadline = time.monotonic() + seconds
        while any(slot.address in address for slot in self.slots(service)) and time.monotonic() < deadline:
            time.sleep(0.25)
        for slot in self.slots(service):
            if (slot.backend, slot.name) in drained and slot.address not in address:
                self.set_state(slot, "ready")

    def undrain(self, service: str, address: set[str]) -> None:
        """Let copies that stay get requests again. Raises EdgeError."""
        for slot in self.slots(service):
            if slot.draining and slot.address in address:
                self.set_state(slot, "ready")

    # -- its configuration

    def differs(self, config: bytes) -> bool:
        """Whether the edge reads another configuration. Raises OSError."""
        return read_file(self.folder / "haproxy.cfg") != config

    def install(self, config: bytes, image: str, tls: Path) -> None:
        """Replace the configuration after HAProxy itself has read it; what runs loads it only when it is told to.

        :param image: the edge's.
        :param tls: folder of the certificates that it names.
        :raises EdgeError: HAProxy refuses it; nothing was changed.
        :raises OSError: it cannot be written.
        """
        # alpine's and Debian's binary both create the socket's folder neither: it must be there
        ensure_folder(self.folder / "run", Access(HAPROXY_UID, HAPROXY_UID, 0o700))
        trial = self.folder / ".trial.cfg"
        write_file(trial, config, Access(0, 0, 0o644))
        try:
            docker(
                "run", "--rm", "--network", "none", "--user", "0", "--entrypoint", "haproxy", "--pull", "never",
                "--volume", f"{trial}:/etc/edge/haproxy.cfg:ro",
                "--volume", f"{tls}/public:/etc/edge-tls/public:ro",
                "--volume", f"{tls}/internal/edge:/etc/edge-tls/internal:ro",
                image, "-c", "-f", "/etc/edge/haproxy.cfg",
            )  # fmt: skip
        except ComposeError as error:
            raise EdgeError(f"HAProxy refuses the edge's configuration: {error}") from error
        finally:
            trial.unlink(missing_ok=True)
        write_file(self.folder / "haproxy.cfg", config, Access(0, 0, 0o644))

    def remember_servers(self) -> None:
        """Write down which copies there are, so that a reload begins with them and not with a look-up of names.

        :raises EdgeError: the edge does not answer.
        :raises OSError: it cannot be written.
        """
        state = self.ask("show servers state") + "\n"
        write_file(self.folder / "run" / "servers.state", state.encode(), Access(HAPROXY_UID, HAPROXY_UID, 0o600))

    def forget_servers(self) -> None:
        """What is written down is old as soon as the next copy starts: a restart must not begin with it."""
        (self.folder / "run" / "servers.state").unlink(missing_ok=True)

    def worker(self) -> str:
        """Process id of the worker that answers; another one after a reload. Raises EdgeError."""
        answer = self.ask("show info")
        found = [line.partition(":")[2].strip() for line in answer.splitlines() if line.startswith("Pid:")]
        if not found:
            raise EdgeError(f"the edge does not say who it is: {answer[:200]!r}")
        return found[0]

    def wait_reloaded(self, before: str, *, seconds: float = 20) -> None:
        """Wait until another worker answers than ``before``.

        :raises EdgeError: none does: HAProxy kept the old one, so it did not take the new configuration.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                if self.worker() != before:
                    return
            except EdgeError:
                pass  # between the two
            if time.monotonic() > deadline:
                raise EdgeError("the edge did not load its new configuration or certificate; its log says why")
            time.sleep(0.2)


def streams_of(service: str) -> str:
    """The edge's backend for a service's event streams."""
    return f"{service}_streams"
