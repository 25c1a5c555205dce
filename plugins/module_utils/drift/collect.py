"""All questions to one server, asked at once, and the comparison of the answers with what is expected."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ansible.module_utils.docker_daemon_common import ENGINE_PACKAGES, FOREIGN_PACKAGES, DockerDaemonError
from ansible.module_utils.drift import (
    backup,
    cluster,
    containers,
    docker_settings,
    expiry,
    network,
    owned_files,
    registry,
    release,
    system,
    users,
)
from ansible.module_utils.drift.bare import is_bare
from ansible.module_utils.drift.findings import Comparison, problem
from ansible.module_utils.drift.probes import Probe, UnansweredError, ask
from ansible.module_utils.drift.reading import text
from ansible.module_utils.drift.stack import Stack
from ansible.module_utils.drift.wanted import published
from ansible.module_utils.k3s_recovery.addresses import normal
from ansible.module_utils.k3s_recovery.configuration import settings_with_places


def node_ip(root: Path = Path("/")) -> str:
    """The node-ip that k3s is told, several with a comma between: by its files, or by its unit's command line."""
    return ",".join(dict.fromkeys(normal(one) for one in settings_with_places(root).values("node-ip")))


def _wanted(base: Path, limit: float) -> dict[str, Any]:
    current = base / "current"
    if not current.is_dir():
        raise UnansweredError("no release was deployed")
    return containers.collect_wanted(current.resolve(), limit)


def _registry(base: Path, expected: Mapping[str, Any], password: str, limit: float) -> dict[str, Any]:
    record = release.collect_release(base)["record"]
    recorded = registry.application_images(record, str(expected["images"]))
    proxies = (docker_settings.collect_settings()["config"] or {}).get("proxies")
    proxies = proxies if isinstance(proxies, Mapping) else {}
    return {**registry.collect_registry(expected, password, sorted(recorded), limit, proxies), "recorded": recorded}


def complete(expected: Mapping[str, Any], os_release: str) -> dict[str, Any]:
    """What is expected, with what only this server knows: its distribution's names of Docker's packages."""
    owned = expected["owned"]
    docker = expected["docker"]
    try:
        packages = docker_settings.packages(os_release, docker)
    except DockerDaemonError:
        packages = []  # a system that is not supported; the role docker says so
    own = {str(one["name"]) for one in packages}
    others = [one for one in owned["packages"] if one["name"] not in own]
    return {
        **expected,
        "files": {"files": [*owned["files"], *docker_settings.files(os_release, docker)], "folders": owned["folders"]},
        "packages": {"packages": [*packages, *others], "foreign_packages": list(FOREIGN_PACKAGES[docker["source"]])},
        "units": {"units": owned["units"]},
    }


def probes(expected: Mapping[str, Any], key: bytes, password: str, limit: float) -> dict[str, Probe]:
    """The questions that what is expected gives rise to. `limit`: seconds for each."""
    base = Path(expected["base"])
    units = [str(unit["name"]) for unit in expected["units"]["units"]]
    names = [str(one["name"]) for one in expected["packages"]["packages"]]
    one_answer = max(1.0, limit / 3)
    questions: dict[str, Callable[[], Any]] = {
        "server": system.collect_server,
        "clock": system.collect_clock,
        "disk": partial(system.collect_disks, expected["disk"]["paths"]),
        "addresses": lambda: {**network.collect_addresses(), "node_ip": node_ip()},
        "files": partial(owned_files.collect_files, expected["files"], key),
        "packages": partial(system.collect_packages, [*names, *expected["packages"]["foreign_packages"]]),
        "units": partial(system.collect_units, units),
        "kernel": partial(system.collect_kernel, expected["kernel"]),
        "users": partial(users.collect_users, expected["users"]) if expected["users"]["compared"] else dict,
        "firewall": network.collect_firewall,
        "ports": network.collect_ports,
        "settings": docker_settings.collect_settings,
        "engine": partial(containers.collect_engine, one_answer),
        "containers": partial(containers.collect_containers, key, one_answer, limit - 1),
        "networks": partial(containers.collect_networks, one_answer),
        "volumes": partial(containers.collect_volumes, one_answer),
        "wanted": partial(_wanted, base, limit - 1),
        "release": partial(release.collect_release, base),
        "secrets": partial(release.collect_secrets, expected["secrets"], key),
        "certificates": partial(expiry.collect_certificates, expected["certificates"]),
        "k3s_certificates": expiry.collect_k3s_certificates,
        "kubeconfigs": partial(expiry.collect_kubeconfigs, expected["kubeconfigs"]),
        "cluster": partial(cluster.collect_cluster, expected["cluster"], one_answer),
        "k3s_binary": cluster.collect_binary,
        "backups": partial(backup.collect_backups, expected["backup"]),
    }
    if expected["registry"].get("host"):
        questions["registry"] = partial(_registry, base, expected["registry"], password, one_answer)
    return {name: Probe(question, limit) for name, question in questions.items()}


ENGINES = frozenset({*ENGINE_PACKAGES.values(), "moby-engine"})
"""Packages that hold the Docker Engine."""
LISTS = frozenset({"disk", "ports", "networks", "volumes", "k3s_certificates"})


def understood(name: str, answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """An answer; one of another form than the question's counts as none."""
    value = answer.get("value")
    form = list if name in LISTS else Mapping
    if not answer.get("why") and not isinstance(value, form):
        return {**answer, "value": None, "why": "the answer has an unknown form"}
    return answer


class Comparer:
    """Puts the answers beside what is expected; whatever was not answered is said, once, with its cure."""

    def __init__(
        self, expected: Mapping[str, Any], answers: Mapping[str, Any], seen: Mapping[str, Any], key: bytes
    ) -> None:
        self.expected = expected
        self.answers = {name: understood(name, answer) for name, answer in answers.items()}
        self.seen = seen
        self.key = key
        self.result = Comparison(str(expected["host"]), [str(one) for one in expected["inventory"]])
        self.now = float((self.value("clock") or {}).get("time") or time.time())
        self.tag = release.tag_of(self.value("release") or {})

    def value(self, name: str) -> Any:
        """The answer to a question; None when there is none."""
        return (self.answers.get(name) or {}).get("value")

    def answered(self, name: str, area: str, what: str, cure: str, *, absent: bool = False) -> bool:
        """Whether there is an answer; if not, the report says so. `absent`: what would answer is not installed."""
        why = problem(self.answers, name)
        if why:
            self.result.not_asked(area, what, why, cure, absent=absent)
        return not why

    def _try(
        self, name: str, area: str, what: str, compare: Callable[[], None], cure: str = "", *, absent: bool = False
    ) -> None:
        cure = cure or f"By hand: look at the server; {what} could not be read"
        if not self.answered(name, area, what, cure, absent=absent):
            return
        try:
            compare()
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            # an answer of an unknown form must not take the report of everything else with it
            self.result.not_asked(
                area,
                what,
                f"the answer has an unknown form ({type(error).__name__})",
                f"By hand: look at {what} on the server",
            )

    def operating_system(self) -> None:
        """The operating system."""
        e, r, v = self.expected, self.result, self.value
        self._try("server", "server", "memory", lambda: system.compare_server(r, e["server"], v("server")))
        self._try("clock", "clock", "the clock", lambda: system.compare_clock(r, e["clock"], v("clock")))
        self._try("disk", "disk", "the disks", lambda: system.compare_disks(r, e["disk"], v("disk")))
        self._try("files", "files", "the files", lambda: owned_files.compare_files(r, e["files"], v("files"), self.key))
        self._try(
            "packages", "packages", "the packages", lambda: system.compare_packages(r, e["packages"], v("packages"))
        )
        self._try("units", "units", "systemd", lambda: system.compare_units(r, e["units"], v("units")))
        self._try("kernel", "kernel", "the kernel", lambda: system.compare_kernel(r, e["kernel"], v("kernel")))
        if e["users"]["compared"]:
            self._try("users", "users", "users and keys", lambda: users.compare_users(r, e["users"], v("users")))

    def network(self) -> None:
        """Addresses, firewall, listeners."""
        e, r, v = self.expected, self.result, self.value
        bridge = docker_settings.bridge_of(v("settings") or {}) if v("engine") else ""

        def addresses() -> None:
            found = v("addresses")
            node = found["node_ip"] or e["addresses"].get("node_ip")
            network.compare_addresses(r, {"node_ip": node, "docker_bridge": bridge}, found)

        def ports() -> None:
            wanted = v("wanted")
            listed = published(wanted) if wanted and v("engine") else None
            network.compare_ports(
                r, {**e["ports"], "published": listed, "publish_cure": r.deploy(self.tag)}, v("ports")
            )

        self._try("addresses", "address", "the addresses", addresses)
        config = (v("settings") or {}).get("config") or {}
        # with nftables, which Engine 29 can use, its rules are in tables of its own
        managed = bool(v("engine")) and config.get("iptables", True) and config.get("firewall-backend") != "nftables"
        firewall = {**e["firewall"], "docker": managed}
        self._try("firewall", "firewall", "the firewall", lambda: network.compare_firewall(r, firewall, v("firewall")))
        self._try("ports", "ports", "listening ports", ports)

    def docker(self) -> None:
        """The engine, and everything that it runs."""
        e, r, v = self.expected, self.result, self.value
        self._try(
            "settings",
            "docker",
            docker_settings.CONFIG,
            lambda: docker_settings.compare_settings(r, e["docker"], v("settings"), self.key),
        )
        start = (
            r.site("docker")
            if self.without_engine()
            else (
                "By hand: systemctl restart docker.service (containers live on); journalctl -u docker -n 50 says "
                "why it does not answer"
            )
        )
        packages = v("packages") or {}
        self._try(
            "engine",
            "docker",
            "the Docker Engine",
            lambda: docker_settings.compare_engine(r, e["docker"], v("engine"), v("settings") or {}, packages),
            start,
            absent=self.without_engine(),
        )
        self._try("release", "release", "the release", lambda: release.compare_release(r, e["release"], v("release")))
        if not v("release") or not (v("release") or {}).get("record"):
            return
        stack = Stack(r, tag=self.tag, key=self.key)
        if not self.answered("wanted", "release", "docker compose config", r.deploy(self.tag)):
            return
        wanted = v("wanted")
        known = e["containers"]["known"]
        restarts = self.seen.get("restarts") or {}
        for name, compare in (
            ("containers", lambda: stack.containers(wanted, v("containers"), restarts, known)),
            ("networks", lambda: stack.networks(wanted, v("networks"))),
            ("volumes", lambda: stack.volumes(wanted, v("volumes"))),
        ):
            if v("engine") is None:
                # the engine is to blame, which is said; that these are unknown has to be said too
                self.result.not_asked(
                    name, name, problem(self.answers, "engine") or "the Docker Engine does not answer", start
                )
            else:
                self._try(name, name, name, compare, start)

    def application(self) -> None:
        """What belongs to the application beside its containers."""
        e, r, v = self.expected, self.result, self.value
        self._try(
            "secrets", "files", "the secrets", lambda: release.compare_secrets(r, e["secrets"], v("secrets"), self.tag)
        )
        self._try(
            "certificates",
            "expiry",
            "the certificates",
            lambda: expiry.compare_certificates(r, e["certificates"], v("certificates"), self.now, self.tag),
            absent=self.without("python3-cryptography"),
        )
        self._try(
            "backups", "backup", "the backups", lambda: backup.compare_backups(r, e["backup"], v("backups"), self.now)
        )
        if "registry" in self.answers:
            self._try(
                "registry",
                "registry",
                str(e["registry"]["host"]),
                lambda: registry.compare_registry(r, e["registry"], v("registry"), v("registry")["recorded"], self.tag),
                (
                    f"By hand: from the server, curl https://{e['registry']['host']}/v2/ shows what is in the "
                    "way (DNS, proxy, certificate)"
                ),
            )

    def cluster(self) -> None:
        """k3s and what is in it."""
        e, r, v = self.expected, self.result, self.value
        heal = r.playbook("recover-k3s")
        no_k3s = (v("k3s_binary") or {}).get("version") == ""
        found = v("addresses") or {}
        wanted = {
            **e["cluster"],
            "node_ip": e["cluster"].get("node_ip") or found.get("node_ip"),
            "addresses": found.get("addresses") or [],
            "node_name": e["cluster"].get("node_name") or (v("server") or {}).get("hostname", ""),
        }
        self._try(
            "k3s_binary",
            "k3s",
            cluster.BINARY,
            lambda: cluster.compare_binary(r, e["cluster"], v("k3s_binary")),
            f"By hand: look why {cluster.BINARY} --version fails; {r.site('k3s')} installs it",
        )
        self._try(
            "cluster",
            "kubernetes",
            "the Kubernetes API",
            lambda: cluster.compare_cluster(r, wanted, v("cluster")),
            heal,
            absent=no_k3s,
        )
        uids = (v("cluster") or {}).get("uids") or {}
        self._try(
            "kubeconfigs",
            "expiry",
            "the workers' kubeconfigs",
            lambda: expiry.compare_kubeconfigs(r, e["kubeconfigs"], v("kubeconfigs"), self.now, uids),
        )
        self._try(
            "k3s_certificates",
            "expiry",
            "k3s' certificates",
            lambda: expiry.compare_k3s_certificates(r, e["k3s_certificates"], v("k3s_certificates"), self.now),
            heal,
            absent=no_k3s or self.without("python3-cryptography"),
        )

    def without_engine(self) -> bool:
        """Whether Docker is known not to be installed."""
        installed = self.value("packages")
        return self.value("engine") is None and installed is not None and not ENGINES & set(installed)

    def without(self, package: str) -> bool:
        """Whether a package that the roles install is known not to be there."""
        return f"packages:{package}#missing" in self.result.findings

    def bare(self) -> bool:
        """Whether nothing of this project is on the server."""
        try:
            return is_bare(self.value, without_engine=self.without_engine())
        except (KeyError, TypeError, AttributeError):
            return False  # an answer of an unknown form, which its own comparison tells

    def everything(self) -> Comparison:
        """All of it; where nothing was ever deployed, what is not there yet is one finding."""
        self.operating_system()
        self.network()
        self.docker()
        self.application()
        self.cluster()
        if self.bare():
            self.result.gather_absent()
        return self.result


def seen_of(answers: Mapping[str, Any]) -> dict[str, Any]:
    """What the next run wants to know of this one: restarts by container."""
    found = (answers.get("containers") or {}).get("value") or {"containers": []}
    return {"restarts": {one["id"]: one["restarts"] for one in found["containers"]}}


def release_of(answers: Mapping[str, Any]) -> dict[str, str] | None:
    """The running release, in short."""
    found = (answers.get("release") or {}).get("value") or {}
    record = found.get("record")
    if not record:
        return None
    return {
        "id": str(found.get("id", "")),
        "tag": str(record.get("tag") or ""),
        "created_at": str(record.get("created_at") or ""),
        "by": str(record.get("by") or record.get("author") or ""),
    }


def look(
    expected: Mapping[str, Any], *, key: bytes, password: str, seen: Mapping[str, Any], limit: float, total: float
) -> dict[str, Any]:
    """Ask everything and compare; what the module returns.

    :param key: of this run's keyed hashes.
    :param password: the registry's; leaves this server to that registry only.
    :param seen: `seen` of the last run.
    :param limit: seconds for one question; `total`: for all.
    """
    began = time.monotonic()
    expected = complete(expected, text("/etc/os-release"))
    answers = ask(probes(expected, key, password, limit), total)
    compared = Comparer(expected, answers, seen, key).everything().as_dict()
    asked = (answers.get("containers") or {}).get("value") is not None
    return {
        **compared,
        "release": release_of(answers),
        "seen": seen_of(answers) if asked else dict(seen),
        "seconds": round(time.monotonic() - began, 2),
        "times": {
            name: answer["seconds"] for name, answer in sorted(answers.items(), key=lambda one: -one[1]["seconds"])
        },
    }
