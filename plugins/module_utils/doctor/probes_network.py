"""Looks out of a container's network, as the workers see it, without a program in the container. Read only.

The process enters the network of a running container (setns) and is gone afterwards; memory and files of the container
are not touched.
"""

from __future__ import annotations

import ctypes
import os
import re
import socket
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils.doctor import wire_dns
from ansible.module_utils.doctor.probes_machine import ProbeRefused
from ansible.module_utils.doctor.probes_services import NETWORK
from ansible.module_utils.kubernetes_access_client import KubeconfigError, read_kubeconfig

CLONE_NEWNET = 0x40000000  # linux/sched.h
WORKERS = ("k8s-worker", "pod-monitor")
INSIDE = {"mongo": 27017, "redis": 6379, "kafka": 29092, "backend": 443, "edge": 8404}
TIMEOUT = 3.0


def enter(pid: int) -> None:
    """Go into the network of a process, for good. Raises ProbeRefused."""
    try:
        with open(f"/proc/{pid}/ns/net", "rb") as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
                number = ctypes.get_errno()
                raise ProbeRefused(f"the network of a container cannot be entered: {os.strerror(number)}")
    except OSError as error:
        raise ProbeRefused(f"the network of a container cannot be entered: {error}") from error


def knock(address: str, port: int, timeout: float = TIMEOUT) -> str:
    """open, refused, timeout, or the error of a TCP connection."""
    try:
        socket.create_connection((address, port), timeout).close()
    except ConnectionRefusedError:
        return "refused"
    except TimeoutError:
        return "timeout"
    except OSError as error:
        return error.strerror or str(error)
    return "open"


def ask_api(kubeconfig: str, address: str) -> dict[str, Any]:
    """What the Kubernetes API says to a kubeconfig's token at an address: `status` (0: none) and `problem`."""
    try:
        told = read_kubeconfig(kubeconfig)
    except FileNotFoundError:
        return {"status": 0, "kind": "kubeconfig", "problem": f"{kubeconfig} is not there"}
    except KubeconfigError as error:
        return {"status": 0, "kind": "kubeconfig", "problem": str(error)}
    parts = urlsplit(told.server)
    try:
        context = ssl.create_default_context(cadata=told.ca)
        with (
            socket.create_connection((address, parts.port or 6443), TIMEOUT) as plain,
            context.wrap_socket(plain, server_hostname=parts.hostname) as secure,
        ):
            secure.settimeout(TIMEOUT)
            request = f"GET /version HTTP/1.0\r\nHost: {parts.hostname}\r\nAuthorization: Bearer {told.token}\r\n\r\n"
            secure.sendall(request.encode("ascii", "replace"))
            first = secure.recv(64).decode("ascii", "replace")
    except ssl.SSLError as error:
        return {"status": 0, "kind": "tls", "problem": getattr(error, "verify_message", "") or str(error)}
    except OSError as error:
        return {"status": 0, "kind": "network", "problem": str(error)}
    match = re.match(r"HTTP/1\.\d (\d{3})", first)
    return {"status": int(match[1]) if match else 0, "kind": "", "problem": "" if match else "no HTTP answer"}


def _port_of(kubeconfig: str) -> int:
    try:
        return urlsplit(read_kubeconfig(kubeconfig).server).port or 6443
    except (KubeconfigError, FileNotFoundError, ValueError):
        return 6443


def _lookups() -> dict[str, str]:
    """Each name of the stack: '' where Docker's DNS knows it, else why not."""
    found = {}
    for name in INSIDE:
        try:
            found[name] = "" if wire_dns.resolve(name) else "no address"
        except TimeoutError:
            found[name] = "no answer"
        except (OSError, ValueError) as error:
            found[name] = str(error)
    return found


def inside(docker: dict[str, Any], kubeconfigs: str) -> dict[str, Any]:
    """DNS, neighbours and the Kubernetes API as a container of the stack sees them. Raises ProbeRefused.

    `host` is what the API's port says on the server itself, `kubernetes` what it says from inside.
    """
    there = [one for one in docker["containers"] if one["pid"] and one["networks"].get(NETWORK)]
    there.sort(key=lambda one: (one["service"] not in WORKERS, one["service"]))
    if not there:
        raise ProbeRefused("no container of the stack runs to look from")
    chosen = there[0]
    gateway = chosen["host_gateway"] or docker["bridge_gateway"]
    paths = {worker: str(Path(kubeconfigs) / f"{worker}.yaml") for worker in WORKERS}
    port = _port_of(paths[WORKERS[0]])
    at_home = knock("127.0.0.1", port)
    addresses = {one["service"]: one["networks"][NETWORK] for one in there}
    enter(chosen["pid"])
    reached = knock(gateway, port) if gateway else "no address"
    return {
        "from": chosen["service"],
        "gateway": gateway,
        "bridge_gateway": docker["bridge_gateway"],
        "port": port,
        "host": at_home,
        "reached": reached,
        "kubernetes": {worker: ask_api(path, gateway) for worker, path in paths.items()} if reached == "open" else {},
        "dns": _lookups(),
        "neighbours": {
            name: knock(addresses[name], number, 2.0)
            for name, number in INSIDE.items()
            if name in addresses and name not in ("backend", "edge")
        },
    }


def firewalls(root: Path = Path("/")) -> list[str]:
    """Which firewalls are switched on here, as far as their own files tell: for a cure that fits."""
    found = []
    for name, path, pattern in (
        ("ufw", "etc/ufw/ufw.conf", r"(?m)^ENABLED=yes"),
        ("firewalld", "run/firewalld.pid", r"\d"),
        ("nftables", "etc/nftables.conf", r"(?m)^\s*policy drop|policy drop;"),
    ):
        try:
            if re.search(pattern, (root / path).read_text(encoding="utf-8", errors="replace")):
                found.append(name)
        except OSError:
            continue
    return found
