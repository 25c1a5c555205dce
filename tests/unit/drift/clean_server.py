"""A server on which everything is as expected, as the questions of drift_facts would be answered; and what is expected.

What Compose says of the release was recorded (Compose 2.26.1); what the engine says is made from that, in the engine's
own words, and goes through the code that reads them.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from ansible.module_utils.drift import containers as containers_module
from ansible.module_utils.drift import network
from ansible.module_utils.drift.collect import Comparer, complete
from ansible.module_utils.drift.reading import keyed
from ansible.module_utils.drift.release import digest_of
from ansible.module_utils.drift.users import fingerprint
from ansible.module_utils.drift.wanted import size, undollar
from ansible.module_utils.kubernetes_access_plan import projection, title
from ansible.module_utils.release_secrets import own_list

KEY = b"k" * 32
NOW = 1_800_000_000.0
DAY = 86400.0
RECORDED = Path(__file__).parent / "recorded"
TAG = "2026.2.20"
RELEASE = f"{TAG}-0123456789ab"
BASE = "/opt/integr8scode"
IMAGE_ENVIRONMENT = ["PATH=/usr/bin:/bin"]
UNIT = "[Unit]\nDescription=k3s\n[Service]\nExecStart=/usr/local/bin/k3s server\n"
EDGE = "global\n    maxconn 1000\nfrontend api\n    bind :443\n"
CONFIG = 'PROJECT_NAME = "integr8scode"\nLOG_LEVEL = "INFO"\n'
CONFIG_PATH = f"{BASE}/files/{digest_of('config.toml', CONFIG)}/config.toml"
WORKERS = ("k8s-worker", "pod-monitor")


def compose() -> dict[str, Any]:
    """The release as Compose has printed it."""
    found: dict[str, Any] = json.loads((RECORDED / "compose-config.json").read_text(encoding="utf-8"))
    return found


def inspected(name: str, service: dict[str, Any], project: dict[str, Any]) -> dict[str, Any]:
    """What the engine says of a container that Compose has made of a service."""
    service = undollar(service)
    mounts = [
        {
            "Type": one["type"],
            "Name": project["volumes"][one["source"]]["name"] if one["type"] == "volume" else "",
            "Source": one["source"] if one["type"] == "bind" else f"/var/lib/docker/volumes/{one['source']}/_data",
            "Destination": one["target"],
            "RW": not one.get("read_only"),
        }
        for one in service.get("volumes", [])
    ]
    bindings: dict[str, list[dict[str, str]]] = {}
    for one in service.get("ports", []):
        bindings.setdefault(f"{one['target']}/{one['protocol']}", []).append(
            {"HostIp": one.get("host_ip", ""), "HostPort": one["published"]}
        )
    grace = {"1m0s": 60, "40s": 40, "20s": 20, "10s": 10}.get(service.get("stop_grace_period", ""))
    return {
        "Id": keyed(name.encode(), b"id"),
        "Name": f"/integr8scode-{name}-1",
        "Image": "sha256:" + "1" * 64,
        "RestartCount": 0,
        "State": {
            "Status": "running",
            "Paused": False,
            "ExitCode": 0,
            "OOMKilled": False,
            "Pid": 0,
            "StartedAt": "2026-02-20T10:00:00.5Z",
            **({"Health": {"Status": "healthy"}} if service.get("healthcheck") else {}),
        },
        "Config": {
            "Image": service["image"],
            "Cmd": service["command"] or ["image-default"],
            "Entrypoint": service["entrypoint"],
            "User": service.get("user", ""),
            "Env": [*IMAGE_ENVIRONMENT, *(f"{k}={v}" for k, v in service.get("environment", {}).items())],
            "Labels": {
                "com.docker.compose.project": "integr8scode",
                "com.docker.compose.service": name,
                "com.docker.compose.oneoff": "False",
            },
            "StopTimeout": grace,
            **({"Healthcheck": {"Test": service["healthcheck"]["test"]}} if service.get("healthcheck") else {}),
        },
        "HostConfig": {
            "Memory": size(service["mem_limit"]),
            "NanoCpus": 0,
            "RestartPolicy": {"Name": service["restart"]},
            "PortBindings": bindings,
            "SecurityOpt": service["security_opt"],
            "Privileged": False,
            # the engine's own spelling, or what it was given: both were seen
            "CapAdd": [f"CAP_{one}" for one in service["cap_add"]] if "cap_add" in service else None,
            "CapDrop": service["cap_drop"],
            "ReadonlyRootfs": service.get("read_only", False),
            "Tmpfs": dict(one.split(":", 1) for one in service.get("tmpfs", [])) or None,
            "PidsLimit": service["pids_limit"],
            "ExtraHosts": [one.replace("=", ":") for one in service.get("extra_hosts", [])],
            "LogConfig": {"Type": "json-file", "Config": service["logging"]["options"]},
            "Ulimits": [
                {"Name": limit, "Soft": one["soft"], "Hard": one["hard"]}
                for limit, one in service.get("ulimits", {}).items()
            ],
        },
        "Mounts": mounts,
        "NetworkSettings": {
            "Networks": {
                project["networks"][network_name]["name"]: {
                    "IPAMConfig": {"IPv4Address": one["ipv4_address"]} if one else None
                }
                for network_name, one in service["networks"].items()
            }
        },
    }


def container(name: str, change: Any = None) -> dict[str, Any]:
    """A container as the module describes it, after `change` was done to what the engine says."""
    project = compose()
    one = inspected(name, project["services"][name], project)
    if change is not None:
        change(one)
    image = {
        "Config": {"Cmd": ["image-default"], "Entrypoint": None, "User": "", "Env": IMAGE_ENVIRONMENT, "Volumes": {}}
    }
    return containers_module.describe_container(one, image, KEY)


def definitions() -> list[dict[str, Any]]:
    """Some of the role kubernetes_access' objects."""
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "integr8scode", "labels": {"a": "b"}}},
        *(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": "integr8scode"}}
            for name in WORKERS
        ),
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": "k8s-worker", "namespace": "integr8scode"},
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["create", "delete"]}],
        },
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "executor-deny-all", "namespace": "integr8scode"},
            "spec": {"podSelector": {"matchLabels": {"app": "integr8s"}}, "policyTypes": ["Ingress", "Egress"]},
        },
    ]


OPS_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGYWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXoxMjM0NTY3 ops@control"
SECRETS = {
    "secrets.toml": ("0", "SECRET_KEY = 'the-secret-key-of-the-test'\n"),
    "mongo_root_password": ("999", "the-mongo-password-of-the-test"),
}


def expected() -> dict[str, Any]:
    """What role drift says for this server."""
    return complete(
        {
            "host": "app1",
            "inventory": ["inventories/production"],
            "base": BASE,
            "server": {"min_memory_mb": 7000},
            "clock": {"controller_time": NOW - 1, "clock_max_seconds": 60},
            "disk": {"paths": ["/"], "min_free_mb": 2000, "min_free_percent": 5, "min_free_inodes_percent": 5},
            "owned": {
                "files": [
                    {
                        "path": "/etc/systemd/system/k3s.service",
                        "content": UNIT,
                        "mode": "0644",
                        "owner": 0,
                        "group": 0,
                        "role": "k3s",
                    },
                    {
                        "path": "/etc/rancher/k3s/token",
                        "digest": keyed(b"token\n", KEY),
                        "secret": True,
                        "mode": "0600",
                        "owner": 0,
                        "group": 0,
                        "role": "k3s",
                    },
                    {"path": "/etc/integr8scode/backup-copy.key", "absent": True, "role": "backup"},
                ],
                "folders": [{"path": "/etc/rancher/k3s", "known": ["k3s.yaml"], "owner": 0, "group": 0, "role": "k3s"}],
                "units": [
                    {"name": "docker.service", "enabled": True, "active": True, "role": "docker"},
                    {
                        "name": "k3s.service",
                        "enabled": True,
                        "active": True,
                        "role": "k3s",
                        "file": "/etc/systemd/system/k3s.service",
                        "recovered_by": "recover-k3s",
                    },
                    {"name": "integr8scode-backup.timer", "enabled": True, "active": True, "role": "backup"},
                    {
                        "name": "integr8scode-backup.service",
                        "active": False,
                        "role": "backup",
                        "recovered_by": "backup",
                    },
                ],
                "packages": [{"name": "python3-cryptography", "role": "maintenance"}],
            },
            "kernel": {
                "modules": ["br_netfilter"],
                "sysctls": {"net.ipv4.ip_forward": 1, "fs.inotify.max_user_watches": 524288},
            },
            "users": {
                "compared": True,
                "name": "ops",
                "keys": [OPS_KEY],
                "known": [],
                "sshd": {"permitrootlogin": "no", "passwordauthentication": "no"},
            },
            "firewall": {"known": []},
            "ports": {"units": ["ssh.service", "k3s.service"], "known": [], "must": {}},
            "addresses": {"node_ip": ""},
            "docker": {
                "daemon": {
                    "log_max_size": "10m",
                    "log_max_file": 3,
                    "address_pools": [{"base": "172.24.0.0/14", "size": 24}],
                    "bridge_address": "",
                    "live_restore": True,
                    "registry_mirrors": [],
                    "default_ulimits": {},
                    "options": {},
                },
                "proxies": {"http-proxy": "", "https-proxy": "", "no-proxy": ""},
                "source": "distribution",
                "vendor": {"url": "https://download.docker.com/linux", "key_fingerprint": "A" * 40, "versions": {}},
                "registry_ca_certificates": {},
                "engine_min_version": "25.0",
                "compose_min_version": "2.26.0",
            },
            "containers": {"known": []},
            "release": {
                "compose": "name: integr8scode\n",
                "edge_config": EDGE,
                "environment": {"HTTPS_PORT": "443"},
                "secrets": f"{BASE}/secrets/current.yaml",
                "secret_services": ["backend"],
                "files": [{"name": "config.toml", "variable": "CONFIG_TOML", "content": CONFIG}],
            },
            "secrets": {
                "directory": f"{BASE}/secrets",
                "seeded_by": "",
                "files": [
                    {
                        "name": name,
                        "owner": int(owner),
                        "mode": "0400",
                        "digest": keyed(content.encode(), KEY),
                        "services": [{"service": "backend", "target": f"/run/{name}"}],
                    }
                    for name, (owner, content) in SECRETS.items()
                ],
            },
            "certificates": {
                "authority": f"{BASE}/tls/ca/ca.crt",
                "certificates": [
                    {
                        "name": "public",
                        "directory": f"{BASE}/tls/public",
                        "names": ["app1.example.org"],
                        "owner": 99,
                        "with_ca": True,
                        "provided": False,
                    }
                ],
            },
            "kubeconfigs": {
                "workers": list(WORKERS),
                "directory": f"{BASE}/kubeconfig",
                "server": "https://host.docker.internal:6443",
                "namespace": "integr8scode",
                "owner": 0,
                "lifetime": 30 * 86400,
                "admin_kubeconfig": "/etc/rancher/k3s/k3s.yaml",
            },
            "cluster": {
                "version": "v1.34.4+k3s1",
                "node_name": "",
                "node_ip": "",
                "definitions": definitions(),
                "namespace": "integr8scode",
                "admin_kubeconfig": "/etc/rancher/k3s/k3s.yaml",
                "known_namespaces": [],
            },
            "k3s_certificates": {"restart_days": 30, "authority_days": 180},
            "backup": {"directory": "/var/backups/integr8scode", "encrypted": False, "max_age_hours": 50},
            "registry": {"host": "ghcr.io", "images": "ghcr.io/hardmax71/integr8scode", "username": "ops"},
        },
        'ID=debian\nVERSION_ID="13"\n',
    )


def file(mode: str, owner: int = 0, kind: str = "file", **more: Any) -> dict[str, Any]:
    return {
        "kind": kind,
        "mode": mode,
        "owner": owner,
        "group": 0,
        "size": 10,
        "changed": NOW - DAY,
        "target": "",
        **more,
    }


def unit(state: str = "active", sub: str = "running", enabled: str = "enabled", **more: str) -> dict[str, str]:
    return {
        "LoadState": "loaded",
        "ActiveState": state,
        "SubState": sub,
        "UnitFileState": enabled,
        "FragmentPath": "",
        "DropInPaths": "",
        "NeedDaemonReload": "no",
        "Result": "success",
        **more,
    }


def answers() -> dict[str, Any]:
    """Every question answered as on a server where all is well."""
    project = compose()
    wanted = expected()
    bundle = project["services"]
    images = {name: one["image"] for name, one in bundle.items()}
    environment = {
        "COMPOSE_PROJECT_NAME": "integr8scode",
        "COMPOSE_FILE": ":".join(
            f"{BASE}/releases/{RELEASE}/{name}" for name in ("docker-compose.yaml", "digests.yaml", "secrets.yaml")
        ),
        "HTTPS_PORT": "443",
        "CONFIG_TOML": CONFIG_PATH,
        "IMAGE_TAG": TAG,
    }
    recorded = {
        reference.partition("@")[0]: reference.partition("@")[2]
        for reference in images.values()
        if reference.startswith("ghcr.io/hardmax71/integr8scode/")
    }
    published = [
        (port[0], port[1])
        for one in project["services"].values()
        for port in [(p.get("host_ip", ""), int(p["published"])) for p in one.get("ports", [])]
    ]
    listeners = [
        {
            "address": address or "0.0.0.0",
            "port": port,
            "inode": "1",
            "program": "docker-proxy",
            "unit": "docker.service",
        }
        for address, port in published
    ] + [
        {"address": "0.0.0.0", "port": 22, "inode": "2", "program": "sshd", "unit": "ssh.service"},
        {"address": "::", "port": 6443, "inode": "3", "program": "k3s-server", "unit": "k3s.service"},
        {"address": "127.0.0.1", "port": 3333, "inode": "4", "program": "anything", "unit": ""},
    ]
    values: dict[str, Any] = {
        "server": {
            "memory_total_mb": 8000,
            "memory_available_mb": 3000,
            "reboot_required": False,
            "k3s_restart_pending": False,
            "docker_pending": "",
            "hostname": "app1",
        },
        "clock": {"time": NOW, "synchronised": True, "container": False},
        "disk": [
            {"path": "/", "free_bytes": 50 << 30, "free_percent": 50.0, "free_inodes_percent": 80.0, "read_only": False}
        ],
        "addresses": {"addresses": ["172.17.0.1", "192.0.2.10"], "default_route": True, "node_ip": ""},
        "files": {
            "entries": {
                "/etc/systemd/system/k3s.service": file("0644", digest=keyed(UNIT.encode(), KEY)),
                "/etc/rancher/k3s/token": file("0600", digest=keyed(b"token\n", KEY)),
                "/etc/integr8scode/backup-copy.key": {"kind": "missing"},
                "/etc/docker/daemon.json": file("0600"),
            },
            "folders": {"/etc/rancher/k3s": file("0755", kind="directory")},
            "listings": {"/etc/rancher/k3s": ["k3s.yaml", "token"]},
        },
        "packages": {
            "docker.io": {"version": "26.1.5+dfsg1-9+b11", "want": "install"},
            "docker-cli": {"version": "26.1.5+dfsg1-9+b11", "want": "install"},
            "docker-compose": {"version": "2.26.1-4", "want": "install"},
            "docker-compose-v2": {"version": "2.26.1-4", "want": "install"},
            **{
                one["name"]: {"version": "1.0", "want": "install"}
                for one in wanted["packages"]["packages"]
                if not one["name"].startswith("docker")
            },
        },
        "units": {
            "docker.service": unit(),
            "k3s.service": unit(FragmentPath="/etc/systemd/system/k3s.service"),
            "integr8scode-backup.timer": unit(sub="waiting"),
            "integr8scode-backup.service": unit("inactive", "dead", "static"),
        },
        "kernel": {
            "container": False,
            "release": "6.12",
            "modules": {"br_netfilter": True},
            "settings": {"net.ipv4.ip_forward": "1", "fs.inotify.max_user_watches": "524288"},
        },
        "users": {
            "accounts": [
                {
                    "name": "root",
                    "uid": 0,
                    "home": "/root",
                    "shell": "/bin/bash",
                    "password": False,
                    "empty_password": False,
                },
                {
                    "name": "ops",
                    "uid": 1000,
                    "home": "/home/ops",
                    "shell": "/bin/bash",
                    "password": False,
                    "empty_password": False,
                },
            ],
            "keys": {
                "ops": [
                    {
                        "fingerprint": fingerprint(OPS_KEY),
                        "comment": "ops@control",
                        "path": "/home/ops/.ssh/authorized_keys",
                    }
                ]
            },
            "groups": {"sudo": [], "docker": []},
            "sshd": {"permitrootlogin": "no", "passwordauthentication": "no"},
            "sshd_problem": "",
        },
        "firewall": {
            "rules": {
                "IPv4": {
                    "unknown": network.unknown_rules((RECORDED / "iptables-save.txt").read_text(encoding="utf-8")),
                    "docker_user": True,
                }
            },
            "tables": ["ip filter", "ip nat", "ip6 filter"],
        },
        "ports": listeners,
        "settings": {
            "config": {
                "log-driver": "json-file",
                "log-opts": {"max-size": "10m", "max-file": "3"},
                "live-restore": True,
                "registry-mirrors": [],
                "default-address-pools": [{"base": "172.24.0.0/14", "size": 24}],
                "bip": "172.17.0.1/16",
            }
        },
        "engine": {
            "version": "26.1.5+dfsg1",
            "root": "/var/lib/docker",
            "live_restore": True,
            "log_driver": "json-file",
            "mirrors": [],
        },
        "containers": {"containers": [container(name) for name in project["services"]], "hung": {}},
        "networks": [
            {
                "name": one["name"],
                "project": "integr8scode",
                "driver": "bridge",
                "internal": bool(one.get("internal")),
                "subnets": [c["subnet"] for c in one["ipam"]["config"]],
                "ranges": [c["ip_range"] for c in one["ipam"]["config"] if "ip_range" in c],
                "options": dict(one["driver_opts"]),
            }
            for one in project["networks"].values()
        ]
        + [
            {
                "name": "bridge",
                "project": "",
                "driver": "bridge",
                "internal": False,
                "subnets": [],
                "ranges": [],
                "options": {},
            }
        ],
        "volumes": [
            {"name": one["name"], "project": "integr8scode", "driver": "local", "options": {}}
            for one in project["volumes"].values()
        ],
        "wanted": project,
        "release": {
            "link": file("0777", kind="link", target=f"releases/{RELEASE}"),
            "record": {
                "id": RELEASE,
                "tag": TAG,
                "images": images,
                "digests": recorded,
                "files": {"config.toml": CONFIG_PATH},
                "created_at": "2026-02-20T10:00:00+00:00",
                "by": "ops@control",
            },
            "texts": {
                "docker-compose.yaml": "name: integr8scode\n",
                "digests.yaml": json.dumps({"services": {name: {"image": image} for name, image in images.items()}}),
                "secrets.yaml": own_list(["backend"], f"{BASE}/secrets/current.yaml"),
                ".env": "".join(f"{name}={value}\n" for name, value in environment.items()),
                "haproxy.cfg": EDGE,
            },
            "files": {"config.toml": {"path": CONFIG_PATH, "text": CONFIG, "untouched": True}},
            "access": {
                f"{BASE}/releases/{RELEASE}/release.json": file("0640"),
                f"{BASE}/releases/{RELEASE}/.env": file("0644"),
                CONFIG_PATH: file("0644"),
            },
            "id": RELEASE,
            "path": f"{BASE}/releases/{RELEASE}",
            "others": {RELEASE: True},
            "folders": [],
            "edge": EDGE,
            "last": {"action": "deploy", "result": "ok"},
            "lock": None,
        },
        "secrets": {
            "files": {
                f"{BASE}/secrets/{'0' * 15}{number}/{name}": {
                    "readers": [f"backend:/run/{name}"],
                    "digest": keyed(content.encode(), KEY),
                    "access": file("0400", int(owner)),
                }
                for number, (name, (owner, content)) in enumerate(SECRETS.items())
            },
            "folders": ["0" * 15 + "0", "0" * 15 + "1"],
            "seeded": "",
        },
        "certificates": {
            "authority": {"path": f"{BASE}/tls/ca/ca.crt", "ends": NOW + 3000 * DAY},
            "services": {
                "public": {
                    "access": {
                        f"{BASE}/tls/public": file("0755", kind="directory"),
                        **{f"{BASE}/tls/public/{name}": file("0444", 99) for name in ("server.crt", "ca.crt")},
                        f"{BASE}/tls/public/server.key": file("0400", 99),
                    },
                    "problem": "",
                    "begins": NOW - 10 * DAY,
                    "ends": NOW + 355 * DAY,
                    "names": ["app1.example.org"],
                    "fits": True,
                    "own_authority": True,
                    "fingerprint": "aa",
                }
            },
        },
        "k3s_binary": {"version": "v1.34.4+k3s1"},
        "k3s_certificates": [
            {
                "path": "/var/lib/rancher/k3s/server/tls/serving-kube-apiserver.crt",
                "authority": False,
                "ends": NOW + 300 * DAY,
            },
            {"path": "/var/lib/rancher/k3s/server/tls/server-ca.crt", "authority": True, "ends": NOW + 3000 * DAY},
        ],
        "kubeconfigs": {
            "ca": "one",
            "workers": {
                worker: {
                    "path": f"{BASE}/kubeconfig/{worker}.yaml",
                    "access": file("0400"),
                    "problem": "",
                    "server": "https://host.docker.internal:6443",
                    "account": f"integr8scode/{worker}",
                    "begins": NOW - 5 * DAY,
                    "ends": NOW + 25 * DAY,
                    "uid": f"uid-{worker}",
                    "ca": "one",
                }
                for worker in WORKERS
            },
        },
        "cluster": {
            "version": "v1.34.4+k3s1",
            "nodes": [
                {
                    "name": "app1",
                    "version": "v1.34.4+k3s1",
                    "ready": "True",
                    "pressure": [],
                    "internal_ips": ["192.0.2.10"],
                    "labels": {"kubernetes.io/hostname": "app1"},
                    "unschedulable": False,
                    "taints": [],
                }
            ],
            "namespaces": ["default", "kube-system", "kube-public", "kube-node-lease", "integr8scode"],
            "objects": {title(one): projection(one, one) for one in definitions()},
            "uids": {worker: f"uid-{worker}" for worker in WORKERS},
            "inside": {
                "ServiceAccount": ["default", *WORKERS],
                "Role": ["k8s-worker"],
                "RoleBinding": [],
                "NetworkPolicy": ["executor-deny-all"],
            },
            "foreign": [],
            "admins": ["cluster-admin", "helm-kube-system-traefik"],
        },
        "backups": {
            "newest": {
                "k3s": {"created": NOW - 3600, "encrypted": False},
                "application": {"created": NOW - 3600, "encrypted": False},
            },
            "states": {
                "backup": {"result": "ok", "at": "", "last_success": ""},
                "renew-kubeconfig": {"result": "ok", "at": "", "last_success": ""},
            },
            "timer_since": NOW - 100 * DAY,
        },
        "registry": {
            "refused": False,
            "digests": dict(recorded),
            "tags": [TAG, "latest", "sha-0123456"],
            "recorded": recorded,
        },
    }
    return {name: {"value": copy.deepcopy(value), "why": "", "seconds": 0.1} for name, value in values.items()}


def compare(
    found: dict[str, Any], wanted: dict[str, Any] | None = None, seen: dict[str, Any] | None = None
) -> dict[str, Any]:
    """What the comparison says."""
    return Comparer(wanted or expected(), found, seen or {}, KEY).everything().as_dict()
