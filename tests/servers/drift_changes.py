"""What people do to a server by hand: each change with what the drift report must call it, and how it is undone.

`HOST` stands for the server's name, `BASE` for the application's folder.
"""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

BASE = "/opt/integr8scode"
UNITS = "/etc/systemd/system"

HELPERS = r"""
c() { docker ps --all --quiet --filter label=com.docker.compose.project=integr8scode \
        --filter "label=com.docker.compose.service=$1"; }
wait_for() { for _ in $(seq 120); do test "$(docker inspect -f '{{.State.Health.Status}}' $(c $1))" = $2 && return
             sleep 1; done; echo "$1 is not $2"; return 1; }
kubectl() { k3s kubectl "$@"; }
put() { cat > /run/drift-test.new && cat /run/drift-test.new > "$1" && rm /run/drift-test.new; }
"""


@dataclass(frozen=True)
class Change:
    """One change.

    Attributes:
        name: for people.
        finds: the ids that the report must have because of it, and no others.
        do: what makes it, for bash; empty where the change before it makes this one, too.
        by_hand: what undoes it, for bash, where the report names a manual step; empty where it names a playbook.
    """

    name: str
    finds: tuple[str, ...]
    do: str = ""
    by_hand: str = ""


def _change(name: str, do: str, *finds: str, by_hand: str = "") -> Change:
    return Change(name, finds, do, by_hand)


def expected(changes: Iterable[Change], host: str) -> dict[str, bool]:
    """The ids that a report must have, each with whether its cure is a manual step."""
    return {
        one.replace("HOST", host).replace("BASE", BASE): bool(change.by_hand)
        for change in changes
        for one in change.finds
    }


def run(host: Any, steps: Iterable[tuple[str, str]], name: str) -> None:
    """Run steps (name, bash) on a server, one after the other in one login; fail with those that fail."""
    script = []
    for step, do in steps:
        command = shlex.quote(HELPERS + do.replace("HOST", name).replace("BASE", BASE))
        script.append(
            f"bash -ec {command} </dev/null >/run/drift-test.log 2>&1 || "
            f"{{ echo {shlex.quote(f'--- {step}')}; tail -n 5 /run/drift-test.log; }}"
        )
    failed = host.run("\n".join([*script, "rm -f /run/drift-test.log"]))
    assert failed.rc == 0, failed.stderr
    assert not failed.stdout.strip(), failed.stdout


_BLOB = base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0 " + bytes(range(32)))
_PRINT = base64.b64encode(hashlib.sha256(base64.b64decode(_BLOB)).digest()).decode().rstrip("=")
_KEY_LINE = f"ssh-ed25519 {_BLOB.decode()} stranger"

SYSTEM = (
    # -- files
    _change(
        "k3s' settings edited",
        "echo 'debug: true' >> /etc/rancher/k3s/config.yaml",
        "files:/etc/rancher/k3s/config.yaml#content",
    ),
    _change("a token open to all", "chmod 644 /etc/rancher/k3s/token", "files:/etc/rancher/k3s/token#mode"),
    _change(
        "a setting owned by nobody",
        "chown nobody /etc/integr8scode/maintenance.d/backup.json",
        "files:/etc/integr8scode/maintenance.d/backup.json#owner",
    ),
    _change("another group", "chgrp nogroup /etc/sysctl.d/90-k3s.conf", "files:/etc/sysctl.d/90-k3s.conf#group"),
    _change(
        "a folder open to all",
        "chmod 755 /etc/integr8scode/maintenance.d",
        "files:/etc/integr8scode/maintenance.d#mode",
    ),
    _change(
        "a file replaced by a link",
        "mv /etc/modules-load.d/k3s.conf /root/k3s.conf; ln -s /root/k3s.conf /etc/modules-load.d/k3s.conf",
        "files:/etc/modules-load.d/k3s.conf#kind",
        by_hand="rm /etc/modules-load.d/k3s.conf /root/k3s.conf",
    ),
    _change(
        "an unknown file",
        "touch /etc/rancher/k3s/notes",
        "files:/etc/rancher/k3s/notes#unknown",
        by_hand="rm /etc/rancher/k3s/notes",
    ),
    _change(
        "an unknown file beside secrets",
        "touch BASE/secrets/notes",
        "files:BASE/secrets/notes#unknown",
        by_hand="rm BASE/secrets/notes",
    ),
    _change(
        "Docker's CA edited",
        "echo >> /etc/docker/certs.d/registry.lab.test/ca.crt",
        "files:/etc/docker/certs.d/registry.lab.test/ca.crt#content",
    ),
    _change("daemon.json open to all", "chmod 644 /etc/docker/daemon.json", "files:/etc/docker/daemon.json#mode"),
    _change(
        "other settings of Docker",
        r"""sed -i 's/"max-file": "3"/"max-file": "9"/' /etc/docker/daemon.json""",
        "docker:/etc/docker/daemon.json#log-opts",
    ),
    # -- packages
    _change("a package removed", "dpkg --remove python3-docker", "packages:python3-docker#missing"),
    _change(
        "a package that takes Docker's place",
        "d=$(mktemp -d); mkdir $d/DEBIAN; printf 'Package: docker-compose-plugin\\nVersion: 1.0\\nArchitecture: all\\n"
        "Maintainer: nobody <nobody@example.org>\\nDescription: a stranger\\n' > $d/DEBIAN/control; "
        "dpkg-deb --build $d $d.deb; dpkg --install $d.deb; rm -r $d $d.deb",
        "packages:docker-compose-plugin#unknown",
        by_hand="apt-get remove -y docker-compose-plugin",
    ),
    # -- jobs
    _change(
        "a job's settings removed, so that it fails",
        "rm /etc/integr8scode/maintenance.d/renew-kubeconfig.json; "
        "! systemctl start integr8scode-renew-kubeconfig.service",
        "files:/etc/integr8scode/maintenance.d/renew-kubeconfig.json#missing",
        "units:integr8scode-renew-kubeconfig.service#result",
        "backup:job renew-kubeconfig#result",
    ),
    _change(
        "a program edited",
        "echo '# more' >> /usr/local/sbin/integr8scode-maintenance",
        "files:/usr/local/sbin/integr8scode-maintenance#content",
    ),
    _change(
        "no backups",
        f"rm -rf /var/backups/integr8scode/k3s-* /var/backups/integr8scode/application-*; "
        f"touch -d '10 days ago' {UNITS}/integr8scode-backup.timer",
        "backup:k3s#missing",
        "backup:application#missing",
    ),
    # -- accounts
    _change(
        "an account",
        "useradd --create-home --shell /bin/bash mallory",
        "users:mallory#unknown",
        by_hand="userdel --remove mallory",
    ),
    _change(
        "an empty password", "usermod --password '' mallory", "users:mallory#password", by_hand="passwd --lock mallory"
    ),
    _change(
        "a member of group docker",
        "gpasswd --add mallory docker",
        "users:group docker: mallory#unknown",
        by_hand="gpasswd --delete mallory docker",
    ),
    _change(
        "a second root",
        "useradd --non-unique --uid 0 --no-create-home --shell /bin/bash toor",
        "users:toor#root's number",
        by_hand="userdel --force toor",
    ),
    _change(
        "a key",
        f"cp -p ~ops/.ssh/authorized_keys /root/keys; echo '{_KEY_LINE}' >> ~ops/.ssh/authorized_keys",
        f"users:ops: key SHA256:{_PRINT}#unknown",
        by_hand="cat /root/keys > ~ops/.ssh/authorized_keys; rm /root/keys",
    ),
    _change("sudo's rules edited", "echo '# more' >> /etc/sudoers.d/ops", "files:/etc/sudoers.d/ops#content"),
    _change(
        "another rule of sudo",
        "echo 'mallory ALL=(ALL) ALL' > /etc/sudoers.d/mallory; chmod 440 /etc/sudoers.d/mallory",
        "files:/etc/sudoers.d/mallory#unknown",
        by_hand="rm /etc/sudoers.d/mallory",
    ),
    _change(
        "sshd lets passwords in",
        "echo 'PasswordAuthentication yes' > /etc/ssh/sshd_config.d/05-more.conf",
        "users:sshd passwordauthentication#setting",
        by_hand="rm /etc/ssh/sshd_config.d/05-more.conf",
    ),
    _change(
        "sshd's settings open to all",
        "chmod 644 /etc/ssh/sshd_config.d/10-ops-user.conf",
        "files:/etc/ssh/sshd_config.d/10-ops-user.conf#mode",
    ),
    # -- network and disk
    _change(
        "a firewall rule",
        "iptables -A INPUT -p tcp --dport 9999 -j DROP",
        "firewall:IPv4 filter: -A INPUT -p tcp -m tcp --dport 9999 -j DROP#unknown",
        by_hand="iptables -D INPUT -p tcp --dport 9999 -j DROP",
    ),
    _change(
        "somebody listens",
        "systemd-run --unit=stranger python3 -m http.server 8099",
        "ports:port 8099#unknown",
        by_hand="systemctl stop stranger.service",
    ),
    _change(
        "a full disk",
        "mount -t tmpfs -o size=64k,nr_inodes=8 tmpfs /var/log; "
        "for n in $(seq 8); do touch /var/log/$n || true; done; ! head -c 1M /dev/zero > /var/log/1",
        "disk:/var/log#room",
        "disk:/var/log#inodes",
        by_hand="umount --lazy /var/log",
    ),
    # -- the cluster
    _change(
        "a namespace",
        "kubectl create namespace stranger",
        "kubernetes:Namespace stranger#unknown",
        by_hand="kubectl delete namespace stranger",
    ),
    _change(
        "a role that may more",
        "kubectl -n integr8scode patch role k8s-worker --type=json "
        """-p '[{"op": "add", "path": "/rules/0/verbs/-", "value": "delete"}]'""",
        "kubernetes:Role integr8scode/k8s-worker#content",
    ),
    _change(
        "a binding removed",
        "kubectl -n integr8scode delete rolebinding pod-monitor",
        "kubernetes:RoleBinding integr8scode/pod-monitor#missing",
    ),
    _change(
        "a network policy removed",
        "kubectl -n integr8scode delete networkpolicy executor-deny-all",
        "kubernetes:NetworkPolicy integr8scode/executor-deny-all#missing",
    ),
    _change(
        "another standard of pods",
        "kubectl label namespace integr8scode --overwrite pod-security.kubernetes.io/enforce=privileged",
        "kubernetes:Namespace integr8scode#content",
    ),
    _change(
        "an account in the namespace",
        "kubectl -n integr8scode create serviceaccount stranger",
        "kubernetes:ServiceAccount integr8scode/stranger#unknown",
        by_hand="kubectl -n integr8scode delete serviceaccount stranger",
    ),
    _change(
        "a worker that reads another namespace",
        "kubectl -n default create rolebinding stranger --clusterrole=view --serviceaccount=integr8scode:k8s-worker",
        "kubernetes:RoleBinding default/stranger#grants",
        by_hand="kubectl -n default delete rolebinding stranger",
    ),
    _change(
        "an administrator",
        "kubectl create clusterrolebinding stranger --clusterrole=cluster-admin --user=mallory",
        "kubernetes:ClusterRoleBinding stranger#unknown",
        by_hand="kubectl delete clusterrolebinding stranger",
    ),
    _change("a cordoned Node", "kubectl cordon HOST", "k3s:Node HOST#schedulable", by_hand="kubectl uncordon HOST"),
    _change(
        "a taint",
        "kubectl taint node HOST stranger=1:PreferNoSchedule",
        "k3s:Node HOST#taint stranger:PreferNoSchedule",
        by_hand="kubectl taint node HOST stranger:PreferNoSchedule-",
    ),
    _change(
        "a label of the Node",
        "kubectl label node HOST --overwrite kubernetes.io/hostname=stranger",
        "k3s:Node HOST#label kubernetes.io/hostname",
        by_hand="kubectl label node HOST --overwrite kubernetes.io/hostname=HOST",
    ),
    _change(
        "a token that ends soon",
        "t=$(kubectl -n integr8scode create token k8s-worker --duration=10m); "
        'sed "s/eyJ[A-Za-z0-9._-]*/$t/" BASE/kubeconfig/k8s-worker.yaml | put BASE/kubeconfig/k8s-worker.yaml',
        "expiry:BASE/kubeconfig/k8s-worker.yaml#end",
    ),
    _change(
        "a kubeconfig open to all",
        "chmod 444 BASE/kubeconfig/k8s-worker.yaml",
        "files:BASE/kubeconfig/k8s-worker.yaml#mode",
    ),
    _change(
        "a kubeconfig for another server",
        "f=BASE/kubeconfig/pod-monitor.yaml; sed s#//host.docker.internal#//192.0.2.1# $f | put $f",
        "expiry:BASE/kubeconfig/pod-monitor.yaml#server",
    ),
    # -- units, last: what asks systemd to enable something has it read all files again
    _change("a unit not enabled", "systemctl disable docker.service", "units:docker.service#enabled"),
    _change(
        "a timer not enabled",
        "systemctl disable integr8scode-renew-kubeconfig.timer",
        "units:integr8scode-renew-kubeconfig.timer#enabled",
    ),
    _change("a timer stopped", "systemctl stop integr8scode-backup.timer", "units:integr8scode-backup.timer#active"),
    _change(
        "a timer for another time",
        f"sed -i s/OnCalendar=.*/OnCalendar=yearly/ {UNITS}/integr8scode-renew-kubeconfig.timer",
        f"files:{UNITS}/integr8scode-renew-kubeconfig.timer#content",
    ),
    _change(
        "a drop-in",
        f"mkdir -p {UNITS}/docker.service.d; "
        f"printf '[Unit]\\nDocumentation=https://example.org\\n' > {UNITS}/docker.service.d/more.conf; "
        "systemctl daemon-reload",
        f"units:docker.service#drop-in {UNITS}/docker.service.d/more.conf",
        by_hand=f"rm -r {UNITS}/docker.service.d; systemctl daemon-reload",
    ),
    _change(
        "a unit that systemd has not read",
        f"touch {UNITS}/k3s.service",
        "units:k3s.service#reload",
        by_hand="systemctl daemon-reload",
    ),
)
"""Changes of the operating system, of who may come in, of k3s and of what the server does by itself."""

# a certificate like the one that is there, from the server's own authority, with other names or other days
_SIGN = r"""
sign() { openssl req -new -key $1/server.key -subj /CN=stranger | openssl x509 -req -CA BASE/tls/ca/ca.crt \
           -CAkey BASE/tls/ca/ca.key -days $2 -extfile <(echo "subjectAltName=$3") | put $1/server.crt; }
"""
_PROJECT = "--label com.docker.compose.project=integr8scode"
_OVERRIDE = """
services:
  coordinator:
    environment: {STRANGER: "1"}
    logging: {options: {max-size: 1m}}
  saga-orchestrator:
    command: [python, -u, workers/run_saga_orchestrator.py]
    stop_grace_period: 5s
    ports: ["8090:8090"]
  result-processor:
    volumes: ["/etc/hostname:/app/stranger:ro"]
    cap_add: [NET_ADMIN]
  k8s-worker:
    image: stranger:1
    user: root
    extra_hosts: ["stranger:192.0.2.1"]
"""

APPLICATION = (
    # before the certificates: with another key it would not start again
    _change(
        "a process that died",
        "kill -9 $(docker inspect -f '{{.State.Pid}}' $(c frontend)); sleep 2; wait_for frontend healthy",
        "containers:frontend#restarts",
        by_hand=":",
    ),
    # early, since it takes the engine half a minute to notice
    _change(
        "an unhealthy container",
        "docker exec --user 0 $(c frontend) mv /usr/bin/curl /usr/bin/curl.away",
        "containers:frontend#health",
        by_hand="docker exec --user 0 $(c frontend) mv /usr/bin/curl.away /usr/bin/curl; wait_for frontend healthy",
    ),
    # -- the release
    _change(
        "the stack edited", "echo '# more' >> BASE/current/docker-compose.yaml", "release:docker-compose.yaml#content"
    ),
    _change("a variable more", "echo STRANGER=1 >> BASE/current/.env", "release:.env#STRANGER"),
    _change("the edge's settings edited", "echo '# more' >> BASE/edge/haproxy.cfg", "release:edge/haproxy.cfg#content"),
    _change(
        "the application's settings edited",
        "echo '# more' >> $(sed -n s/^CONFIG_TOML=//p BASE/current/.env)",
        "release:config.toml#content",
        "release:config.toml#touched",
    ),
    _change(
        "an unfinished release",
        "mkdir BASE/releases/2026.1.1-0123456789ab",
        "release:releases/2026.1.1-0123456789ab#left behind",
        by_hand="rmdir BASE/releases/2026.1.1-0123456789ab",
    ),
    _change(
        "settings that no release names",
        "mkdir BASE/files/0123456789ab",
        "release:files/0123456789ab#unknown",
        by_hand="rmdir BASE/files/0123456789ab",
    ),
    _change(
        "`current` leads elsewhere",
        "cp -a $(readlink -f BASE/current) BASE/releases/stranger; ln -sfn releases/stranger BASE/current",
        "release:current#target",
    ),
    # -- secrets and certificates
    _change(
        "a secret open to all",
        "chmod 444 BASE/secrets/*/mongo_root_username",
        "files:BASE/secrets/…/mongo_root_username#mode",
    ),
    _change(
        "another secret",
        "for f in BASE/secrets/*/user_passwords.json; do echo >> $f; done",
        "files:BASE/secrets/…/user_passwords.json#content",
    ),
    _change(
        "an old secret",
        "mkdir BASE/secrets/0123456789abcdef",
        "files:BASE/secrets/0123456789abcdef#unknown",
        by_hand="rmdir BASE/secrets/0123456789abcdef",
    ),
    _change(
        "a certificate for another name",
        f"{_SIGN} sign BASE/tls/public 800 DNS:stranger.example.org",
        "expiry:tls public#names",
    ),
    _change(
        "an expired certificate",
        f"{_SIGN} sign BASE/tls/internal/backend 0 DNS:backend,DNS:localhost,IP:127.0.0.1",
        "expiry:tls backend#end",
    ),
    _change(
        "another key",
        "openssl ecparam -name prime256v1 -genkey -noout | put BASE/tls/internal/frontend/server.key",
        "expiry:tls frontend#key",
    ),
    _change(
        "a key open to all",
        "chmod 444 BASE/tls/internal/edge/server.key",
        "files:BASE/tls/internal/edge/server.key#mode",
    ),
    # -- containers
    _change("a container removed", "docker rm -f $(c event-replay)", "containers:event-replay#missing"),
    _change("a container stopped", "docker stop $(c dlq-processor)", "containers:dlq-processor#state"),
    _change(
        "a container of somebody",
        "docker run --detach --name stranger --entrypoint sleep $(docker inspect -f '{{.Image}}' $(c redis)) infinity",
        "containers:stranger#unknown",
        by_hand="docker rm -f stranger",
    ),
    _change(
        "a one-off left behind",
        f"docker create --name oneoff {_PROJECT} --label com.docker.compose.oneoff=True "
        "--label com.docker.compose.service=user-seed $(docker inspect -f '{{.Image}}' $(c redis))",
        "containers:oneoff#left behind",
        by_hand="docker rm -f oneoff",
    ),
    _change(
        "a container with another environment",
        f"docker tag $(docker inspect -f '{{{{.Image}}}}' $(c k8s-worker)) stranger:1; "
        f"cat > /run/stranger.yaml <<'END'\n{_OVERRIDE}END\n"
        "cd BASE/current; COMPOSE_FILE=$(sed -n s/^COMPOSE_FILE=//p .env):/run/stranger.yaml docker compose up "
        "--detach --no-deps --pull never coordinator saga-orchestrator result-processor k8s-worker; "
        "rm /run/stranger.yaml",
        "containers:coordinator#environment",
    ),
    _change("another log", "", "containers:coordinator#log"),
    _change("another command", "", "containers:saga-orchestrator#command"),
    _change("less time to stop", "", "containers:saga-orchestrator#stop grace"),
    _change("a port more", "", "containers:saga-orchestrator#ports"),
    # gone with that container
    _change("who listens there", "", "ports:port 8090#unknown", by_hand=":"),
    _change("a mount more", "", "containers:result-processor#mounts"),
    _change("a capability", "", "containers:result-processor#capabilities"),
    _change("another image", "", "containers:k8s-worker#image"),
    _change("another user", "", "containers:k8s-worker#user"),
    _change("a name more", "", "containers:k8s-worker#extra hosts"),
    _change(
        "another limit",
        "docker update --memory 400m --memory-swap 800m $(c redis)",
        "containers:redis#memory limit",
        by_hand="docker update --memory 300m --memory-swap 600m $(c redis)",
    ),
    _change(
        "no restarts",
        "docker update --restart no $(c mongo)",
        "containers:mongo#restart policy",
        by_hand="docker update --restart unless-stopped $(c mongo)",
    ),
    _change(
        "a process that took too much memory",
        "! docker exec $(c pod-monitor) python -c 'x = b\"x\" * (1 << 30)'",
        "containers:pod-monitor#OOM kills",
        by_hand="docker restart $(c pod-monitor)",
    ),
    # -- networks and volumes
    _change(
        "a network",
        f"docker network create {_PROJECT} integr8scode_stranger",
        "networks:integr8scode_stranger#unknown",
        by_hand="docker network disconnect integr8scode_stranger $(c redis); docker network rm integr8scode_stranger",
    ),
    _change(
        "a container in it",
        "docker network connect integr8scode_stranger $(c redis)",
        "networks:integr8scode_stranger: redis#unknown",
        # with the network
        by_hand=":",
    ),
    _change(
        "a volume",
        f"docker volume create {_PROJECT} integr8scode_stranger",
        "volumes:integr8scode_stranger#unknown",
        by_hand="docker volume rm integr8scode_stranger",
    ),
    _change(
        "a container without its network",
        "docker network disconnect integr8scode $(c result-processor); wait_for frontend unhealthy",
        "networks:integr8scode: result-processor#missing",
        by_hand="docker rm -f $(c result-processor)",
    ),
)
"""Changes of the release and of what Docker runs of it."""
