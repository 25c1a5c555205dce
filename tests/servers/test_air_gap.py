"""A server without a default route, made from bare: it reaches the lab's registry and two mirrors, and serves."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import ssl
import urllib.parse
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
BASE = "/opt/integr8scode"
REGISTRIES = "/etc/rancher/k3s/registries.yaml"
IMAGES = "/var/lib/rancher/k3s/agent/images"
SECRETS: dict[str, str] = yaml.safe_load((ROOT / "inventories/lab/group_vars/all/vault.yml").read_text())
OWN_NUMBER = 24


def prefix(lab_home: Path) -> str:
    """The lab's network, as 10.213.0."""
    found: str = json.loads((lab_home / "state/lab.json").read_text())["address_prefix"]
    return found


def connects(host: Any, address: str, port: int) -> str:
    """What becomes of a connection from the server: "open", or the reason why not."""
    program = (
        "import socket, sys\n"
        "try: socket.create_connection((sys.argv[1], int(sys.argv[2])), 5).close(); print('open')\n"
        "except OSError as error: print(error.strerror or error)"
    )
    answer: str = host.check_output("python3 -c %s %s %s", program, address, str(port)).strip()
    return answer


def ask(host: Any, method: str, path: str, form: dict[str, str] | None = None) -> tuple[int, str]:
    """Ask the edge from outside, by the port that the lab publishes on this machine."""
    authority = host.file(f"{BASE}/tls/public/ca.crt").content_string
    port = int(host.connection["ansible_port"]) + 1
    context = ssl.create_default_context(cadata=authority)
    connection = http.client.HTTPSConnection("localhost", port, timeout=30, context=context)
    headers = {"Content-Type": "application/x-www-form-urlencoded"} if form else {}
    connection.request(method, path, urllib.parse.urlencode(form) if form else None, headers)
    response = connection.getresponse()
    return response.status, response.read().decode()


def changed(output: str) -> int:
    """The changes that ansible-playbook's recap counts."""
    return int(re.findall(r"changed=(\d+)", output)[-1])


def started(host: Any) -> str:
    answer: str = host.check_output("systemctl show k3s --property=InvocationID --value")
    return answer


# -- the network


def test_there_is_no_way_out(host: Any, lab_home: Path) -> None:
    assert host.check_output("ip -4 route show default") == ""
    assert host.check_output("ip -6 route show default") == ""
    # an address that is nobody's, and a lab server of another scenario
    for address in ("192.0.2.1", f"{prefix(lab_home)}{10 + 1}"):
        assert connects(host, address, 22) == "Network is unreachable"
    assert host.run("getent hosts example.org").rc != 0


def test_what_it_is_made_from_is_reached(host: Any) -> None:
    """Otherwise a broken network would pass above."""
    for name, port in {"registry.lab.test": 443, "files.lab.test": 80, "airgap2": 8000}.items():
        assert connects(host, name, port) == "open"


# -- the stack


def test_the_stack_serves(host: Any) -> None:
    assert ask(host, "GET", "/api/v1/health/live")[0] == 200
    running = host.check_output(
        "docker ps --filter label=com.docker.compose.project=integr8scode --format '{{.Image}}'"
    ).split()
    assert running
    assert {one.partition("/")[0] for one in running} == {"registry.lab.test"}


@pytest.mark.parametrize("user", ["user", "admin"])
def test_seeded_users_log_in(host: Any, user: str) -> None:
    form = {"username": user, "password": SECRETS[f"vault_integr8scode_{user}_password"]}
    status, body = ask(host, "POST", "/api/v1/auth/login", form)
    assert status == 200, body
    assert json.loads(body)["username"] == user


# -- k3s


def test_the_node_has_the_address_that_it_was_given(host: Any, lab_home: Path) -> None:
    (node,) = json.loads(host.check_output("k3s kubectl get nodes -o json"))["items"]
    addresses = {one["type"]: one["address"] for one in node["status"]["addresses"]}
    assert addresses["InternalIP"] == f"{prefix(lab_home)}{10 + OWN_NUMBER}"


def test_registries_are_those_of_the_inventory(host: Any, lab_home: Path) -> None:
    file = host.file(REGISTRIES)
    assert (file.user, file.group, file.mode) == ("root", "root", 0o600)
    authority = "/etc/rancher/k3s/registry-ca/registry.lab.test.crt"
    assert yaml.safe_load(file.content_string) == {
        "mirrors": {"docker.io": {"endpoint": ["https://registry.lab.test"]}},
        "configs": {
            "registry.lab.test": {
                "auth": {"username": "integr8scode", "password": SECRETS["vault_registry_password"]},
                "tls": {"ca_file": authority},
            }
        },
    }
    assert host.file(authority).content_string.strip() == (lab_home / "state/ca.crt").read_text().strip()
    assert not host.file("/etc/systemd/system/k3s.service.env").exists


def test_archives_are_there_and_verified(host: Any, lab_home: Path) -> None:
    own = (lab_home / "state/air-gap-executors.tar").read_bytes()
    recorded = json.loads(host.file("/etc/rancher/k3s/airgap-images.json").content_string)
    assert recorded["air-gap-executors.tar"] == hashlib.sha256(own).hexdigest()
    assert sorted(host.check_output(f"ls -A {IMAGES}").split()) == sorted(recorded)
    assert {"air-gap-mirror.tar", "air-gap-executors.tar"} == set(recorded)
    for name, checksum in recorded.items():
        assert host.file(f"{IMAGES}/{name}").sha256sum == checksum


# -- runs


def test_again_changes_nothing(host: Any, playbook: Any) -> None:
    before = started(host)
    run = playbook("playbooks/site.yml")
    assert run.returncode == 0, run.stdout + run.stderr
    assert changed(run.stdout) == 0, run.stdout
    assert started(host) == before


def files_that_drifted(playbook: Any, folder: Path) -> dict[str, dict[str, Any]]:
    run = playbook("playbooks/drift.yml", "-e", f"drift_report_dir={folder}")
    assert run.returncode in (0, 2), run.stdout + run.stderr
    (server,) = json.loads((folder / "drift.json").read_text())["hosts"]
    assert server["status"] in ("clean", "drift"), server
    return {one["item"]: one for one in server["findings"] if one["area"] == "files"}


def test_drift_knows_the_files_and_tells_no_secret(host: Any, playbook: Any, tmp_path: Path) -> None:
    assert files_that_drifted(playbook, tmp_path) == {}
    before = started(host)
    host.check_output(f"sed -i 's/password: .*/password: another-fake/' {REGISTRIES}")
    host.check_output(f"rm {IMAGES}/air-gap-mirror.tar && touch {IMAGES}/unknown.tar")
    found = files_that_drifted(playbook, tmp_path)
    assert {item: one["aspect"] for item, one in found.items()} == {
        REGISTRIES: "content",
        f"{IMAGES}/air-gap-mirror.tar": "missing",
        f"{IMAGES}/unknown.tar": "unknown",
    }
    report = (tmp_path / "drift.json").read_text()
    assert "another-fake" not in report
    assert SECRETS["vault_registry_password"] not in report
    host.check_output(f"rm {IMAGES}/unknown.tar")
    run = playbook("playbooks/site.yml", "--tags", "k3s", "--diff", "-vvv")
    assert run.returncode == 0, run.stdout + run.stderr
    for secret in ("another-fake", SECRETS["vault_registry_password"], SECRETS["vault_k3s_token"]):
        assert secret not in run.stdout + run.stderr
    # looked for here: sudo would write down what is looked for
    assert SECRETS["vault_registry_password"] not in host.check_output("journalctl --no-pager --quiet --output=cat")
    assert started(host) != before
    assert files_that_drifted(playbook, tmp_path) == {}


def test_what_is_not_set_any_more_goes(host: Any, playbook: Any) -> None:
    before = started(host)
    nothing: dict[str, Any] = {
        "k3s_registries": {},
        "k3s_registry_ca_certificates": {},
        "k3s_airgap_images": [],
        "k3s_airgap_checksums": {},
    }
    run = playbook("playbooks/site.yml", "--tags", "k3s", "-e", json.dumps(nothing))
    assert run.returncode == 0, run.stdout + run.stderr
    for path in (REGISTRIES, "/etc/rancher/k3s/registry-ca", "/etc/rancher/k3s/airgap-images.json"):
        assert not host.file(path).exists, path
    assert host.check_output(f"ls -A {IMAGES}") == ""
    assert started(host) != before
    # and back, for whoever looks at the server next
    assert playbook("playbooks/site.yml", "--tags", "k3s").returncode == 0
    assert host.file(REGISTRIES).exists


def test_a_mistake_is_told_before_anything_is_changed(host: Any, playbook: Any) -> None:
    before = started(host)
    wrong = {"k3s_registries": {"mirror": {}}, "k3s_http_proxy": "proxy-without-a-scheme"}
    run = playbook("playbooks/site.yml", "-e", json.dumps(wrong))
    # as YAML, whose quotes double an apostrophe
    said = re.sub(r"\s+", " ", run.stdout).replace("''", "'")
    assert run.returncode == 2
    assert "has mirror, which k3s would skip in silence" in said
    assert "k3s_http_proxy is no proxy's address" in said
    assert "Nothing was changed" in said
    assert "proxy-without-a-scheme" not in said
    assert started(host) == before
