"""All of a server that a look or a check must leave as it is: files, packages, containers, API objects, rules."""

from __future__ import annotations

from typing import Any

FILES = "/etc /opt /usr /root /home /srv /boot /var/backups /var/lib/integr8scode /var/lib/dpkg /var/spool"
LIVE = "ns,sa,secrets,cm,roles,rolebindings,clusterroles,clusterrolebindings,netpol,pods,ds,deploy,crd,nodes"
SNAPSHOT = {
    # whatever is changed in an inode changes its ctime; Ansible's own folder in the login's home is the connection's,
    # and what it puts into root's for a moment changes that folder's times
    "inodes": (
        rf"find {FILES} -xdev -path '/home/*/.ansible' -prune"
        r" -o \( -regex '/home/[^/]+' -o -path /root/.ansible/tmp \) -printf '%p %y %m %U %G\n'"
        r" -o -printf '%p %y %m %U %G %s %C@ %l\n' 2>/dev/null | sort"
    ),
    "contents": "find /etc /opt/integr8scode /usr/local /root /home -xdev -type f -exec sha256sum {} + | sort -k 2",
    "containers": (
        "docker inspect --format '{{.Id}} {{.Name}} {{.Image}} {{.State.Pid}} {{.State.StartedAt}} {{.RestartCount}}' "
        "$(docker ps --all --quiet) | sort; docker images --all --no-trunc --quiet | sort; "
        "docker network ls --no-trunc --quiet | sort; docker volume ls --quiet | sort"
    ),
    "objects": (
        f"HOME=/run/snapshot-test k3s kubectl get --all-namespaces {LIVE} --no-headers --output custom-columns="
        "K:.kind,N:.metadata.namespace,M:.metadata.name,U:.metadata.uid,G:.metadata.generation,L:.metadata.labels "
        "| sort"
    ),
    "units": (
        "systemctl show --property=Id,ActiveState,NRestarts,MainPID,ActiveEnterTimestamp "
        "docker k3s ssh integr8scode integr8scode-backup.timer integr8scode-renew-kubeconfig.timer"
    ),
    "firewall": "iptables-save | grep -v '^[#:]' | sort",
    # systemd and runc make some of their own at any time
    "temporary": "ls -A /tmp /var/tmp /dev/shm | grep -v -e ^systemd-private- -e ^runc-process",
}


def snapshot(host: Any) -> dict[str, str]:
    """The server now; the answers of two moments are compared by `differences`."""
    return {name: host.run(command).stdout for name, command in SNAPSHOT.items()}


def differences(before: dict[str, str], after: dict[str, str]) -> dict[str, list[str]]:
    """Lines that only one of two moments has, by what they tell of."""
    found = {name: sorted(set(before[name].splitlines()) ^ set(after[name].splitlines())) for name in before}
    return {name: lines for name, lines in found.items() if lines}
