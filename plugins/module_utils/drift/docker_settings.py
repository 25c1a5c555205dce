"""Docker's own settings: daemon.json as the role docker writes it, and what is in force."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.docker_daemon_common import (
    CA_MARK,
    COMMON_PACKAGES,
    COMPOSE_PACKAGES,
    ENGINE_PACKAGES,
    DockerDaemonError,
    build_config,
    changed_keys,
    is_older,
    packages_for,
    parse_os_release,
)
from ansible.module_utils.docker_daemon_vendor import (
    KEY_FILE,
    SOURCE_FILE,
    is_trusted,
    plain_fingerprint,
    source_text,
    suite_of,
)
from ansible.module_utils.drift.findings import Comparison
from ansible.module_utils.drift.reading import keyed, text

CONFIG = "/etc/docker/daemon.json"
SECRET = re.compile("@|token|secret|password|credential", re.IGNORECASE)
PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


def packages(os_release: str, expected: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Docker's packages on this system, each with its least version or, with Docker's own repository, its pinned one.

    Raises DockerDaemonError for a system that is not supported.
    """
    system, source = parse_os_release(os_release), str(expected["source"])
    pins = {}
    if source == "vendor":
        suite_of(system)
        pins = {name: pin for name, pin in expected["vendor"]["versions"].items() if pin}
    found = []
    for name in [*pins, *COMMON_PACKAGES] if pins else packages_for(system):
        minimum = ""
        if name == ENGINE_PACKAGES[source]:
            minimum = str(expected.get("engine_min_version") or "")
        elif name in COMPOSE_PACKAGES[source]:
            minimum = str(expected.get("compose_min_version") or "")
        found.append({"name": name, "role": "docker", "minimum": minimum, "pin": str(pins.get(name, ""))})
    return found


def files(os_release: str, expected: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The files that the docker_daemon_* modules write, as `owned_files` takes them.

    daemon.json is compared by key, the repository's key by its fingerprint.
    """
    found: list[dict[str, Any]] = [{"path": CONFIG, "mode": "0600", "owner": 0, "group": 0, "role": "docker"}]
    if expected["source"] == "vendor":
        try:
            content = source_text(str(expected["vendor"]["url"]).rstrip("/"), parse_os_release(os_release))
        except DockerDaemonError:
            content = ""  # a system that is not supported; the role docker says so
        if content:
            both = {"mode": "0644", "owner": 0, "group": 0, "role": "docker", "severity": "critical"}
            found += [{"path": SOURCE_FILE, "content": content, **both}, {"path": KEY_FILE, **both}]
    for registry, pem in (expected.get("registry_ca_certificates") or {}).items():
        content = CA_MARK + "\n".join(PEM.findall(pem or "")) + "\n"
        path = f"/etc/docker/certs.d/{registry}/ca.crt"
        found.append({"path": path, "content": content, "mode": "0644", "owner": 0, "group": 0, "role": "docker"})
    return found


def collect_settings() -> dict[str, Any]:
    """daemon.json's content, None when it is no JSON object; and the key that Docker's repository is trusted by."""
    try:
        found = json.loads(text(CONFIG) or "{}")
    except ValueError:
        found = None
    return {"config": found if isinstance(found, dict) else None, "repository_key": text(KEY_FILE)}


def bridge_of(facts: Mapping[str, Any]) -> str:
    """Address of docker0 as it is written down."""
    return str((facts.get("config") or {}).get("bip", ""))


def _compare_key(result: Comparison, expected: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Compare the key of Docker's repository with the pinned fingerprint; that it is missing is told with the files."""
    found = facts.get("repository_key")
    if expected["source"] != "vendor" or not found:
        return
    fingerprint = str(expected["vendor"]["key_fingerprint"])
    result.count("docker")
    if not is_trusted(found, fingerprint):
        wanted = f"{plain_fingerprint(fingerprint)} and no other"
        cure = result.site("docker")
        result.add("docker", KEY_FILE, "key", expected=wanted, found="another", cure=cure, severity="critical")


def _compare_proxies(result: Comparison, expected: Mapping[str, Any], config: Mapping[str, Any], key: bytes) -> None:
    """Compare the proxies, of which only keyed hashes are known here: their URLs may hold a password."""
    found = config.get("proxies") or {}
    wanted = {name: digest for name, digest in expected["proxies"].items() if digest}
    result.count("docker", len(wanted))
    for name in sorted({*found, *wanted}):
        if name in found and keyed(str(found[name]).encode(), key) == wanted.get(name):
            continue
        result.add(
            "docker",
            CONFIG,
            f"proxies.{name}",
            expected="as in the inventory" if name in wanted else "not set",
            found="another value" if name in found else "not set",
            cure=result.site("docker"),
            absent=name not in found,
        )


def compare_settings(result: Comparison, expected: Mapping[str, Any], facts: Mapping[str, Any], key: bytes) -> None:
    """Compare daemon.json with `daemon` (the parameters of the module docker_daemon) and `proxies` (keyed hashes)."""
    cure = result.site("docker")
    _compare_key(result, expected, facts)
    if facts["config"] is None:
        result.add("docker", CONFIG, "content", expected="JSON", found="something else", cure=cure, severity="critical")
        return
    wanted = dict(expected["daemon"])
    options = wanted.pop("options", {})
    # left to itself docker0 keeps what was written down once
    address = wanted.pop("bridge_address", "") or bridge_of(facts)
    try:
        meant = build_config(bridge_address=address, options=options, **wanted)
    except DockerDaemonError as error:
        result.not_asked(
            "docker", "the wanted settings", str(error), "By hand: correct the docker_… variables of the inventory"
        )
        return
    result.count("docker", len(meant))
    _compare_proxies(result, expected, facts["config"], key)
    for name in sorted(changed_keys(json.dumps(facts["config"]), meant) - {"proxies"}):
        shown = [json.dumps(one[name]) if name in one else "not set" for one in (meant, facts["config"])]
        # a URL may hold a password, a log driver's options a token, and what somebody has added anything
        if name not in meant:
            shown[1] = "set"
        elif SECRET.search("".join(shown)):
            shown = ["as in the inventory", "another value"]
        absent = name not in facts["config"]
        result.add("docker", CONFIG, name, expected=shown[0], found=shown[1], cure=cure, absent=absent)


def compare_engine(
    result: Comparison,
    expected: Mapping[str, Any],
    facts: Mapping[str, Any],
    settings: Mapping[str, Any],
    packages: Mapping[str, Any],
) -> None:
    """Compare what the running engine says with daemon.json and with the package that is installed."""
    cure = result.site("docker")
    config = settings.get("config") or {}
    meant = {
        "live-restore": expected["daemon"]["live_restore"],
        "log-driver": "json-file",
        **expected["daemon"]["options"],
    }
    result.count("docker", 3)
    minimum = str(expected.get("engine_min_version") or "")
    if minimum and is_older(str(facts["version"]), minimum):
        result.add(
            "docker",
            "engine",
            "version",
            expected=f"{minimum} or newer",
            found=facts["version"],
            cure=cure,
            severity="critical",
        )
    in_force = {"live-restore": facts["live_restore"], "log-driver": facts["log_driver"]}
    for name, value in in_force.items():
        # where the file is wrong, that is told
        if name in config and config[name] == meant.get(name) != value:
            by_hand = "By hand: systemctl reload docker.service (live-restore), or systemctl restart docker.service"
            result.add("docker", "engine", f"{name} in force", expected=config[name], found=value, cure=by_hand)
    package = str((packages.get(ENGINE_PACKAGES[str(expected["source"])]) or {}).get("version") or "")
    version = package.partition(":")[2] or package
    if version and not version.startswith(str(facts["version"]).partition("+")[0].partition("-")[0]):
        by_hand = "By hand: systemctl restart docker.service (containers live on) starts the installed one"
        result.add(
            "docker",
            "engine",
            "restart",
            expected=f"the installed {package}",
            found=f"{facts['version']} runs",
            cure=by_hand,
        )
