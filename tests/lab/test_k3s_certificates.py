"""Certificates: shown, rotated, and the one that no start signs again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.lab.k3s_machine import CA, READY, SERVER, WITH_FIX, Machine, machine

FAULT = "/etc/lab-k3s/faults/foreign-listener-certificate"
UNKNOWN = "tls: failed to verify certificate: x509: certificate signed by unknown authority"


@pytest.fixture(scope="module")
def server() -> Iterator[Machine]:
    with machine("t-k3s-certs", WITH_FIX, 3) as made:
        made.configure()
        made.start_ready()
        yield made


def fingerprint(server: Machine) -> str:
    """What port 6443 shows."""
    script = 'import ssl;print(hash(ssl.get_server_certificate(("127.0.0.1", 6443))))'
    return server.run(f"PYTHONHASHSEED=1 python3 -c '{script}'")


def checksums(server: Machine) -> dict[str, str]:
    lines = server.run(f"cd {SERVER}/tls && sha256sum *.crt *.key ../../agent/*.crt").splitlines()
    return {line.split()[1].rpartition("/")[2]: line.split()[0] for line in lines}


class TestCheck:
    def test_the_table_names_leaf_and_ca_of_each_file(self, server: Machine) -> None:
        out = server.run("k3s certificate check --output table --service api-server,kubelet")
        header = next(line for line in out.splitlines() if line.startswith("FILENAME"))
        assert header.split("  ")[0] == "FILENAME"
        assert [part for part in re.split(r"  +", header) if part] == [
            "FILENAME", "SUBJECT", "USAGES", "EXPIRES", "RESIDUAL TIME", "STATUS",
        ]  # fmt: skip
        rows = [re.split(r"   +", line) for line in out.splitlines() if ".crt" in line]
        assert {row[0] for row in rows} == {
            "client-kube-apiserver.crt", "serving-kube-apiserver.crt", "client-kubelet.crt", "serving-kubelet.crt",
        }  # fmt: skip
        assert {row[2] for row in rows} == {"ClientAuth", "ServerAuth", "CertSign"}
        assert {row[-1] for row in rows} == {"OK"}

    def test_json_and_text(self, server: Machine) -> None:
        shown = json.loads(server.run("k3s certificate check -o json -s admin").splitlines()[-1])["Certificates"]
        assert shown[0]["Subject"] == "system:admin"
        assert shown[0]["Status"] == "OK"
        text = server.run("k3s certificate check --service admin")
        assert "client-admin.crt: certificate system:admin (ClientAuth) is ok, expires at " in text

    def test_an_unknown_service_is_refused(self, server: Machine) -> None:
        assert "service nobody is not recognized" in server.run(
            "k3s certificate rotate --service nobody && exit 9", check=False
        )


class TestRotate:
    def test_named_services_get_new_certificates_and_keep_the_old_ones_aside(self, server: Machine) -> None:
        server.stop()
        before = checksums(server)
        shown = server.run("k3s certificate rotate --service k3s-server,api-server,kubelet")
        folder = re.search(rf"Successfully backed up certificates to ({SERVER}/tls-\d+), please restart k3s", shown)
        assert folder
        assert "Rotating dynamic listener certificate" in shown
        assert "serving-kube-apiserver.crt" in server.run(f"ls {folder[1]}")
        assert "client-kubelet.crt" in server.run(f"ls {folder[1]}")
        server.start_ready()
        changed = {name for name, checksum in checksums(server).items() if before[name] != checksum}
        assert changed == {
            "client-kube-apiserver.crt", "client-kube-apiserver.key", "serving-kube-apiserver.crt",
            "serving-kube-apiserver.key", "client-kubelet.crt", "client-kubelet.key", "serving-kubelet.crt",
            "serving-kubelet.key",
        }  # fmt: skip
        assert server.run(f"ls {SERVER}/tls/dynamic-cert-regenerate", check=False).startswith("ls:")


# the scenario `recover-k3s` has two of these causes
@pytest.mark.long
class TestAnotherCa:
    def test_a_start_leaves_the_listeners_certificate_as_it_is_and_rotation_heals(self, server: Machine) -> None:
        token = server.kubectl("create token default").strip()
        server.stop()
        server.write(FAULT, "")
        for _start in range(2):
            server.start()
            log = server.wait_for(UNKNOWN)
            assert 'level=info msg="Waiting to retrieve agent configuration; server is not ready: CA cert' in log
            assert "k3s is up and running" in log, "the unit is running all the time"
            assert READY not in log
            assert "certificate signed by unknown authority" in server.kubectl("get nodes", check=False)
            assert server.run(f"ls {FAULT}", check=False).startswith("ls:"), "asked for once"
            server.stop()
        server.run("k3s certificate rotate --service k3s-server,api-server,kubelet")
        server.start_ready()
        assert server.http("/api/v1/nodes", token)[0] == 403

    def test_a_new_name_is_signed_by_the_ca_of_now(self, server: Machine) -> None:
        if server.processes():
            server.stop()
        server.write(FAULT, "")
        server.start()
        server.wait_for(UNKNOWN)
        server.stop()
        server.configure(tls_san=["one-more.test"])
        server.start_ready()
        server.run(f"curl -s --cacert {CA} --resolve one-more.test:6443:127.0.0.1 https://one-more.test:6443/readyz")

    def test_rotation_shows_another_certificate(self, server: Machine) -> None:
        before = fingerprint(server)
        server.stop()
        server.run("k3s certificate rotate --service k3s-server")
        server.start_ready()
        assert fingerprint(server) != before

    def test_an_older_ca_file_is_put_back(self, server: Machine) -> None:
        good = server.run(f"sha256sum {CA}")
        server.stop()
        server.run(f"cp {SERVER}/tls/client-ca.crt {CA} && touch -d '-1 year' {CA}")
        server.start_ready()
        assert server.run(f"sha256sum {CA}") == good
        assert f"{CA} will be updated from the datastore." in server.log()
