"""Each thing that somebody changes on a server is found, named rightly, with a cure; and nothing else is reported."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from ansible.module_utils import certificate_tools
from ansible.module_utils.drift.findings import AREAS
from ansible.module_utils.drift.network import unknown_rules
from ansible.module_utils.drift.stack import PROFILE_VOLUMES
from ansible.plugins.filter.drift_cures import CURES

from tests.unit.drift import clean_server as server
from tests.unit.drift.clean_server import DAY, KEY, NOW, RELEASE, answers, compare, container
from tests.unit.support.fake_kubernetes import Authority

Change = Callable[[dict[str, Any]], Any]
PLAYBOOK = "ansible-playbook -i inventories/production"
"""How each cure begins: it means the servers that were looked at."""


def put(place: str, value: Any) -> Change:
    """A change of one value: keys separated by `|`, numbers for lists."""

    def change(found: dict[str, Any]) -> None:
        *path, last = place.split("|")
        found = found[path.pop(0)]["value"] if path else found
        for name in path:
            found = found[int(name)] if isinstance(found, list) else found[name]
        found[int(last) if isinstance(found, list) else last] = value

    return change


def add(place: str, value: Any) -> Change:
    """One more element of a list."""

    def change(found: dict[str, Any]) -> None:
        first, *path = place.split("|")
        found = found[first]["value"]
        for name in path:
            found = found[name]
        found.append(value)

    return change


def drop(place: str, name: str) -> Change:
    """An element less, by its name or key."""

    def change(found: dict[str, Any]) -> None:
        first, *path = place.split("|")
        found = found[first]["value"]
        for part in path:
            found = found[part]
        if isinstance(found, list):
            found[:] = [one for one in found if one != name and (not isinstance(one, dict) or one["name"] != name)]
        else:
            del found[name]

    return change


def engine(service: str, change: Callable[[dict[str, Any]], Any]) -> Change:
    """A container of which the engine says something else."""

    def changed(found: dict[str, Any]) -> None:
        listed = found["containers"]["value"]["containers"]
        listed[:] = [container(service, change) if one["service"] == service else one for one in listed]

    return changed


def without(service: str) -> Change:
    def changed(found: dict[str, Any]) -> None:
        listed = found["containers"]["value"]["containers"]
        listed[:] = [one for one in listed if one["service"] != service]

    return changed


def another(service: str, /, **differs: Any) -> Change:
    """One container more."""
    return lambda found: found["containers"]["value"]["containers"].append({**container(service), **differs})


def environment(one: dict[str, Any], old: str, new: str) -> None:
    one["Config"]["Env"] = [entry.replace(old, new) for entry in one["Config"]["Env"]]


K3S_UNIT = "/etc/systemd/system/k3s.service"
CRT = f"{server.BASE}/tls/public/server.crt"
SECRET = f"{server.BASE}/secrets/{'0' * 15}0/secrets.toml"
IMAGE = "ghcr.io/hardmax71/integr8scode/backend:2026.2.20"
CHANGES: dict[str, tuple[Change, str]] = {
    "memory was taken from the server": (put("server|memory_total_mb", 4000), "server:memory#size"),
    "memory is short": (put("server|memory_available_mb", 100), "server:memory#available"),
    "k3s waits for a restart": (put("server|k3s_restart_pending", True), "units:k3s.service#pending"),
    "the clock was set back": (put("clock|time", NOW - 3600), "clock:time#offset"),
    "the clock is ahead": (put("clock|time", NOW + 3600), "clock:time#offset"),
    "nothing keeps the clock": (put("clock|synchronised", False), "clock:time#synchronised"),
    "the disk is full": (put("disk|0|free_bytes", 1 << 20), "disk:/#room"),
    "inodes are used up": (put("disk|0|free_inodes_percent", 1.0), "disk:/#inodes"),
    "the disk is read-only": (put("disk|0|read_only", True), "disk:/#read-only"),
    "the container cannot read the release's configuration": (
        put(f"release|access|{server.CONFIG_PATH}|mode", "0600"),
        f"files:{server.CONFIG_PATH}#mode",
    ),
    "a file lies beside the release's configuration": (
        put("release|strangers", [f"{server.CONFIG_PATH}.old"]),
        f"files:{server.CONFIG_PATH}.old#unknown",
    ),
    "somebody else may write the release's settings": (
        put(f"release|access|{server.BASE}/releases/{server.RELEASE}/.env|owner", 1000),
        f"files:{server.BASE}/releases/{server.RELEASE}/.env#owner",
    ),
    "the record of the release can be read by all": (
        put(f"release|access|{server.BASE}/releases/{server.RELEASE}/release.json|mode", "0644"),
        f"files:{server.BASE}/releases/{server.RELEASE}/release.json#mode",
    ),
    "the default route is gone": (put("addresses|default_route", False), "address:default route#missing"),
    "node-ip names an address that is gone": (put("addresses|node_ip", "192.0.2.99"), "address:k3s node-ip#gone"),
    "docker0 has another address": (put("addresses|addresses", ["192.0.2.10"]), "address:docker0#gone"),
    "a unit was edited": (put(f"files|entries|{K3S_UNIT}|digest", "x"), f"files:{K3S_UNIT}#content"),
    "a file has another mode": (
        put("files|entries|/etc/rancher/k3s/token|mode", "0644"),
        "files:/etc/rancher/k3s/token#mode",
    ),
    "a file has another owner": (put(f"files|entries|{K3S_UNIT}|owner", 1000), f"files:{K3S_UNIT}#owner"),
    "a secret file was edited": (
        put("files|entries|/etc/rancher/k3s/token|digest", "x"),
        "files:/etc/rancher/k3s/token#content",
    ),
    "a file was removed": (put(f"files|entries|{K3S_UNIT}", {"kind": "missing"}), f"files:{K3S_UNIT}#missing"),
    "a file became a link": (put(f"files|entries|{K3S_UNIT}|kind", "link"), f"files:{K3S_UNIT}#kind"),
    "a file came back": (
        put("files|entries|/etc/integr8scode/backup-copy.key", server.file("0600")),
        "files:/etc/integr8scode/backup-copy.key#unknown",
    ),
    "an unknown file": (
        add("files|listings|/etc/rancher/k3s", "evil.yaml"),
        "files:/etc/rancher/k3s/evil.yaml#unknown",
    ),
    "a folder is open": (
        put("secrets|files|" + SECRET + "|access|mode", "0444"),
        f"files:{server.BASE}/secrets/…/secrets.toml#mode",
    ),
    "a secret is another": (
        put(f"secrets|files|{SECRET}|digest", "x"),
        f"files:{server.BASE}/secrets/…/secrets.toml#content",
    ),
    "a secret is mounted elsewhere": (
        put(f"secrets|files|{SECRET}|readers", ["backend:/x"]),
        f"files:{server.BASE}/secrets/…/secrets.toml#readers",
    ),
    "an old secret lies there": (add("secrets|folders", "f" * 16), f"files:{server.BASE}/secrets/{'f' * 16}#unknown"),
    "a package was removed": (drop("packages", "python3-cryptography"), "packages:python3-cryptography#missing"),
    "an old engine": (put("packages|docker-compose|version", "1.29.2-3"), "packages:docker-compose#version"),
    "a foreign package": (put("packages|docker-ce", {"version": "5", "want": "install"}), "packages:docker-ce#unknown"),
    "another engine runs than is installed": (put("engine|version", "25.0.1"), "docker:engine#restart"),
    "live-restore was switched off": (
        put("settings|config|live-restore", False),
        "docker:/etc/docker/daemon.json#live-restore",
    ),
    "the engine has not read its file": (put("engine|live_restore", False), "docker:engine#live-restore in force"),
    "a unit is disabled": (put("units|docker.service|UnitFileState", "disabled"), "units:docker.service#enabled"),
    "a timer was stopped": (
        put("units|integr8scode-backup.timer|ActiveState", "inactive"),
        "units:integr8scode-backup.timer#active",
    ),
    "a job failed": (
        lambda found: found["units"]["value"]["integr8scode-backup.service"].update(
            ActiveState="failed", Result="exit-code"
        ),
        "units:integr8scode-backup.service#result",
    ),
    "a unit is masked": (put("units|k3s.service|LoadState", "masked"), "units:k3s.service#missing"),
    "a drop-in": (
        put("units|k3s.service|DropInPaths", "/etc/systemd/system/k3s.service.d/x.conf"),
        "units:k3s.service#drop-in /etc/systemd/system/k3s.service.d/x.conf",
    ),
    "systemd has not read a unit": (put("units|k3s.service|NeedDaemonReload", "yes"), "units:k3s.service#reload"),
    "a kernel setting": (put("kernel|settings|net.ipv4.ip_forward", "0"), "kernel:net.ipv4.ip_forward#setting"),
    "a kernel module": (put("kernel|modules|br_netfilter", False), "kernel:br_netfilter#module"),
    "an account more": (
        add(
            "users|accounts",
            {
                "name": "eve",
                "uid": 1001,
                "home": "/home/eve",
                "shell": "/bin/sh",
                "password": True,
                "empty_password": False,
            },
        ),
        "users:eve#unknown",
    ),
    "a second root": (
        add(
            "users|accounts",
            {"name": "toor", "uid": 0, "home": "/", "shell": "/bin/sh", "password": True, "empty_password": False},
        ),
        "users:toor#root's number",
    ),
    "a key more": (
        add(
            "users|keys|ops", {"fingerprint": "SHA256:abc", "comment": "eve", "path": "/home/ops/.ssh/authorized_keys"}
        ),
        "users:ops: key SHA256:abc#unknown",
    ),
    "somebody in group sudo": (add("users|groups|sudo", "eve"), "users:group sudo: eve#unknown"),
    "root may log in": (put("users|sshd|permitrootlogin", "yes"), "users:sshd permitrootlogin#setting"),
    "a firewall rule": (
        put("firewall|rules|IPv4|unknown", unknown_rules("*filter\n-A INPUT -p tcp --dport 6443 -j DROP\n")),
        "firewall:IPv4 filter: -A INPUT -p tcp --dport 6443 -j DROP#unknown",
    ),
    "an nftables table": (add("firewall|tables", "inet evil"), "firewall:nftables inet evil#unknown"),
    "Docker's rules were flushed": (
        put("firewall|rules|IPv4|docker_user", False),
        "firewall:IPv4 Docker's chains#missing",
    ),
    "somebody listens": (
        add("ports", {"address": "0.0.0.0", "port": 8000, "inode": "9", "program": "nc", "unit": "user@0.service"}),
        "ports:port 8000#unknown",
    ),
    "current points nowhere": (put("release|link", None), "release:current#missing"),
    "the compose file was edited": (
        put("release|texts|docker-compose.yaml", "name: x\n"),
        "release:docker-compose.yaml#content",
    ),
    "the release's variables were edited": (
        lambda found: found["release"]["value"]["texts"].update(
            {".env": found["release"]["value"]["texts"][".env"].replace("HTTPS_PORT=443", "HTTPS_PORT=444")}
        ),
        "release:.env#HTTPS_PORT",
    ),
    "`current` leads to a copy of the release": (
        lambda found: found["release"]["value"].update(id="stranger", path="/opt/integr8scode/releases/stranger"),
        "release:current#target",
    ),
    "the list of who reads secrets was edited": (
        put("release|texts|secrets.yaml", "services: {}\n"),
        "release:secrets.yaml#content",
    ),
    "the secrets are left out": (
        lambda found: found["release"]["value"]["texts"].update(
            {".env": found["release"]["value"]["texts"][".env"].replace("/secrets.yaml\n", "/other.yaml\n")}
        ),
        "release:.env#COMPOSE_FILE",
    ),
    "a configuration file was removed": (put("release|files|config.toml|text", None), "release:config.toml#missing"),
    "the edge's configuration was edited": (
        put("release|edge", "global\n    maxconn 9\n"),
        "release:edge/haproxy.cfg#content",
    ),
    "half a release": (
        put("release|others|2026.2.19-aaaaaaaaaaaa", False),
        "release:releases/2026.2.19-aaaaaaaaaaaa#left behind",
    ),
    "a container was removed": (without("coordinator"), "containers:coordinator#missing"),
    "a second coordinator": (another("coordinator", id="2", name="x"), "containers:coordinator#copies"),
    "a container of somebody": (
        another("redis", id="3", name="rogue", project="", service=""),
        "containers:rogue#unknown",
    ),
    "a service of another release": (
        another("redis", id="3", name="integr8scode-loki-1", service="loki"),
        "containers:integr8scode-loki-1#unknown",
    ),
    "what a one-shot left": (
        another("backend", id="3", name="integr8scode-backend-run-1", one_off=True),
        "containers:integr8scode-backend-run-1#left behind",
    ),
    "a container is stopped": (
        engine("redis", lambda one: one["State"].update(Status="exited", ExitCode=137)),
        "containers:redis#state",
    ),
    "a container is paused": (
        engine("redis", lambda one: one["State"].update(Status="paused", Paused=True)),
        "containers:redis#state",
    ),
    "a container is unhealthy": (
        engine("kafka", lambda one: one["State"]["Health"].update(Status="unhealthy")),
        "containers:kafka#health",
    ),
    "another image": (engine("backend", lambda one: one["Config"].update(Image=IMAGE)), "containers:backend#image"),
    "another command": (
        engine("mongo", lambda one: one["Config"].update(Cmd=["mongod", "--noauth"])),
        "containers:mongo#command",
    ),
    "a variable": (
        engine("backend", lambda one: environment(one, "WEB_CONCURRENCY=2", "WEB_CONCURRENCY=9")),
        "containers:backend#environment",
    ),
    "a variable more": (
        engine("backend", lambda one: one["Config"]["Env"].append("RATE_LIMIT_ENABLED=false")),
        "containers:backend#environment",
    ),
    "a mount": (engine("edge", lambda one: one["Mounts"][0].update(RW=True)), "containers:edge#mounts"),
    "docker update --memory": (
        engine("mongo", lambda one: one["HostConfig"].update(Memory=1 << 29)),
        "containers:mongo#memory limit",
    ),
    "docker update --cpus": (
        engine("mongo", lambda one: one["HostConfig"].update(NanoCpus=500000000)),
        "containers:mongo#processor limit",
    ),
    "docker update --restart": (
        engine("kafka", lambda one: one["HostConfig"].update(RestartPolicy={"Name": "no"})),
        "containers:kafka#restart policy",
    ),
    "more capabilities": (
        engine("frontend", lambda one: one["HostConfig"]["CapAdd"].append("SYS_ADMIN")),
        "containers:frontend#capabilities",
    ),
    "no capability is dropped": (
        engine("kafka", lambda one: one["HostConfig"].update(CapDrop=None)),
        "containers:kafka#dropped capabilities",
    ),
    "a writable root": (
        engine("redis", lambda one: one["HostConfig"].update(ReadonlyRootfs=False)),
        "containers:redis#read-only root",
    ),
    "a larger memory file system": (
        engine("mongo", lambda one: one["HostConfig"].update(Tmpfs={"/tmp": "size=8g"})),
        "containers:mongo#memory file systems",
    ),
    "no limit of processes": (
        engine("coordinator", lambda one: one["HostConfig"].update(PidsLimit=None)),
        "containers:coordinator#process limit",
    ),
    "root instead of its user": (
        engine("redis", lambda one: one["Config"].update(User="")),
        "containers:redis#user",
    ),
    "privileged": (engine("edge", lambda one: one["HostConfig"].update(Privileged=True)), "containers:edge#privileged"),
    "OOM": (
        engine("dlq-processor", lambda one: one["State"].update(OOMKilled=True)),
        "containers:dlq-processor#OOM kills",
    ),
    "a container left its network": (
        engine("redis", lambda one: one["NetworkSettings"]["Networks"].clear()),
        "networks:integr8scode: redis#missing",
    ),
    "a container joined another network": (
        engine("redis", lambda one: one["NetworkSettings"]["Networks"].update(bridge={})),
        "networks:bridge: redis#unknown",
    ),
    "a network is gone": (drop("networks", "integr8scode_proxy"), "networks:integr8scode_proxy#missing"),
    "a network is open": (put("networks|0|internal", False), "networks:integr8scode_proxy#internal"),
    "a network more": (
        add(
            "networks",
            {
                "name": "integr8scode_x",
                "project": "integr8scode",
                "driver": "bridge",
                "internal": False,
                "subnets": [],
                "ranges": [],
                "options": {},
            },
        ),
        "networks:integr8scode_x#unknown",
    ),
    "a volume is gone": (drop("volumes", "integr8scode_kafka_data"), "volumes:integr8scode_kafka_data#missing"),
    "a volume more": (
        add("volumes", {"name": "integr8scode_x", "project": "integr8scode", "driver": "local", "options": {}}),
        "volumes:integr8scode_x#unknown",
    ),
    "the tag moved": (put(f"registry|digests|{IMAGE}", "sha256:" + "f" * 64), f"registry:{IMAGE}#digest"),
    "the tag is gone": (put(f"registry|digests|{IMAGE}", ""), f"registry:{IMAGE}#missing"),
    "the login is refused": (put("registry|refused", True), "registry:ghcr.io#login"),
    "another program of k3s, for its next start": (
        put("k3s_binary|version", "v1.35.1+k3s1"),
        "k3s:/usr/local/bin/k3s#version",
    ),
    "another k3s": (put("cluster|version", "v1.33.1+k3s1"), "k3s:API server#version"),
    "the node is not ready": (put("cluster|nodes|0|ready", "Unknown"), "k3s:Node app1#ready"),
    "the node lost its name": (put("cluster|nodes|0|labels", {}), "k3s:Node app1#label kubernetes.io/hostname"),
    "the node is cordoned": (put("cluster|nodes|0|unschedulable", True), "k3s:Node app1#schedulable"),
    "the node has an old address": (
        put("cluster|nodes|0|internal_ips", ["192.0.2.99"]),
        "address:Node app1#InternalIP",
    ),
    "a namespace more": (add("cluster|namespaces", "evil"), "kubernetes:Namespace evil#unknown"),
    "a role has more rights": (
        put("cluster|objects|Role integr8scode/k8s-worker|rules|0|verbs", ["*"]),
        "kubernetes:Role integr8scode/k8s-worker#content",
    ),
    "the network policy is gone": (
        put("cluster|objects|NetworkPolicy integr8scode/executor-deny-all", None),
        "kubernetes:NetworkPolicy integr8scode/executor-deny-all#missing",
    ),
    "a role more": (add("cluster|inside|Role", "evil"), "kubernetes:Role integr8scode/evil#unknown"),
    "a foreign binding": (
        put("cluster|foreign", ["RoleBinding kube-system/x (ClusterRole admin)"]),
        "kubernetes:RoleBinding kube-system/x#grants",
    ),
    "an administrator more": (add("cluster|admins", "eve"), "kubernetes:ClusterRoleBinding eve#unknown"),
    "a certificate ends": (put("certificates|services|public|ends", NOW + 4 * DAY), "expiry:tls public#end"),
    "a certificate for other names": (
        put("certificates|services|public|names", ["x.example.org"]),
        "expiry:tls public#names",
    ),
    "a key of another certificate": (put("certificates|services|public|fits", False), "expiry:tls public#key"),
    "a certificate of others": (put("certificates|services|public|own_authority", False), "expiry:tls public#issuer"),
    "a certificate has another mode": (
        put(f"certificates|services|public|access|{CRT}|mode", "0666"),
        f"files:{CRT}#mode",
    ),
    "a certificate of k3s was cut off": (
        put("k3s_certificates|0|broken", True),
        f"expiry:{next(one['path'] for one in answers()['k3s_certificates']['value'])}#certificate",
    ),
    "k3s' certificates end": (
        put("k3s_certificates|0|ends", NOW + 10 * DAY),
        "expiry:/var/lib/rancher/k3s/server/tls/serving-kube-apiserver.crt#end",
    ),
    "a token ends": (
        put("kubeconfigs|workers|pod-monitor|ends", NOW + 2 * DAY),
        f"expiry:{server.BASE}/kubeconfig/pod-monitor.yaml#end",
    ),
    "a kubeconfig calls an address": (
        put("kubeconfigs|workers|pod-monitor|server", "https://192.0.2.10:6443"),
        f"expiry:{server.BASE}/kubeconfig/pod-monitor.yaml#server",
    ),
    "a kubeconfig is readable": (
        put("kubeconfigs|workers|pod-monitor|access|mode", "0644"),
        f"files:{server.BASE}/kubeconfig/pod-monitor.yaml#mode",
    ),
    "an account was made again": (
        put("cluster|uids|pod-monitor", "another"),
        f"expiry:{server.BASE}/kubeconfig/pod-monitor.yaml#account",
    ),
    "no new backup": (put("backups|newest|k3s|created", NOW - 5 * DAY), "backup:k3s#age"),
    "no backup at all": (put("backups|newest|application", None), "backup:application#missing"),
    "the renewal failed": (
        put("backups|states|renew-kubeconfig|result", "failed"),
        "backup:job renew-kubeconfig#result",
    ),
}


def test_a_clean_server_has_no_finding() -> None:
    found = compare(answers())
    assert found["findings"] == []
    assert found["could_not_ask"] == []
    assert found["notes"] == []
    assert set(found["checked"]) == set(AREAS)


def test_a_release_that_names_the_newest_secrets_itself_is_no_drift() -> None:
    found = answers()
    texts = found["release"]["value"]["texts"]
    own = f"{found['release']['value']['path']}/secrets.yaml"
    texts[".env"] = texts[".env"].replace(own, f"{server.BASE}/secrets/current.yaml")
    del texts["secrets.yaml"]
    assert compare(found)["findings"] == []


def test_secrets_of_a_service_that_only_another_release_has_are_no_drift() -> None:
    found = answers()
    found["secrets"]["value"]["files"][SECRET]["readers"].append("coordinator:/app/secrets.toml")
    assert compare(found)["findings"] == []


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_found_and_nothing_else(name: str) -> None:
    change, expected = CHANGES[name]
    found = answers()
    change(found)
    result = compare(found)
    assert [one["id"] for one in result["findings"]] == [expected]
    assert result["could_not_ask"] == []


@pytest.mark.parametrize("name", CHANGES)
def test_a_finding_says_what_is_wrong_and_what_cures_it(name: str, project_root: Any) -> None:
    change, _ = CHANGES[name]
    found = answers()
    change(found)
    (finding,) = compare(found)["findings"]
    assert finding["expected"], finding
    assert finding["found"], finding
    assert finding["expected"] != finding["found"]
    if finding["cure_kind"] == "manual":
        assert finding["cure"].startswith("By hand: ")
    else:
        playbook = re.match(rf"{PLAYBOOK} (\S+\.yml) --limit app1\b", finding["cure"])
        assert playbook, finding["cure"]
        assert (project_root / playbook[1]).exists()
        assert playbook[1].rpartition("/")[2].removesuffix(".yml") in CURES


def test_no_secret_is_in_what_is_said() -> None:
    found = answers()
    for change, _ in CHANGES.values():
        if change is not CHANGES["current points nowhere"][0]:
            change(found)
    text = str(compare(found))
    for secret in ("the-secret-key-of-the-test", "the-mongo-password-of-the-test", "RATE_LIMIT_ENABLED=false"):
        assert secret not in text


# -- what is no drift


def test_a_newer_release_is_told_and_is_no_finding() -> None:
    found = answers()
    found["registry"]["value"]["tags"] += ["2026.2.21", "2026.2.9", "2025.12.30", "2026.02.22"]
    result = compare(found)
    assert result["findings"] == []
    assert result["notes"] == [
        f"A newer release is in the registry: 2026.2.21. {PLAYBOOK} deploy.yml --limit app1 -e tag=2026.2.21"
    ]


def test_what_a_container_cannot_have_is_no_drift() -> None:
    found = answers()
    found["kernel"]["value"] |= {"container": True, "modules": {"br_netfilter": False}, "settings": {}}
    found["clock"]["value"] |= {"container": True, "synchronised": False}
    assert compare(found)["findings"] == []


def test_restarts_count_from_the_last_report() -> None:
    found = answers()
    engine("redis", lambda one: one.update(RestartCount=4))(found)
    number = container("redis")["id"]
    assert compare(found)["findings"] == []
    assert compare(found, seen={"restarts": {number: 4}})["findings"] == []
    (finding,) = compare(found, seen={"restarts": {number: 1}})["findings"]
    assert finding["id"] == "containers:redis#restarts"
    assert finding["found"] == "3, 4 since it was made"


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("an account more", "users|known", ["eve"]),
        ("somebody listens", "ports|known", [8000]),
        ("a container of somebody", "containers|known", ["rog*"]),
        ("a namespace more", "cluster|known_namespaces", ["evil"]),
        ("a firewall rule", "firewall|known", ["--dport 6443"]),
    ],
)
def test_what_the_inventory_knows_is_no_drift(name: str, place: str, value: Any) -> None:
    found, wanted = answers(), server.expected()
    CHANGES[name][0](found)
    area, key = place.split("|")
    wanted[area][key] = value
    assert compare(found, wanted)["findings"] == []


def test_a_server_that_was_not_bootstrapped_here_has_no_findings_of_users() -> None:
    found, wanted = answers(), server.expected()
    wanted["users"]["compared"] = False
    found["users"]["value"] = {}
    assert compare(found, wanted)["findings"] == []


def test_a_certificate_of_the_inventory_that_was_replaced_on_the_server_is_found() -> None:
    pem = Authority().pem
    found, wanted = answers(), server.expected()
    wanted["certificates"]["certificates"][0] |= {"provided": True, "content": pem}
    served = found["certificates"]["value"]["services"]["public"]
    (finding,) = compare(found, wanted)["findings"]
    assert finding["id"] == "expiry:tls public#content"
    served["fingerprint"] = certificate_tools.fingerprint(certificate_tools.load_chain(pem.encode())[0])
    assert compare(found, wanted)["findings"] == []
    # what a deploy refuses is its business
    wanted["certificates"]["certificates"][0]["content"] = "no certificate"
    assert compare(found, wanted)["findings"] == []


def test_an_engine_that_uses_nftables_needs_no_chains_of_iptables() -> None:
    found, wanted = answers(), server.expected()
    found["firewall"]["value"]["rules"]["IPv4"]["docker_user"] = False
    found["firewall"]["value"]["tables"] += ["ip docker-bridges"]
    found["settings"]["value"]["config"]["firewall-backend"] = "nftables"
    wanted["docker"]["daemon"]["options"] = {"firewall-backend": "nftables"}
    assert compare(found, wanted)["findings"] == []


def test_what_somebody_has_added_is_named_and_not_shown() -> None:
    found = answers()
    engine("redis", lambda one: one["HostConfig"]["LogConfig"]["Config"].update({"splunk-token": "hunter22"}))(found)
    found["release"]["value"]["texts"][".env"] += "MONGO_PASSWORD=hunter22\n"
    config = found["settings"]["value"]["config"]
    config["cluster-advertise"] = "hunter22"
    config["log-opts"]["splunk-token"] = "hunter22"
    result = compare(found)
    assert {one["id"] for one in result["findings"]} == {
        "containers:redis#log",
        "release:.env#MONGO_PASSWORD",
        "docker:/etc/docker/daemon.json#cluster-advertise",
        "docker:/etc/docker/daemon.json#log-opts",
    }
    assert "hunter22" not in str(result)


def test_a_young_server_needs_no_backup_yet() -> None:
    found = answers()
    found["backups"]["value"] |= {"newest": {"k3s": None, "application": None}, "timer_since": NOW - 3600}
    result = compare(found)
    assert result["findings"] == []
    assert len(result["notes"]) == 2


# -- what does not answer


def silent(*names: str) -> dict[str, Any]:
    found = answers()
    for name in names:
        found[name] = {"value": None, "why": "no answer within 20 s", "seconds": 20.0}
    return found


def test_a_dead_engine_is_said_once_with_what_it_hides() -> None:
    result = compare(silent("engine", "containers", "networks", "volumes"))
    assert {one["area"] for one in result["could_not_ask"]} == {"docker", "containers", "networks", "volumes"}
    assert {one["aspect"] for one in result["findings"]} == {"asked"}
    assert all("systemctl restart docker" in one["cure"] for one in result["could_not_ask"])


def test_a_dead_cluster_points_to_its_recovery() -> None:
    result = compare(silent("cluster"))
    assert [one["id"] for one in result["findings"]] == ["kubernetes:the Kubernetes API#asked"]
    assert result["findings"][0]["cure"] == f"{PLAYBOOK} playbooks/recover-k3s.yml --limit app1"


def test_a_hung_container_is_named_and_does_not_count_as_missing() -> None:
    found = answers()
    without("kafka")(found)
    found["containers"]["value"]["hung"] = {"integr8scode-kafka-1": "the Docker Engine has not answered"}
    result = compare(found)
    assert [one["id"] for one in result["findings"]] == ["containers:integr8scode-kafka-1#asked"]


@pytest.mark.parametrize("name", sorted(answers()))
def test_whatever_does_not_answer_is_said(name: str) -> None:
    result = compare(silent(name))
    assert result["could_not_ask"], name
    assert all(one["why"] for one in result["could_not_ask"])


@pytest.mark.parametrize("name", sorted(answers()))
@pytest.mark.parametrize("value", [None, [], {}, {"x": 1}, [1], "text", 7])
def test_whatever_a_broken_server_answers_gives_a_report(name: str, value: Any) -> None:
    found = answers()
    found[name] = {"value": value, "why": "", "seconds": 0.0}
    result = compare(found)
    assert isinstance(result["findings"], list)


def test_a_server_without_release_is_told_what_to_run() -> None:
    found = answers()
    found["release"]["value"] |= {"link": None, "record": None, "id": ""}
    found["wanted"] = {"value": None, "why": "no release was deployed", "seconds": 0.0}
    result = compare(found)
    assert "release:current#missing" in {one["id"] for one in result["findings"]}


STRANGERS = {
    "a sudo rule": (
        put("files|listings|/etc/sudoers.d", ["README", "ops", "zz-stranger"]),
        "files:/etc/sudoers.d/zz-stranger#unknown",
    ),
    "an account": (
        add("users|accounts", {"name": "eve", "uid": 1001, "password": False, "empty_password": False}),
        "users:eve#unknown",
    ),
    "the ops user is gone": (drop("users|accounts", "ops"), "users:ops#missing"),
    "the ops user's sudo rule is gone": (
        put("files|entries|/etc/sudoers.d/ops", {"kind": "missing"}),
        "files:/etc/sudoers.d/ops#missing",
    ),
    "a listener": (
        add("ports", {"address": "0.0.0.0", "port": 4444, "inode": "9", "program": "nc", "unit": ""}),
        "ports:port 4444#unknown",
    ),
    "a kernel setting that somebody has changed": (
        put("kernel|settings|net.ipv4.ip_forward", "0"),
        "kernel:net.ipv4.ip_forward#setting",
    ),
}


def bootstrapped() -> dict[str, Any]:
    """What is expected of a server that bootstrap.yml has prepared."""
    wanted = server.expected()
    rule = {"path": "/etc/sudoers.d/ops", "mode": "0440", "owner": 0, "group": 0, "playbook": "bootstrap"}
    wanted["files"]["files"].append(rule)
    wanted["files"]["folders"].append({"path": "/etc/sudoers.d", "known": ["README"], "playbook": "bootstrap"})
    return wanted


def bare_server() -> dict[str, Any]:
    """As bootstrap.yml leaves it: no Docker, no k3s, nothing that a deployment makes."""
    found = silent(
        *("engine", "containers", "networks", "volumes", "wanted", "cluster", "certificates", "k3s_certificates")
    )
    found["release"]["value"] |= {
        "link": None, "record": None, "id": "", "texts": {}, "files": {}, "others": {}, "folders": [], "last": None,
        "edge": None,
    }  # fmt: skip
    files = found["files"]["value"]
    files["entries"] = {path: {"kind": "missing"} for path in files["entries"]}
    files["entries"]["/etc/sudoers.d/ops"] = server.file("0440")
    files["folders"] = {"/etc/rancher/k3s": None, "/etc/sudoers.d": server.file("0755", kind="directory")}
    files["listings"] = {"/etc/rancher/k3s": None, "/etc/sudoers.d": ["README", "ops"]}
    found["packages"]["value"] = {}
    found["units"]["value"] = {}
    found["kernel"]["value"]["modules"] = {}
    found["kernel"]["value"]["settings"]["fs.inotify.max_user_watches"] = None
    found["settings"]["value"] = {"config": {}, "repository_key": ""}
    found["ports"]["value"] = [one for one in found["ports"]["value"] if one["program"] == "sshd"]
    found["secrets"]["value"] = {"files": {}, "folders": [], "seeded": ""}
    found["k3s_binary"]["value"] = {"version": ""}
    for one in found["kubeconfigs"]["value"]["workers"].values():
        one["access"] = None
    found["backups"]["value"] = {
        "newest": {"k3s": None, "application": None},
        "states": {"backup": {"result": "", "at": "", "last_success": ""}},
        "timer_since": 0.0,
    }
    found["registry"]["value"] = {"refused": False, "digests": {}, "tags": [], "recorded": {}}
    return found


def with_docker(**differs: Any) -> dict[str, Any]:
    """A bare server that has Docker, and one container, if anything is said of it."""
    found, clean = bare_server(), answers()
    for name in ("engine", "settings", "packages"):
        found[name] = clean[name]
    for name in ("networks", "volumes"):
        found[name] = {"value": [], "why": "", "seconds": 0.0}
    one = [{**container("redis"), **differs}] if differs else []
    found["containers"] = {"value": {"containers": one, "hung": {}}, "why": "", "seconds": 0.0}
    return found


def test_what_a_server_without_anything_lacks_is_one_finding() -> None:
    (finding,) = compare(bare_server(), bootstrapped())["findings"]
    assert (finding["id"], finding["severity"]) == ("release:the stack#missing", "critical")
    assert finding["cure"] == f"{PLAYBOOK} playbooks/site.yml --limit app1"
    assert finding["found"].startswith(
        f"nothing is deployed here yet: {len(finding['details'])} things that a deployment makes are missing"
    )
    assert {
        "release:current#missing",
        "docker:the Docker Engine#asked",
        "docker:/etc/docker/daemon.json#live-restore",
        "files:/etc/rancher/k3s/token#missing",
        f"files:{server.BASE}/secrets/…/secrets.toml#readers",
        "kernel:br_netfilter#module",
        "kubernetes:the Kubernetes API#asked",
        "packages:python3-cryptography#missing",
        "units:k3s.service#missing",
        "backup:k3s#missing",
    } <= set(finding["details"])
    # nothing is lost: what could not be asked stays
    assert compare(bare_server(), bootstrapped())["could_not_ask"]


@pytest.mark.parametrize("name", STRANGERS)
def test_what_is_no_part_of_a_deployment_stands_beside_it(name: str) -> None:
    change, expected = STRANGERS[name]
    found = bare_server()
    change(found)
    result = compare(found, bootstrapped())
    assert {one["id"] for one in result["findings"]} == {"release:the stack#missing", expected}


def test_certificates_that_were_never_made_are_part_of_it() -> None:
    """With python3-cryptography, which other software installs too, they are asked for and not there."""
    found, clean = bare_server(), answers()
    found["packages"]["value"]["python3-cryptography"] = {"version": "1.0", "want": "install"}
    nothing = dict.fromkeys(clean["certificates"]["value"]["services"]["public"]["access"])
    services = {"public": {"access": nothing, "problem": "no certificate is in it"}}
    found["certificates"] = {"value": {"authority": None, "services": services}, "why": "", "seconds": 0.0}
    (finding,) = compare(found, bootstrapped())["findings"]
    assert {"expiry:tls authority#missing", "expiry:tls public#certificate"} <= set(finding["details"])
    # it is none of the packages that are missing: that nothing was answered has another cause
    found["certificates"] = silent("certificates")["certificates"]
    assert "expiry:the certificates#asked" in {one["id"] for one in compare(found, bootstrapped())["findings"]}


def test_docker_and_other_peoples_containers_are_no_deployment() -> None:
    for found in (with_docker(), with_docker(project="shop", name="shop-redis-1")):
        assert "release:the stack#missing" in {one["id"] for one in compare(found, bootstrapped())["findings"]}


@pytest.mark.parametrize(
    "rest",
    [
        put("release|link", {"kind": "link", "target": "releases/gone"}),
        put("release|link", {"kind": "directory", "target": ""}),
        put("release|last", {"action": "deploy", "result": "failed"}),
        put("release|last", {}),
        put("release|others", {RELEASE: True}),
        put("release|folders", ["0123456789ab"]),
        put("k3s_binary|version", "v1.34.4+k3s1"),
        put("secrets|folders", ["0" * 16]),
        put("kubeconfigs|workers|k8s-worker|access", server.file("0400")),
        put("backups|newest|k3s", {"created": NOW - 3600, "encrypted": False}),
        put("backups|states|backup|result", "ok"),
        # whether there are containers is not known
        put("packages|docker.io", {"version": "26", "want": "hold"}),
        lambda found: found.update(k3s_binary=silent("k3s_binary")["k3s_binary"]),
        lambda found: found.update(with_docker(project="integr8scode")),
        lambda found: found.update({**with_docker(), "volumes": answers()["volumes"]}),
        lambda found: found.update(
            {**with_docker(), "containers": {"value": {"containers": [], "hung": {"a": "no answer"}}, "why": ""}}
        ),
    ],
)
def test_a_server_that_has_lost_things_is_told_each_of_them(rest: Change) -> None:
    found = bare_server()
    rest(found)
    result = compare(found, bootstrapped())
    assert len(result["findings"]) > 10
    assert not [one for one in result["findings"] if "details" in one or one["item"] == "the stack"]


def test_an_engine_that_is_not_installed_is_not_restarted() -> None:
    found = silent("engine", "containers", "networks", "volumes")
    for name in ("docker.io", "docker-ce"):
        found["packages"]["value"].pop(name, None)
    cures = {one["cure"] for one in compare(found)["could_not_ask"]}
    assert cures == {f"{PLAYBOOK} playbooks/site.yml --limit app1 --tags docker"}


def test_a_key_is_compared_in_full() -> None:
    assert len({server.keyed(bytes([number]), KEY) for number in range(256)}) == 256


def test_a_service_of_a_chosen_profile_is_compared() -> None:
    """Compose prints no service of a profile that is off; one that it prints has to run."""
    found = answers()
    found["wanted"]["value"]["services"]["kafdrop"] = {
        **found["wanted"]["value"]["services"]["redis"],
        "profiles": ["debug"],
    }
    assert [one["id"] for one in compare(found)["findings"]] == ["containers:kafdrop#missing"]


def test_the_volumes_of_a_profile_that_is_off_are_kept(project_root: Any) -> None:
    stack = yaml.safe_load((project_root / "docker-compose.yaml").read_text())
    used = {
        volume.split(":")[0]
        for service in stack["services"].values()
        if service.get("profiles")
        for volume in service.get("volumes", [])
        if isinstance(volume, str) and volume.split(":")[0] in stack["volumes"]
    }
    assert used == PROFILE_VOLUMES
    found = answers()
    volumes = found["volumes"]["value"]
    volumes.append({**volumes[0], "name": "integr8scode_victoria_data"})
    assert compare(found)["findings"] == []
