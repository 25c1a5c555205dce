"""The certificate that port 6443 shows: when it is signed again, and when not."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from lab.k3s.supervisor import faults, pki
from lab.k3s.supervisor.listener import Listener

NAMES = pki.Names("kube-apiserver", dns=("localhost",), addresses=("127.0.0.1",))


class Server:
    def __init__(self, folder: Path) -> None:
        self.tls = folder / "tls"
        self.ca = self.tls / "server-ca.crt", self.tls / "server-ca.key"
        self.listener = Listener.of(self.tls)

    def start(self, names: pki.Names = NAMES) -> x509.Certificate:
        pki.ensure_ca("k3s-server", *self.ca)
        self.listener.prepare(names, *self.ca)
        return pki.load_certificate(self.listener.certificate)

    def is_ours(self, certificate: x509.Certificate) -> bool:
        try:
            certificate.verify_directly_issued_by(pki.load_certificate(self.ca[0]))
        except (ValueError, InvalidSignature):
            return False
        return True


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setattr(faults, "FOLDER", tmp_path / "faults")
    return Server(tmp_path)


def ask_for(fault: str) -> None:
    faults.FOLDER.mkdir(exist_ok=True)
    (faults.FOLDER / fault).touch()


def test_it_is_kept_and_its_store_is_a_secret(server: Server) -> None:
    first = server.start()
    assert server.start() == first
    secret = json.loads(server.listener.store.read_text())
    assert (secret["kind"], secret["metadata"]["name"]) == ("Secret", "k3s-serving")
    assert secret["metadata"]["annotations"]["listener.cattle.io/cn-127.0.0.1"] == "127.0.0.1"
    assert base64.b64decode(secret["data"]["tls.crt"]) == server.listener.certificate.read_bytes()
    assert first.subject.rfc4514_string() == "CN=k3s,O=k3s"
    assert server.listener.store.stat().st_mode & 0o777 == 0o600


def test_a_new_name_is_added_to_the_old_ones_for_the_same_key(server: Server) -> None:
    server.start()
    key = server.listener.key.read_bytes()
    changed = server.start(pki.Names("x", dns=("more.test",), addresses=("10.0.0.2",)))
    assert pki.alternative_names(changed) == ({"localhost", "more.test"}, {"127.0.0.1", "10.0.0.2"})
    assert server.listener.key.read_bytes() == key


def test_another_ca_does_not_make_it_sign_again_but_a_rotation_does(server: Server) -> None:
    before = server.start()
    for path in server.ca:
        path.unlink()
    kept = server.start()
    assert kept == before
    assert not server.is_ours(kept)
    server.listener.trigger.touch()
    assert server.is_ours(server.start())
    assert not server.listener.trigger.exists()


def test_the_fault_comes_once_and_stays_until_rotation(server: Server) -> None:
    assert server.is_ours(server.start())
    ask_for(faults.FOREIGN_LISTENER_CERTIFICATE)
    foreign = server.start()
    assert not server.is_ours(foreign)
    assert server.start() == foreign
    server.listener.trigger.touch()
    assert server.is_ours(server.start())
    assert not list(server.tls.rglob("*foreign*"))


def test_near_its_end_it_is_renewed_with_every_name(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    before = server.start()
    moment = before.not_valid_after_utc - pki.RENEW_BEFORE
    monkeypatch.setattr(pki, "_now", lambda: moment.replace(microsecond=0) + (pki.RENEW_BEFORE / 1000))
    assert server.start().not_valid_after_utc > before.not_valid_after_utc


@pytest.mark.parametrize("text", ["", "{}", '{"data": {"tls.crt": "eA==", "tls.key": "eA=="}}'])
def test_a_store_that_is_none_is_made_anew(server: Server, text: str) -> None:
    server.start()
    server.listener.store.write_text(text)
    assert server.is_ours(server.start())
