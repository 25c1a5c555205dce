"""The comparison of containers, networks and volumes with what Compose says of the deployed release."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from ansible.module_utils.drift.containers import hashed
from ansible.module_utils.drift.findings import Comparison, Severity
from ansible.module_utils.drift.wanted import undollar, wanted_of

# aspect -> (key, severity); those that are compared as they are
PLAIN: dict[str, tuple[str, Severity]] = {
    "image": ("image", "critical"),
    "memory limit": ("memory", "warning"),
    "processor limit": ("cpus", "warning"),
    "restart policy": ("restart", "critical"),
    "ports": ("ports", "critical"),
    "security options": ("security", "critical"),
    "privileged": ("privileged", "critical"),
    "capabilities": ("cap_add", "critical"),
    "dropped capabilities": ("cap_drop", "critical"),
    "read-only root": ("read_only", "critical"),
    "memory file systems": ("tmpfs", "warning"),
    "process limit": ("pids", "warning"),
    "stop grace": ("stop_timeout", "warning"),
}
# a profile that is switched off leaves its data
PROFILE_VOLUMES = frozenset({"victoria_data", "grafana_data"})
SHOWN: dict[str, Callable[[Any], str]] = {
    "memory": lambda value: f"{value >> 20} MiB" if value else "no limit",
    "cpus": lambda value: f"{value / 1e9:g}" if value else "no limit",
    "pids": lambda value: value or "no limit",
    "stop_timeout": lambda value: "the engine's own" if value is None else f"{value} s",
    "ports": lambda value: ", ".join(f"{ip or '0.0.0.0'}:{port}->{inside}" for ip, port, inside in value) or "none",  # noqa: S104
    "mounts": lambda value: ", ".join(f"{source} at {target} ({mode})" for _, source, target, mode in value) or "none",
}


def _shown(key: str, value: Any) -> Any:
    return SHOWN[key](value) if key in SHOWN else value if value != [] else "none"


class Stack:
    """The comparison of one project with one release."""

    def __init__(self, result: Comparison, *, tag: str, key: bytes, project: str = "integr8scode") -> None:
        self.result = result
        self.cure = result.deploy(tag)
        self.key = key
        self.project = project

    def _state(self, one: Mapping[str, Any]) -> None:
        name = self._item(one)
        if one["state"] != "running" or one["paused"]:
            found = "paused" if one["paused"] else f"{one['state']} (exit code {one['exit_code']})"
            cure = f"By hand: docker unpause {one['name']}" if one["paused"] else self.cure
            self.result.add(
                "containers", name, "state", expected="running", found=found, cure=cure, severity="critical"
            )
        elif one["has_health"] and one["health"] != "healthy":
            self.result.add(
                "containers",
                name,
                "health",
                expected="healthy",
                found=one["health"] or "unknown",
                cure=f"By hand: docker logs --tail 50 {one['name']} says why; then {self.cure}",
                severity="critical",
            )
        if one["oom_kills"] or one["oom_killed"]:
            times = f"{one['oom_kills']} times" if one["oom_kills"] else "the last time it ended"
            self.result.add(
                "containers",
                name,
                "OOM kills",
                expected="none since it started",
                found=times,
                cure=(
                    f"By hand: docker restart {one['name']} counts anew; if it comes back, allow more memory "
                    "(integr8scode_worker_memory for a worker)"
                ),
            )

    def _cure(self, one: Mapping[str, Any], key: str, value: Any) -> str:
        """What `docker update` has changed Compose does not see, and so leaves: only the same command, or a new one."""
        name = one["name"]
        if key == "restart":
            return f"By hand: docker update --restart {value} {name}"
        if key == "memory" and value:
            # the engine's own rule for swap, which it does not apply again
            return f"By hand: docker update --memory {value} --memory-swap {2 * value} {name}"
        if key == "pids" and value:
            return f"By hand: docker update --pids-limit {value} {name}"
        if key in {"memory", "cpus", "pids"}:
            return f"By hand: docker rm -f {name}, then {self.cure}"
        return self.cure

    def _item(self, one: Mapping[str, Any]) -> str:
        # the name of a single copy may change with every deploy; the service's does not
        return str(one["service"])

    def _environment(self, one: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        meant = {**one["image_environment"], **hashed(wanted["environment"], self.key)}
        found = one["environment"]
        self.result.count("containers", len(meant))
        different = sorted(
            [f"{name} is missing" for name in meant if name not in found]
            + [f"{name} has another value" for name in meant if name in found and found[name] != meant[name]]
            + [f"{name} is not of the release" for name in found if name not in meant]
        )
        if different:
            self.result.add(
                "containers",
                self._item(one),
                "environment",
                expected="as in the release",
                found=different,
                cure=self.cure,
                severity="critical",
            )

    def _definition(self, one: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        name = self._item(one)
        for aspect, (key, severity) in PLAIN.items():
            self.result.count("containers")
            if one[key] != wanted[key]:
                self.result.add(
                    "containers",
                    name,
                    aspect,
                    expected=_shown(key, wanted[key]),
                    found=_shown(key, one[key]),
                    cure=self._cure(one, key, wanted[key]),
                    severity=severity,
                )
        for key in ("command", "entrypoint", "user"):
            meant = wanted[key] if wanted[key] is not None else one[f"image_{key}"]
            if key == "command" and wanted["entrypoint"] is not None and wanted["command"] is None:
                meant = []  # another entry point leaves the image's command out
            self.result.count("containers")
            if one[key] != meant:
                # a command may hold whatever somebody typed
                self.result.add(
                    "containers",
                    name,
                    key,
                    expected=meant or "none",
                    found="another one" if one[key] else "none",
                    cure=self.cure,
                    severity="critical",
                )
        self._environment(one, wanted)
        self._mounts(one, wanted)
        for limit in sorted({*wanted["ulimits"], *one["ulimits"]}):
            meant, found = wanted["ulimits"].get(limit), one["ulimits"].get(limit)
            # the daemon's own defaults are added to those that the release names
            if meant is not None and tuple(found or ()) != tuple(meant):
                self.result.add(
                    "containers", name, f"ulimit {limit}", expected=meant, found=found or "none", cure=self.cure
                )
        if wanted["log"]["driver"] and one["log"] != wanted["log"]:
            # an option that the release does not have may be a token
            found_log = {k: v if k in wanted["log"] else "…" for k, v in one["log"].items()}
            shown = [" ".join(f"{k}={v}" for k, v in sorted(log.items())) for log in (wanted["log"], found_log)]
            self.result.add("containers", name, "log", expected=shown[0], found=shown[1], cure=self.cure)
        if wanted["health_test"] and one["health_test"] != wanted["health_test"]:
            self.result.add(
                "containers", name, "health check", expected="as in the release", found="another one", cure=self.cure
            )
        if one["extra_hosts"] != wanted["extra_hosts"]:
            self.result.add(
                "containers",
                name,
                "extra hosts",
                expected=wanted["extra_hosts"] or "none",
                found=one["extra_hosts"] or "none",
                cure=self.cure,
                severity="critical",
            )
        self._networks(one, wanted)

    def _mounts(self, one: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        name = self._item(one)
        targets = {mount[2] for mount in wanted["mounts"]}
        # an image's own volumes become anonymous ones
        found = [list(mount) for mount in one["mounts"] if mount[2] in targets or mount[2] not in one["image_volumes"]]
        missing = [mount for mount in wanted["mounts"] if mount not in found]
        extra = [mount for mount in found if mount not in wanted["mounts"]]
        self.result.count("containers", len(wanted["mounts"]))
        if missing or extra:
            self.result.add(
                "containers",
                name,
                "mounts",
                expected=_shown("mounts", missing),
                found=_shown("mounts", extra),
                cure=self.cure,
                severity="critical",
            )

    def _networks(self, one: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        name = self._item(one)
        self.result.count("networks", len(wanted["networks"]))
        for network, address in wanted["networks"].items():
            if network not in one["networks"]:
                if one["state"] == "running":
                    self.result.add(
                        "networks",
                        f"{network}: {name}",
                        "missing",
                        expected="attached",
                        found="not attached",
                        cure=f"By hand: docker rm -f {one['name']}, then {self.cure}",
                        severity="critical",
                    )
            elif address and one["networks"][network] != address:
                self.result.add(
                    "networks",
                    f"{network}: {name}",
                    "address",
                    expected=address,
                    found=one["networks"][network] or "none",
                    cure=f"By hand: docker rm -f {one['name']}, then {self.cure}",
                    severity="critical",
                )
        for network in one["networks"]:
            if network not in wanted["networks"]:
                self.result.add(
                    "networks",
                    f"{network}: {name}",
                    "unknown",
                    expected="not attached",
                    found="attached",
                    cure=f"By hand: docker network disconnect {network} {one['name']}",
                )

    def containers(
        self, project: Mapping[str, Any], facts: Mapping[str, Any], seen: Mapping[str, Any], known: list[str]
    ) -> None:
        """Compare all containers with the services of `project` (docker compose config: no profile that is off).

        :param seen: restarts by container id at the time of the last report.
        :param known: patterns of the names of other containers that belong on the server.
        """
        services = {name: wanted_of(one, project) for name, one in (project.get("services") or {}).items()}
        here: dict[str, list[Mapping[str, Any]]] = {}
        for one in facts["containers"]:
            if one["project"] == self.project and one["service"] in services and not one["one_off"]:
                here.setdefault(one["service"], []).append(one)
            else:
                self._foreign(one, known, services)
        for name, why in facts["hung"].items():
            self.result.not_asked(
                "containers",
                name,
                why,
                (
                    f"By hand: docker inspect {name} shows whether it still hangs; systemctl restart docker "
                    "(containers live on) frees the engine"
                ),
            )
        hung_services = {service for service in services for name in facts["hung"] if f"-{service}-" in f"-{name}-"}
        for service, wanted in services.items():
            found = here.get(service, [])
            self.result.count("containers")
            if not found:
                if service not in hung_services:
                    self.result.add(
                        "containers",
                        service,
                        "missing",
                        expected="a container",
                        found="none",
                        cure=self.cure,
                        severity="critical",
                    )
                continue
            if len(found) > wanted["copies"] and service not in hung_services:
                self.result.add(
                    "containers",
                    service,
                    "copies",
                    expected=wanted["copies"],
                    found=len(found),
                    cure=self.cure,
                )
            for one in found:
                self._state(one)
                self._definition(one, wanted)
                before = seen.get(one["id"])
                if before is not None and one["restarts"] > int(before):
                    more = one["restarts"] - int(before)
                    self.result.add(
                        "containers",
                        service,
                        "restarts",
                        expected="none since the last report",
                        found=f"{more}, {one['restarts']} since it was made",
                        cure=f"By hand: docker logs --tail 100 {one['name']} says why it ended",
                    )

    def _foreign(self, one: Mapping[str, Any], known: list[str], services: Mapping[str, Any]) -> None:
        name = str(one["name"])
        self.result.count("containers")
        if any(fnmatchcase(name, pattern) for pattern in known):
            return
        if one["project"] == self.project and one["one_off"]:
            self.result.add(
                "containers",
                name,
                "left behind",
                expected="removed when it had ended",
                found=one["state"],
                cure=f"By hand: docker rm -f {name}",
                severity="info",
            )
            return
        what = (
            f"of service {one['service']}, which the release does not have"
            if one["project"] == self.project
            else "not of this project"
        )
        if one["project"] == self.project and one["service"] in services:
            return
        self.result.add(
            "containers",
            name,
            "unknown",
            expected="no such container",
            found=f"{one['state']}, {what}",
            cure=f"By hand: docker rm -f {name}, or name it in drift_known_containers",
        )

    def networks(self, project: Mapping[str, Any], facts: list[Mapping[str, Any]]) -> None:
        """Compare Docker's networks with the release's."""
        here = {str(one["name"]): one for one in facts}
        own = {str(one.get("name") or name): undollar(one) for name, one in (project.get("networks") or {}).items()}
        by_hand = f"By hand: docker compose down in the folder of the release (volumes stay), then {self.cure}"
        for name, wanted in own.items():
            found = here.get(name)
            self.result.count("networks")
            if found is None:
                self.result.add(
                    "networks", name, "missing", expected="a network", found="none", cure=self.cure, severity="critical"
                )
                continue
            configs = (wanted.get("ipam") or {}).get("config") or []
            meant = {
                "driver": wanted.get("driver") or "bridge",
                "internal": bool(wanted.get("internal")),
                "subnets": sorted(one["subnet"] for one in configs if one.get("subnet")),
                "ranges": sorted(one["ip_range"] for one in configs if one.get("ip_range")),
            }
            for aspect, value in meant.items():
                if value or aspect in {"driver", "internal"}:
                    self.result.same(
                        "networks", name, aspect, expected=value, found=found[aspect], cure=by_hand, severity="critical"
                    )
            for option, value in (wanted.get("driver_opts") or {}).items():
                self.result.same(
                    "networks",
                    name,
                    option,
                    expected=str(value),
                    found=str(found["options"].get(option, "")),
                    cure=by_hand,
                )
        for name, one in here.items():
            if one["project"] == self.project and name not in own:
                cure = f"By hand: docker network rm {name}"
                self.result.add(
                    "networks", name, "unknown", expected="no such network", found="of no service", cure=cure
                )

    def volumes(self, project: Mapping[str, Any], facts: list[Mapping[str, Any]]) -> None:
        """Compare Docker's volumes with the release's."""
        here = {str(one["name"]): one for one in facts}
        own = {str(one.get("name") or name): one or {} for name, one in (project.get("volumes") or {}).items()}
        for name, wanted in own.items():
            self.result.count("volumes")
            if name not in here:
                cure = (
                    f"By hand: if data was lost, {self.result.playbook('restore')} -e restore_from=latest -e "
                    f"restore_confirm={self.result.host}; else {self.cure}"
                )
                self.result.add(
                    "volumes", name, "missing", expected="a volume", found="none", cure=cure, severity="critical"
                )
                continue
            self.result.same(
                "volumes",
                name,
                "driver",
                expected=wanted.get("driver") or "local",
                found=here[name]["driver"],
                cure=f"By hand: copy its data away, docker volume rm {name}, then {self.cure}",
            )
        for name, one in here.items():
            kept = name.removeprefix(f"{self.project}_") in PROFILE_VOLUMES
            if one["project"] == self.project and name not in own and not kept:
                cure = f"By hand: docker volume inspect {name}; docker volume rm {name} when nobody needs its data"
                self.result.add("volumes", name, "unknown", expected="no such volume", found="of no service", cure=cure)
