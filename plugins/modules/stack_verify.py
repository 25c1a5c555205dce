#!/usr/bin/python
"""Prove that the stack serves what was deployed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: stack_verify
short_description: Prove that the stack serves what was deployed
description:
  - Waits until every service runs its pinned image and is healthy, watches that nothing restarts for a while, asks the
    edge for the health page, the frontend's page and a login, and looks for the workers' consumer groups.
  - A failure names the service, what was expected and found, and shows the container's last lines.
options:
  services:
    description: Pinned image of each service that has to run.
    type: dict
    required: true
  base:
    description: Where Integr8sCode is installed.
    type: path
    default: /opt/integr8scode
  project:
    description: Name of the Compose project.
    type: str
    default: integr8scode
  ca:
    description: PEM file of the CA that has to vouch for the edge's certificate.
    type: path
    required: true
  server_name:
    description: Name that the edge's certificate has to carry.
    type: str
    required: true
  https_port:
    description: Published port of the backend.
    type: int
    default: 443
  frontend_port:
    description: Published port of the frontend.
    type: int
    default: 5001
  username:
    description: Seeded user whose login is tried. Empty for none.
    type: str
    default: user
  password:
    description: Password of that user.
    type: str
  password_must_fit:
    description:
      - Whether a refused password is a failure. The user may have chosen another since; the answer then still proves
        that Mongo and Redis work.
    type: bool
    default: false
  consumer_groups:
    description: Kafka consumer groups that must exist.
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds until everything has to be there.
    type: int
    default: 300
  stable_seconds:
    description: Seconds during which no container may restart or end.
    type: int
    default: 60
attributes:
  check_mode:
    support: none
    description: There is nothing to verify where nothing was done.
"""

EXAMPLES = r"""
- name: Verify through the edge
  stack_verify:
    services: "{{ release.images }}"
    ca: /opt/integr8scode/tls/public/ca.crt
    server_name: app.example.org
    password: "{{ vault_integr8scode_user_password }}"
"""

RETURN = r"""
seconds:
  description: How long the verification took.
  type: float
  returned: always
notes:
  description: What is not as expected and yet no failure.
  type: list
  returned: always
"""

import http.client
import socket
import ssl
import time
import urllib.parse
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.integr8scode_docker import (
    ONE_OFF_LABEL,
    PROJECT_LABEL,
    SERVICE_LABEL,
    EngineUnavailableError,
    connect,
    last_lines,
)

LIVE = "Stable,PreparingRebalance,CompletingRebalance"
ALIVE = (200, 429)  # the rate limiter's refusal is an answer of a living application


class VerificationError(Exception):
    """The stack is not what it should be; the message says what, why and where to look."""


class EdgeConnection(http.client.HTTPSConnection):
    """HTTPS to the published port on this server, checked against the name that clients use."""

    def __init__(self, port: int, server_name: str, context: ssl.SSLContext) -> None:
        super().__init__(server_name, port, timeout=20, context=context)
        self._name, self._tls = server_name, context

    def connect(self) -> None:
        """Connect to this server whatever the name resolves to."""
        plain = socket.create_connection(("127.0.0.1", self.port), self.timeout)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self._name)


class Verifier:
    """One verification of one server."""

    def __init__(self, client: Any, parameters: dict[str, Any]) -> None:
        self.client = client
        self.parameters = parameters
        self.deadline = time.monotonic() + parameters["timeout"]
        self.context = ssl.create_default_context(cafile=parameters["ca"])
        self.warnings: list[str] = []

    def containers(self) -> dict[str, list[Any]]:
        """Return the project's containers by service, throw-away ones left out."""
        found: dict[str, list[Any]] = {}
        label = f"{PROJECT_LABEL}={self.parameters['project']}"
        for container in self.client.containers.list(all=True, filters={"label": label}, ignore_removed=True):
            if container.labels.get(ONE_OFF_LABEL) != "True":
                found.setdefault(container.labels[SERVICE_LABEL], []).append(container)
        return found

    def problem_of(self, service: str, image: str, containers: list[Any]) -> str | None:
        """Return why a service is not as it should be, or None."""
        if not containers:
            return f"{service} has no container"
        for container in containers:
            state = container.attrs["State"]
            health = state.get("Health", {}).get("Status", "healthy")
            if container.attrs["Config"]["Image"] != image:
                return f"{service} runs {container.attrs['Config']['Image']}, expected {image}"
            if state["Status"] != "running":
                oom = ", killed for want of memory" if state["OOMKilled"] else ""
                return f"{service} is {state['Status']} (exit code {state['ExitCode']}{oom})"
            if health != "healthy":
                return f"{service} is {health}"
        return None

    def first_problem(self) -> tuple[str, list[Any]] | None:
        """Return the first service that is not as it should be, with its containers."""
        running = self.containers()
        for service, image in self.parameters["services"].items():
            problem = self.problem_of(service, image, running.get(service, []))
            if problem:
                return problem, running.get(service, [])
        return None

    def fail(self, problem: str, containers: list[Any]) -> None:
        """Raise VerificationError with the containers' last lines."""
        logs = "".join(f"\nLast lines of {container.name}:\n{last_lines(container)}" for container in containers)
        raise VerificationError(problem + "." + logs)

    def wait_until_running(self) -> None:
        """Wait until every service runs its image and is healthy.

        :raises VerificationError: the time is over.
        """
        while True:
            found = self.first_problem()
            if found is None:
                return
            if time.monotonic() > self.deadline:
                self.fail(f"after {self.parameters['timeout']} s {found[0]}", found[1])
            time.sleep(1)

    def watch(self) -> None:
        """Watch for the stable window.

        :raises VerificationError: a container restarted or ended.
        """
        before = {c.id: c.attrs["RestartCount"] for of_service in self.containers().values() for c in of_service}
        end = time.monotonic() + self.parameters["stable_seconds"]
        while True:
            running = self.containers()
            for service, image in self.parameters["services"].items():
                for container in running.get(service, []):
                    restarts = container.attrs["RestartCount"] - before.get(container.id, 0)
                    if restarts:
                        self.fail(f"{service} restarted {restarts} time(s) while it was watched", [container])
                problem = self.problem_of(service, image, running.get(service, []))
                if problem:
                    self.fail(f"{problem} while it was watched", running.get(service, []))
            left = end - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(2.0, left))

    def request(self, port: int, method: str, path: str, form: dict[str, str] | None = None) -> int:
        """Return the status of a request through the edge."""
        connection = EdgeConnection(port, self.parameters["server_name"], self.context)
        try:
            body = urllib.parse.urlencode(form) if form else None
            headers = {"Content-Type": "application/x-www-form-urlencoded"} if form else {}
            connection.request(method, path, body=body, headers=headers)
            return connection.getresponse().status
        finally:
            connection.close()

    def ask(self, what: str, good: tuple[int, ...], *request: Any) -> int:
        """Repeat a request until its status is good.

        :raises VerificationError: the time is over.
        """
        while True:
            try:
                status = self.request(*request)
                found = f"HTTP status {status}"
            except (OSError, http.client.HTTPException) as error:
                status, found = 0, f"{type(error).__name__}: {error}"
            if status in good:
                return status
            if time.monotonic() > self.deadline:
                raise VerificationError(
                    f"{what} through the edge: {found}. Look at `docker compose logs edge backend frontend` "
                    f"in {self.parameters['base']}/current."
                )
            time.sleep(1)

    def ask_edge(self) -> None:
        """Ask for health, page and login through the edge.

        :raises VerificationError: an answer is wrong.
        """
        https, web = self.parameters["https_port"], self.parameters["frontend_port"]
        self.ask("the backend's health", ALIVE, https, "GET", "/api/v1/health/live")
        self.ask("the frontend's page", (200,), web, "GET", "/")
        self.ask("the backend's health by way of the frontend", ALIVE, web, "GET", "/api/v1/health/live")
        username = self.parameters["username"]
        if not username or self.parameters["password"] is None:
            return
        form = {"username": username, "password": self.parameters["password"]}
        status = self.ask(f"a login as {username}", (200, 401, 423, 429), https, "POST", "/api/v1/auth/login", form)
        if status == 200:
            return
        message = f"the login as {username} was answered with {status}"
        if self.parameters["password_must_fit"]:
            raise VerificationError(f"{message}, although user-seed has just set this password.")
        self.warnings.append(f"{message}: its password is not the inventory's. Mongo and Redis do answer.")

    def find_consumer_groups(self) -> None:
        """Wait for the consumer groups.

        :raises VerificationError: the time is over.
        """
        wanted = set(self.parameters["consumer_groups"])
        while wanted:
            kafka = self.containers()["kafka"][0]
            # groups with members; the broker's own heap settings are too large for a second JVM beside it
            command = ["kafka-consumer-groups", "--bootstrap-server", "localhost:9092", "--list", "--state", LIVE]
            answer = kafka.exec_run(command, environment={"KAFKA_HEAP_OPTS": "-Xmx96m"})
            missing = wanted - set(answer.output.decode("utf-8", errors="replace").split())
            if not missing:
                return
            if time.monotonic() > self.deadline:
                raise VerificationError(
                    f"no consumer group {', '.join(sorted(missing))} in Kafka: the worker of that name has not joined. "
                    "Look at `docker compose logs` of that worker."
                )
            time.sleep(2)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "services": {"type": "dict", "required": True},
            "base": {"type": "path", "default": "/opt/integr8scode"},
            "project": {"type": "str", "default": "integr8scode"},
            "ca": {"type": "path", "required": True},
            "server_name": {"type": "str", "required": True},
            "https_port": {"type": "int", "default": 443},
            "frontend_port": {"type": "int", "default": 5001},
            "username": {"type": "str", "default": "user"},
            "password": {"type": "str", "no_log": True},
            "password_must_fit": {"type": "bool", "default": False, "no_log": False},
            "consumer_groups": {"type": "list", "elements": "str", "default": []},
            "timeout": {"type": "int", "default": 300},
            "stable_seconds": {"type": "int", "default": 60},
        },
    )
    began = time.monotonic()
    try:
        verifier = Verifier(connect(), module.params)
        verifier.wait_until_running()
        verifier.ask_edge()
        verifier.find_consumer_groups()
        verifier.watch()
    except (EngineUnavailableError, VerificationError, OSError) as error:
        module.fail_json(msg=str(error))
    for warning in verifier.warnings:
        module.warn(warning)
    module.exit_json(changed=False, seconds=round(time.monotonic() - began, 1), notes=verifier.warnings)


if __name__ == "__main__":
    main()
