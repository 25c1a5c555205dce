"""The server's own renewal, on a server with the whole stack: tokens, their readers, k3s' certificates.

Leaves the server as site.yml makes it.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

WORKERS = ("k8s-worker", "pod-monitor")
FOLDER = "/opt/integr8scode/kubeconfig"
UNIT = "integr8scode-renew-kubeconfig"
STATE = "/var/lib/integr8scode/maintenance/renew-kubeconfig.json"
DAY = 86400
# the role's waits, shorter: the proof is in what restarts, not in how long it is watched
QUICK = {"maintenance_worker_stable_seconds": 5, "maintenance_k3s_stable_seconds": 5}
TLS = "/var/lib/rancher/k3s/server/tls"
# a certificate of k3s' own with 20 days left, signed by the authority that signs it in earnest
AGED_CERTIFICATE = f"""
import datetime, pathlib
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

folder = pathlib.Path("{TLS}")
authority = x509.load_pem_x509_certificate((folder / "client-ca.crt").read_bytes())
key = serialization.load_pem_private_key((folder / "client-ca.key").read_bytes(), None)
path = folder / "client-controller.crt"
old = x509.load_pem_x509_certificate(path.read_bytes())
now = datetime.datetime.now(datetime.timezone.utc)
new = (
    x509.CertificateBuilder()
    .subject_name(old.subject)
    .issuer_name(authority.subject)
    .public_key(old.public_key())
    .serial_number(x509.random_serial_number())
    .not_valid_before(now - datetime.timedelta(days=345))
    .not_valid_after(now + datetime.timedelta(days=20))
)
for extension in old.extensions:
    new = new.add_extension(extension.value, extension.critical)
pem = serialization.Encoding.PEM
path.write_bytes(new.sign(key, hashes.SHA256()).public_bytes(pem) + authority.public_bytes(pem))
"""


def starts(host: Any) -> dict[str, str]:
    """When each container of the stack was started, and which it is."""
    template = '{{index .Config.Labels "com.docker.compose.service"}} {{.Id}} {{.State.StartedAt}}'
    listed = host.check_output(
        "docker ps --quiet --filter label=com.docker.compose.project=integr8scode"
        f" | xargs docker inspect --format '{template}'"
    )
    return dict(line.split(" ", 1) for line in listed.splitlines())


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """Services that are another container, or were started again."""
    return {name for name in before | after if before.get(name) != after.get(name)}


def life_left(host: Any, worker: str) -> float:
    """Seconds that the token in the worker's file has left, by what the token itself says."""
    # only the middle part is read, on the server; the token stays there
    code = (
        "import base64, json, sys, time, yaml;"
        f" token = yaml.safe_load(open('{FOLDER}/{worker}.yaml'))['users'][0]['user']['token'].split('.')[1];"
        " print(json.loads(base64.urlsafe_b64decode(token + '=='))['exp'] - time.time())"
    )
    return float(host.check_output(f'python3 -c "{code}"'))


def put_token(host: Any, worker: str, making: str) -> None:
    """Replace the token in the worker's file by what the shell command `making` prints; then let the worker read it."""
    host.check_output(
        f'set -e; cd {FOLDER}; token=$({making}); sed "s/ token: .*/ token: $token/" {worker}.yaml > .new;'
        f" chmod 0400 .new; mv .new {worker}.yaml; docker restart --time 5"
        f" $(docker ps --quiet --filter label=com.docker.compose.project=integr8scode"
        f" --filter label=com.docker.compose.service={worker})"
    )


def ten_minutes(worker: str) -> str:
    """A command that prints a token with ten minutes left, the shortest life that Kubernetes grants."""
    return f"k3s kubectl --namespace integr8scode create token {worker} --duration=10m"


def expired(worker: str) -> str:
    """A command that prints a token that expired an hour ago, signed with the cluster's own key as k3s signs them."""
    code = (
        "import base64, json, subprocess, sys, time;"
        " enc = lambda b: base64.urlsafe_b64encode(b).rstrip(b'=').decode();"
        " dec = lambda t: base64.urlsafe_b64decode(t + '=' * (-len(t) % 4));"
        " head, body, _ = sys.stdin.read().strip().split('.');"
        " claims = json.loads(dec(body));"
        " claims.update(iat=int(time.time()) - 90000, nbf=int(time.time()) - 90000, exp=int(time.time()) - 3600);"
        " signed = head + '.' + enc(json.dumps(claims).encode());"
        f" answer = subprocess.run(['openssl', 'dgst', '-sha256', '-sign', '{TLS}/service.key'],"
        " input=signed.encode(), capture_output=True, check=True);"
        " print(signed + '.' + enc(answer.stdout))"
    )
    return f'{ten_minutes(worker)} | python3 -c "{code}"'


def accepted(host: Any, worker: str) -> bool:
    """Whether the API takes the worker's token."""
    answer = host.run(
        f"k3s kubectl --kubeconfig={FOLDER}/{worker}.yaml --server=https://127.0.0.1:6443 "
        "--tls-server-name=host.docker.internal auth whoami"
    )
    return bool(answer.rc == 0)


def state(host: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(host.file(STATE).content_string)
    return found


def restarted(host: Any) -> list[str]:
    """Workers that the last run has restarted, by what it wrote at its end."""
    return sorted(state(host)["facts"]["workers_restarted"])


def maintain(playbook: Any, **variables: Any) -> str:
    """Run the role maintenance by site.yml; its output."""
    done = playbook("playbooks/site.yml", "--tags", "maintenance", "-e", json.dumps(QUICK | variables))
    assert done.returncode == 0, done.stdout
    return str(done.stdout)


@pytest.fixture(scope="module", autouse=True)
def quick(playbook: Any, host: Any) -> Iterator[None]:
    maintain(playbook)
    yield
    done = playbook("playbooks/site.yml", "--tags", "maintenance")
    assert done.returncode == 0, done.stdout


def test_the_timer_waits_for_its_time_and_makes_up_for_one_it_missed(host: Any) -> None:
    assert host.service(f"{UNIT}.timer").is_running
    assert host.service(f"{UNIT}.timer").is_enabled
    shown = host.check_output(f"systemctl show {UNIT}.timer --property=Persistent,RandomizedDelayUSec,TimersCalendar")
    assert "Persistent=yes" in shown
    assert "RandomizedDelayUSec=1h" in shown
    assert "OnCalendar=*-*-* 00:00:00" in shown


def test_settings_and_state_are_roots_alone(host: Any) -> None:
    host.check_output(f"systemctl start {UNIT}")
    settings = "/etc/integr8scode/maintenance.d/renew-kubeconfig.json"
    for path, mode in ((settings, 0o600), (STATE, 0o600), ("/etc/integr8scode/maintenance.d", 0o700)):
        file = host.file(path)
        assert (file.user, file.mode) == ("root", mode), path
    assert "token" not in json.dumps(state(host)).replace('"token', "").replace("token_renewed", "")


def test_a_token_with_ten_minutes_left_is_renewed_by_the_timer(host: Any, playbook: Any) -> None:
    """And exactly the two workers restart, whose programs read it once, at their start."""
    for worker in WORKERS:
        put_token(host, worker, ten_minutes(worker))
        assert 0 < life_left(host, worker) <= 600
    before = starts(host)

    maintain(playbook, maintenance_renew_schedule="*:*:0/15", maintenance_renew_randomized_delay_seconds=0)
    try:
        deadline = time.monotonic() + 180
        # a run writes its facts when it is done: one that restarts both, then one that restarts none
        while restarted(host) != sorted(WORKERS):
            assert time.monotonic() < deadline, host.run(f"journalctl -u {UNIT} -n 40 --no-pager").stdout
            time.sleep(1)
        after = starts(host)
        assert changed(before, after) == set(WORKERS)
        assert min(life_left(host, worker) for worker in WORKERS) > 29 * DAY
        while restarted(host):
            assert time.monotonic() < deadline + 120, state(host)
            time.sleep(2)
        assert starts(host) == after
        assert all(accepted(host, worker) for worker in WORKERS)
        found = state(host)
        assert (found["result"], found["last_success"]) == ("ok", found["at"])
    finally:
        maintain(playbook)


def test_an_expired_token_is_found_and_replaced_by_site(host: Any, playbook: Any) -> None:
    put_token(host, "pod-monitor", expired("pod-monitor"))
    assert life_left(host, "pod-monitor") < 0
    assert not accepted(host, "pod-monitor")
    before = starts(host)

    predicted = playbook("playbooks/site.yml", "--check", "--tags", "kubernetes_access")
    done = playbook("playbooks/site.yml", "--tags", "kubernetes_access,integr8scode")

    assert re.search(r"Renew the workers' kubeconfigs where it is due.*?\n\s*changed", predicted.stdout, re.DOTALL)
    assert done.returncode == 0, done.stdout
    assert accepted(host, "pod-monitor")
    assert changed(before, starts(host)) == {"pod-monitor"}


def test_an_expired_token_is_found_and_replaced_by_the_recovery(host: Any, playbook: Any) -> None:
    put_token(host, "k8s-worker", expired("k8s-worker"))
    assert not accepted(host, "k8s-worker")
    before = starts(host)
    unit = host.check_output("systemctl show k3s --property=InvocationID")

    done = playbook("playbooks/recover-k3s.yml", "-e", "recover_k3s_stable_seconds=5")

    assert done.returncode == 0, done.stdout
    assert accepted(host, "k8s-worker")
    assert changed(before, starts(host)) == {"k8s-worker"}
    assert host.check_output("systemctl show k3s --property=InvocationID") == unit


def test_the_playbook_renews_what_is_asked_for_and_else_nothing(host: Any, playbook: Any) -> None:
    before = starts(host)

    nothing = playbook("playbooks/renew-kubeconfig.yml", "-e", json.dumps(QUICK))
    assert "changed=0" in nothing.stdout
    assert starts(host) == before

    checked = playbook("playbooks/renew-kubeconfig.yml", "--check", "-e", json.dumps(QUICK | {"renew_force": True}))
    assert "would be restarted: k8s-worker, pod-monitor" in checked.stdout
    assert starts(host) == before

    forced = playbook("playbooks/renew-kubeconfig.yml", "-e", json.dumps(QUICK | {"renew_force": True}))
    assert forced.returncode == 0, forced.stdout
    assert "good until" in forced.stdout
    assert changed(before, starts(host)) == set(WORKERS)


def test_a_certificate_of_k3s_near_its_end_restarts_k3s_once_and_no_worker(host: Any) -> None:
    before = starts(host)
    invocation = "systemctl show k3s --property=InvocationID,NRestarts"
    end = f"openssl x509 -noout -enddate -checkend {30 * DAY} -in {TLS}/client-controller.crt"
    old = host.check_output(invocation)
    host.check_output(f"python3 - <<'EOF'\n{AGED_CERTIFICATE}\nEOF")
    assert host.run(end).rc == 1

    host.check_output(f"systemctl start {UNIT}")

    assert host.run(end).rc == 0
    renewed = host.check_output(invocation)
    assert renewed != old
    assert list(state(host)["facts"]["k3s_certificates_renewed"]) == [f"{TLS}/client-controller.crt"]
    host.check_output(f"systemctl start {UNIT}")
    assert host.check_output(invocation) == renewed
    assert starts(host) == before


def test_an_api_that_is_down_makes_the_unit_fail_with_what_to_do(host: Any) -> None:
    good = state(host)["last_success"]
    host.check_output("systemctl stop k3s")
    try:
        assert host.run(f"systemctl start {UNIT}").rc != 0
        assert host.run(f"systemctl is-failed {UNIT}").rc == 0
        found = state(host)
        assert (found["result"], found["last_success"]) == ("failed", good)
        sentence = f"playbooks/recover-k3s.yml --limit {host.server_name}"
        assert sentence in found["message"]
        assert sentence in host.check_output(f"journalctl -u {UNIT} -n 20 --no-pager -o cat")
    finally:
        host.check_output("systemctl start k3s")
    deadline = time.monotonic() + 120
    while host.run(f"systemctl start {UNIT}").rc != 0:
        assert time.monotonic() < deadline, host.run(f"journalctl -u {UNIT} -n 20 --no-pager -o cat").stdout
        time.sleep(2)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"maintenance_renew_schedule": "every now and then"}, "is no time of systemd's calendar"),
        ({"maintenance_k3s_restart_days": 200}, "it must be 1 to 90"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    host: Any, playbook: Any, variables: dict[str, Any], message: str
) -> None:
    before = host.check_output(f"sha256sum /etc/systemd/system/{UNIT}.* /etc/integr8scode/maintenance.d/*")
    done = playbook("playbooks/site.yml", "--tags", "maintenance", "-e", json.dumps(variables))
    assert done.returncode == 2
    assert message in re.sub(r"\s+", " ", done.stdout)
    assert host.check_output(f"sha256sum /etc/systemd/system/{UNIT}.* /etc/integr8scode/maintenance.d/*") == before


def test_a_second_run_changes_nothing(playbook: Any) -> None:
    assert "changed=0" in maintain(playbook)
