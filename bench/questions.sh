#!/bin/sh
# What playbooks/drift.yml asks of a server, as an administrator would ask it in one ssh session; the registry's part is
# appended by drift.py. Nothing is compared with anything, which the playbook does besides.
base=/opt/integr8scode

# server, clock, disk, addresses
cat /etc/os-release /proc/meminfo
date +%s
timedatectl show 2>&1
df -Pk / /var/lib/docker $base
df -Pi / /var/lib/docker $base
ip -o address
ip route

# files that the roles own: who may do what, and their contents
set -- /etc/docker /etc/rancher /etc/integr8scode /etc/modules-load.d /etc/sysctl.d $base/secrets $base/tls \
    $base/kubeconfig $base/releases
find "$@" -printf '%p %y %m %u %g\n'
find "$@" -type f -exec sha256sum {} +
sha256sum /usr/local/bin/k3s /usr/local/sbin/integr8scode-* /etc/systemd/system/integr8scode* /etc/systemd/system/k3s.service

# packages, units, kernel, users, firewall, ports
dpkg-query --show --showformat='${Package} ${db:Status-Abbrev} ${Version}\n'
apt-mark showhold
systemctl show docker.service containerd.service k3s.service ssh.service 'integr8scode*'
sysctl net.ipv4.ip_forward fs.inotify.max_user_instances fs.inotify.max_user_watches
getent passwd
getent group
cat /root/.ssh/authorized_keys /home/*/.ssh/authorized_keys
sshd -T
iptables-save
ip6tables-save
nft list tables
ss -lntup

# Docker: the engine, what runs, and what should
docker info --format '{{json .}}'
docker ps --all --quiet | xargs docker inspect
docker network ls --quiet | xargs docker network inspect
docker volume ls
docker image ls --all --digests --no-trunc
cd $base/current && docker compose config --format json && cat release.json

# certificates and tokens
find $base/tls /var/lib/rancher/k3s/server/tls -name '*.crt' -exec openssl x509 -noout -enddate -subject -in {} \;
grep -h token: $base/kubeconfig/*.yaml

# k3s: version, node, namespaces, accounts, rights, policies
k3s --version
k3s kubectl get --raw /readyz
k3s kubectl get --all-namespaces --output json nodes,namespaces,serviceaccounts,roles,rolebindings,networkpolicies
k3s kubectl get --output json clusterrolebindings,clusterroles

# backups
ls -l /var/backups/integr8scode 2>&1
