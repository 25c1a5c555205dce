"""`k3s certificate`: what it shows and which files it takes away."""

from __future__ import annotations

import datetime as dt
import json
import os
from pathlib import Path

import pytest

from lab.k3s.supervisor import certificate_command, certificates, faults, network, plan
from lab.k3s.supervisor.logs import FatalError
from lab.k3s.supervisor.paths import Paths
from lab.k3s.supervisor.settings import Settings


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """A server's certificates, as after its first start."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(network, "choose_address", lambda: "10.0.0.7")
    monkeypatch.setattr(faults, "FOLDER", tmp_path / "faults")
    made = Paths(tmp_path / "k3s")
    settings = Settings({"node-name": ["one"]})
    certificates.prepare(made, plan.make_plan(settings), settings)
    return made


def options(paths: Paths, *arguments: str) -> certificate_command.Options:
    return certificate_command.parse(["--data-dir", str(paths.data_dir), *arguments])


def test_every_service_but_etcd_has_its_files(paths: Paths) -> None:
    for service in certificates.SERVICES:
        missing = [path for path in certificates.files_of(paths, service) if not path.exists()]
        assert bool(missing) == (service == "etcd"), (service, missing)


def test_a_leaf_and_its_ca_are_shown(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    certificate_command.check(options(paths, "--service=admin", "-o", "json"))
    shown = json.loads(capsys.readouterr().out)["Certificates"]
    assert [(one["Filename"], one["Usages"], one["Status"]) for one in shown] == [
        ("client-admin.crt", ["ClientAuth"], "OK"),
        ("client-admin.crt", ["CertSign"], "OK"),
    ]
    assert shown[0]["Issuer"] == shown[1]["Subject"]


@pytest.mark.parametrize(
    ("days", "status"), [(-1, "NOT YET VALID"), (1, "OK"), (246, "WARNING"), (364, "WARNING"), (366, "EXPIRED")]
)
def test_states(paths: Paths, days: int, status: str) -> None:
    now = dt.datetime.now(dt.UTC) + dt.timedelta(days=days)
    assert certificate_command.collect(options(paths, "-s", "admin"), now)[0].status == status


@pytest.mark.parametrize(
    ("days", "text"), [(365, "1 year"), (364, "12 months"), (60, "2 months"), (8, "1 week"), (0, "now")]
)
def test_spans_are_said_in_one_unit(days: int, text: str) -> None:
    assert certificate_command.humanize(dt.timedelta(days=days)) == text


def test_rotation_takes_only_the_services_files_and_keeps_a_copy(paths: Paths) -> None:
    before = {path: path.read_bytes() for path in paths.data_dir.rglob("*") if path.is_file()}
    certificate_command.rotate(options(paths, "--service", "k3s-server,kubelet"))
    gone = {path for path in before if not path.exists()}
    assert gone == set(certificates.files_of(paths, "kubelet"))
    assert (paths.tls / "dynamic-cert-regenerate").exists()
    (backup,) = paths.server.glob("tls-*")
    assert (backup / "client-kubelet.crt").read_bytes() == before[paths.agent / "client-kubelet.crt"]
    assert (backup / "server-ca.key").read_bytes() == before[paths.tls / "server-ca.key"]


def test_rotation_without_a_server_is_fatal(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="no such file"):
        certificate_command.rotate(options(Paths(tmp_path / "none")))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rotate", "--service", "nobody"], "service nobody is not recognized"),
        (["rotate", "--nothing=1"], "flag provided but not defined"),
        (["check", "--output"], "flag needs an argument"),
        (["rotate-ca"], "use a real k3s"),
        ([], "use a real k3s"),
    ],
)
def test_what_it_does_not_know_is_fatal(arguments: list[str], message: str) -> None:
    with pytest.raises(FatalError, match=message):
        certificate_command.run(arguments)
