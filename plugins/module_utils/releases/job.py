"""What a switch is asked for. It holds no secret: those are on the server already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Settings:
    """How a switch is done and judged; what the role passes on of its inputs.

    Attributes:
        workers: services that take no requests, replaced in groups; a release's own ones are added to them.
        infrastructure: services that are touched only when their own definition changed.
        healthy_timeout_seconds: until a new container has to be healthy, and until the verification has to succeed.
        stable_seconds: during which nothing may restart or end.
        drain_seconds: that requests under way are given.
        stream_seconds: that event streams are given beyond that; their clients come back by themselves.
        workers_at_once: how many workers are replaced at a time.
        executions_wait_seconds: how long the coordinator waits for executions to end.
        keep_releases: how many releases are kept, the running one included; less than two means two.
        server_name: that the edge's certificate has to carry.
        ca: PEM file of who vouches for that certificate.
        verify_username: seeded user whose login is tried; empty for none.
        consumer_groups: that must exist in Kafka, where the release has their workers.
        kubernetes: what `kubernetes_access_probing.probe_all` takes besides the image; empty for no look at Kubernetes.
        backup_before: whether MongoDB is dumped before anything changes.
        backup_directory: where to.
        age_recipients: for whom the dump is encrypted; none leaves it unencrypted.
        min_free_mb: MiB that must stay free.
    """

    workers: list[str] = field(default_factory=list)
    infrastructure: list[str] = field(default_factory=lambda: ["mongo", "redis", "kafka"])
    healthy_timeout_seconds: float = 300
    stable_seconds: float = 60
    drain_seconds: float = 30
    stream_seconds: float = 5
    workers_at_once: int = 2
    executions_wait_seconds: float = 60
    keep_releases: int = 5
    server_name: str = "localhost"
    ca: str = "/opt/integr8scode/tls/public/ca.crt"
    verify_username: str = "user"
    consumer_groups: list[str] = field(default_factory=list)
    kubernetes: dict[str, Any] = field(default_factory=dict)
    backup_before: bool = False
    backup_directory: str = "/var/backups/integr8scode"
    age_recipients: list[str] = field(default_factory=list)
    min_free_mb: int = 1024


@dataclass(frozen=True)
class Job:
    """One switch.

    Attributes:
        run: name of the run, which holds the lock.
        action: ``deploy`` or ``rollback``, for the history.
        release: id of the release to get to.
        started_at: when the run began, seconds since 1970.
        by: who.
        controller: from where.
        base: where Integr8sCode is installed.
        settings: how.
    """

    run: str
    action: str
    release: str
    started_at: float
    by: str = ""
    controller: str = ""
    base: str = "/opt/integr8scode"
    settings: Settings = field(default_factory=Settings)

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Job:
        """The job that a dictionary describes.

        :raises ValueError: a key that no job has, or one is missing.
        """
        known = {one.name for one in fields(Settings)}
        settings = dict(body.get("settings") or {})
        unknown = sorted(set(settings) - known) + sorted(set(body) - {one.name for one in fields(cls)})
        if unknown:
            raise ValueError(
                f"a switch knows no {', '.join(unknown)}: the program on the server is another version's. "
                "Cure: playbooks/site.yml"
            )
        try:
            return cls(**{**body, "settings": Settings(**settings)})
        except TypeError as error:
            raise ValueError(f"this is no job of a switch: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """What `from_dict` reads."""
        return asdict(self)


@dataclass(frozen=True)
class Outcome:
    """How a switch ended.

    Attributes:
        result: ``ok``; ``unchanged``; ``refused`` (nothing was changed); ``rolled_back`` (the release before serves
            again); ``removed`` (a first deploy that failed left nothing running); ``failed`` (neither worked).
        release: that serves now; empty for none.
        cause: what went wrong, with the last lines of who failed.
        sentences: the whole for people.
        lost: ids of executions that were cut off.
        seconds: since the run began, pulling and writing included; the history has the same.
    """

    result: str
    release: str
    cause: str = ""
    sentences: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether what was asked for is the case."""
        return self.result in ("ok", "unchanged")
