"""The certificates of the module release_files, in this process and in a folder of the test's own."""

from __future__ import annotations

import ipaddress
import json
import os
import stat
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils import atomic_files
from ansible.module_utils import certificate_tools as tools
from ansible.module_utils import service_certificates as store
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

if TYPE_CHECKING:
    from tests.unit.conftest import RunModule

UID, GID = os.geteuid(), os.getegid()


def entry(base: Path, name: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "directory": str(base / "tls" / name),
        "common_name": name,
        "dns_names": [name, "localhost"],
        "ip_addresses": ["127.0.0.1"],
        "owner": UID,
        "group": GID,
        **changes,
    }


def arguments(base: Path, *entries: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "ca": {
            "certificate": str(base / "tls/ca/ca.crt"),
            "key": str(base / "tls/ca/ca.key"),
            "common_name": "Test CA",
        },
        "certificates": list(entries) or [entry(base, "backend"), entry(base, "edge", with_ca=True)],
        **changes,
    }


def certificate(base: Path, name: str = "backend") -> x509.Certificate:
    return tools.load_chain((base / "tls" / name / "server.crt").read_bytes())[0]


def authority(base: Path) -> x509.Certificate:
    return tools.load_chain((base / "tls/ca/ca.crt").read_bytes())[0]


def snapshot(base: Path) -> dict[str, tuple[bytes, int, int]]:
    return {
        str(path): (path.read_bytes() if path.is_file() else b"", path.stat().st_mode, path.stat().st_ino)
        for path in [base, *base.rglob("*")]
    }


def later(monkeypatch: pytest.MonkeyPatch, **ago: float) -> None:
    """Moves the module's clock, and no other."""
    moved = timedelta(**ago)
    monkeypatch.setattr(tools, "now", lambda: datetime.now(timezone.utc) + moved)


def reasons(result: dict[str, Any], name: str = "backend") -> list[str]:
    return next(one["reasons"] for one in result["certificates"] if one["name"] == name)


def assert_pair(base: Path, name: str = "backend") -> None:
    """What is on the disk is a certificate with its key, of the authority on the disk."""
    folder = base / "tls" / name
    assert tools.fits(tools.load_key((folder / "server.key").read_bytes()), certificate(base, name))
    assert tools.issued_by(certificate(base, name), authority(base))


# -- what is made


def test_a_first_run_makes_an_authority_and_certificates_that_a_client_accepts(
    run_part: RunModule, tmp_path: Path
) -> None:
    verification = pytest.importorskip("cryptography.x509.verification")
    result = run_part("certificates", arguments(tmp_path))
    assert result["changed"]
    assert result["changed_certificates"] == ["backend", "edge"]
    assert reasons(result) == ["missing"]
    assert result["ca"]["new"]
    builder = verification.PolicyBuilder().store(verification.Store([authority(tmp_path)]))
    for subject in (
        x509.DNSName("backend"),
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    ):
        builder.build_server_verifier(subject).verify(certificate(tmp_path), [])
    with pytest.raises(verification.VerificationError):
        builder.build_server_verifier(x509.DNSName("edge")).verify(certificate(tmp_path), [])
    assert (tmp_path / "tls/edge/ca.crt").read_bytes() == (tmp_path / "tls/ca/ca.crt").read_bytes()
    assert not (tmp_path / "tls/backend/ca.crt").exists()


def test_the_certificates_say_what_they_are_for(run_part: RunModule, tmp_path: Path) -> None:
    run_part("certificates", arguments(tmp_path))
    leaf, ca = certificate(tmp_path), authority(tmp_path)
    assert isinstance(leaf.public_key(), ec.EllipticCurvePublicKey)
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [usage.dotted_string for usage in usages] == ["1.3.6.1.5.5.7.3.1"]
    constraints = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    days = (tools.valid_until(leaf) - tools.valid_from(leaf)).days
    assert days == 365
    assert tools.valid_from(leaf) < datetime.now(timezone.utc) - timedelta(minutes=5)


def test_permissions(run_part: RunModule, tmp_path: Path) -> None:
    run_part("certificates", arguments(tmp_path))
    modes = {
        str(path.relative_to(tmp_path)): stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "tls").rglob("*")
    }
    assert modes == {
        "tls/ca": 0o700,
        "tls/ca/ca.crt": 0o444,
        "tls/ca/ca.key": 0o400,
        "tls/backend": 0o755,
        "tls/backend/server.crt": 0o444,
        "tls/backend/server.key": 0o400,
        "tls/edge": 0o755,
        "tls/edge/ca.crt": 0o444,
        "tls/edge/server.crt": 0o444,
        "tls/edge/server.key": 0o400,
    }


@pytest.mark.skipif(UID != 0, reason="only root gives files to others")
def test_the_reader_owns_the_files_and_root_the_directory(run_part: RunModule, tmp_path: Path) -> None:
    run_part("certificates", arguments(tmp_path, entry(tmp_path, "edge", owner=99, group=98)))
    for name, owner in (("server.key", (99, 98)), ("server.crt", (99, 98)), (".", (0, 0))):
        status = (tmp_path / "tls/edge" / name).stat()
        assert (status.st_uid, status.st_gid) == owner


def test_long_and_unusual_names(run_part: RunModule, tmp_path: Path) -> None:
    long = "a-server-with-a-name-" + "x" * 40 + ".example.org"
    names = [long, "10.0.0.7", "*.Example.org", "under_score", "2001:db8::1"]
    args = arguments(tmp_path, entry(tmp_path, "public", common_name="é" * 40, dns_names=names, ip_addresses=[]))
    args["ca"]["common_name"] = f"Integr8sCode {long} CA"
    assert run_part("certificates", args)["changed"]
    assert tools.names_of(certificate(tmp_path, "public")) == {
        long,
        "*.example.org",
        "under_score",
        ipaddress.ip_address("10.0.0.7"),
        ipaddress.ip_address("2001:db8::1"),
    }
    assert tools.common_name_of(certificate(tmp_path, "public")) == "é" * 32
    assert not run_part("certificates", args)["changed"]


# -- what stays, what is renewed


def test_a_second_run_changes_nothing(run_part: RunModule, tmp_path: Path) -> None:
    first = run_part("certificates", arguments(tmp_path))
    before = snapshot(tmp_path)
    second = run_part("certificates", arguments(tmp_path), diff=True)
    assert not second["changed"]
    assert second["changed_certificates"] == []
    assert second["diff"]["before"] == second["diff"]["after"]
    assert snapshot(tmp_path) == before
    for old, new in zip(first["certificates"], second["certificates"], strict=True):
        assert {**new, "reasons": old["reasons"]} == old


def damage_missing(base: Path) -> None:
    (base / "tls/backend/server.crt").unlink()


def damage_key_missing(base: Path) -> None:
    (base / "tls/backend/server.key").unlink()


def damage_garbage(base: Path) -> None:
    (base / "tls/backend/server.crt").chmod(0o644)
    (base / "tls/backend/server.crt").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")


def damage_empty(base: Path) -> None:
    (base / "tls/backend/server.crt").chmod(0o644)
    (base / "tls/backend/server.crt").write_text("")


def damage_key_garbage(base: Path) -> None:
    (base / "tls/backend/server.key").chmod(0o600)
    (base / "tls/backend/server.key").write_text("no key")


def damage_other_key(base: Path) -> None:
    (base / "tls/backend/server.key").chmod(0o600)
    (base / "tls/backend/server.key").write_bytes(tools.key_pem(tools.new_key()))


def damage_other_authority(base: Path) -> None:
    key = tools.new_key()
    other = tools.make_ca(key, "Test CA", 10)
    names = tools.parse_names(["backend", "localhost"], ["127.0.0.1"])
    leaf_key = tools.new_key()
    end = tools.now() + timedelta(days=300)
    leaf = tools.make_leaf(leaf_key, other, key, common_name="backend", names=names, end=end)
    for name, content in (("server.key", tools.key_pem(leaf_key)), ("server.crt", tools.certificate_pem(leaf))):
        (base / "tls/backend" / name).chmod(0o600)
        (base / "tls/backend" / name).write_bytes(content)


def damage_mode(base: Path) -> None:
    (base / "tls/backend/server.key").chmod(0o444)


def damage_directory_mode(base: Path) -> None:
    (base / "tls/backend").chmod(0o777)


DAMAGES = {
    damage_missing: "missing",
    damage_key_missing: "key missing",
    damage_garbage: "certificate not readable",
    damage_empty: "certificate not readable",
    damage_key_garbage: "key not readable",
    damage_other_key: "key does not fit",
    damage_other_authority: "issued by another authority",
    damage_mode: "owner or permissions differ",
    damage_directory_mode: "owner or permissions differ",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_is_named_predicted_and_repaired(run_part: RunModule, tmp_path: Path, damage: Any) -> None:
    run_part("certificates", arguments(tmp_path))
    good = snapshot(tmp_path)
    damage(tmp_path)
    damaged = snapshot(tmp_path)
    predicted = run_part("certificates", arguments(tmp_path), check=True, diff=True)
    assert snapshot(tmp_path) == damaged
    result = run_part("certificates", arguments(tmp_path), diff=True)
    for one in (predicted, result):
        assert one["changed"]
        assert one["changed_certificates"] == ["backend"]
        assert any(reason.startswith(DAMAGES[damage]) for reason in reasons(one))
    assert predicted["diff"] == result["diff"]
    assert_pair(tmp_path)
    untouched = [path for path in good if "backend" not in path]
    assert {path: snapshot(tmp_path)[path] for path in untouched} == {path: good[path] for path in untouched}
    if "mode" in damage.__name__:
        assert snapshot(tmp_path) == good, "a wrong permission is no reason for a new certificate"
    assert not run_part("certificates", arguments(tmp_path))["changed"]


@pytest.mark.parametrize(
    "change",
    [
        {"dns_names": ["backend"]},
        {"dns_names": ["backend", "localhost", "more"]},
        {"ip_addresses": ["127.0.0.2"]},
        {"common_name": "other"},
    ],
)
def test_other_names_mean_a_new_certificate(run_part: RunModule, tmp_path: Path, change: dict[str, Any]) -> None:
    run_part("certificates", arguments(tmp_path))
    result = run_part("certificates", arguments(tmp_path, entry(tmp_path, "backend", **change)))
    assert reasons(result) == ["names differ"]
    assert_pair(tmp_path)


def test_the_order_of_names_means_nothing(run_part: RunModule, tmp_path: Path) -> None:
    run_part("certificates", arguments(tmp_path))
    swapped = entry(tmp_path, "backend", dns_names=["LOCALHOST", "backend"])
    assert not run_part("certificates", arguments(tmp_path, swapped))["changed"]


def test_renewal_when_less_than_a_third_is_left(
    run_part: RunModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_part("certificates", arguments(tmp_path))
    old = certificate(tmp_path)
    later(monkeypatch, days=240)
    assert not run_part("certificates", arguments(tmp_path))["changed"]
    later(monkeypatch, days=250)
    predicted = run_part("certificates", arguments(tmp_path), check=True)
    result = run_part("certificates", arguments(tmp_path))
    assert reasons(result) == reasons(predicted) == ["32% of its life left"]
    assert not result["ca"]["new"]
    new = certificate(tmp_path)
    assert tools.valid_until(new) - tools.valid_until(old) > timedelta(days=249)
    assert not tools.fits(tools.load_key((tmp_path / "tls/backend/server.key").read_bytes()), old), "a new key too"
    assert not run_part("certificates", arguments(tmp_path))["changed"]


def test_the_fraction_is_a_variable(run_part: RunModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_part("certificates", arguments(tmp_path))
    later(monkeypatch, days=250)
    assert not run_part("certificates", arguments(tmp_path, renew_fraction=0.1))["changed"]
    assert run_part("certificates", arguments(tmp_path, renew_fraction=0.9))["changed"]


def test_an_expired_certificate_and_one_of_the_future_are_renewed(
    run_part: RunModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_part("certificates", arguments(tmp_path))
    later(monkeypatch, days=400)
    assert reasons(run_part("certificates", arguments(tmp_path))) == ["0% of its life left"]
    later(monkeypatch, days=0)
    assert reasons(run_part("certificates", arguments(tmp_path))) == ["not valid yet"]


# -- the authority


def test_a_certificate_never_outlives_its_authority(
    run_part: RunModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_part("certificates", arguments(tmp_path))
    later(monkeypatch, days=3600)
    result = run_part("certificates", arguments(tmp_path))
    assert tools.valid_until(certificate(tmp_path)) == tools.valid_until(authority(tmp_path))
    assert "The authority" in str(result["warnings"])
    assert not run_part("certificates", arguments(tmp_path))["changed"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda ca, key: key.unlink(), "ca.key is missing"),
        (lambda ca, key: key.write_text("x"), "ca.key is broken: it is not a private key"),
        (lambda ca, key: ca.write_text("x"), "ca.crt is broken: it holds no PEM block"),
        (lambda ca, key: key.write_bytes(tools.key_pem(tools.new_key())), "does not fit its certificate"),
    ],
)
@pytest.mark.parametrize("check", [True, False])
def test_a_broken_authority_is_an_error_and_never_replaced(
    run_part: RunModule, tmp_path: Path, damage: Any, message: str, check: bool
) -> None:
    run_part("certificates", arguments(tmp_path))
    files = (tmp_path / "tls/ca/ca.crt", tmp_path / "tls/ca/ca.key")
    for file in files:
        file.chmod(0o600)
    damage(*files)
    before = snapshot(tmp_path)
    result = run_part("certificates", arguments(tmp_path), check=check)
    assert result["failed"]
    assert message in result["msg"]
    assert f"Restore {files[0]} and {files[1]} from a backup. Or remove both" in result["msg"]
    assert snapshot(tmp_path) == before


def test_an_expired_authority_is_an_error(run_part: RunModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_part("certificates", arguments(tmp_path))
    later(monkeypatch, days=3651)
    result = run_part("certificates", arguments(tmp_path))
    assert result["failed"]
    assert "expired on" in result["msg"]
    assert "Or remove both" in result["msg"]


def test_a_removed_authority_means_new_certificates(run_part: RunModule, tmp_path: Path) -> None:
    run_part("certificates", arguments(tmp_path))
    for name in ("ca.crt", "ca.key"):
        (tmp_path / "tls/ca" / name).unlink()
    predicted = run_part("certificates", arguments(tmp_path), check=True)
    result = run_part("certificates", arguments(tmp_path))
    assert result["ca"]["new"]
    assert reasons(result) == reasons(predicted) == ["issued by another authority"]
    assert reasons(result, "edge") == ["issued by another authority", "ca.crt is of another authority"]
    assert_pair(tmp_path)
    assert_pair(tmp_path, "edge")


def test_a_lost_certificate_of_the_authority_is_made_again_for_its_key(run_part: RunModule, tmp_path: Path) -> None:
    """Also what a run leaves that was stopped between the authority's key and certificate."""
    run_part("certificates", arguments(tmp_path))
    leaf = certificate(tmp_path)
    (tmp_path / "tls/ca/ca.crt").unlink()
    result = run_part("certificates", arguments(tmp_path))
    assert result["changed"]
    assert certificate(tmp_path) == leaf
    assert_pair(tmp_path)
    assert reasons(result, "edge") == ["ca.crt is of another authority"]
    assert not run_part("certificates", arguments(tmp_path))["changed"]


def test_permissions_of_the_authority_are_put_right(run_part: RunModule, tmp_path: Path) -> None:
    run_part("certificates", arguments(tmp_path))
    (tmp_path / "tls/ca/ca.key").chmod(0o644)
    result = run_part("certificates", arguments(tmp_path))
    assert result["changed"]
    assert result["changed_certificates"] == []
    assert stat.S_IMODE((tmp_path / "tls/ca/ca.key").stat().st_mode) == 0o400


# -- check mode, interruptions, leaks


def test_check_mode_on_a_fresh_server(run_part: RunModule, tmp_path: Path) -> None:
    predicted = run_part("certificates", arguments(tmp_path), check=True, diff=True)
    assert not (tmp_path / "tls").exists()
    result = run_part("certificates", arguments(tmp_path), diff=True)
    assert predicted["diff"] == result["diff"]
    assert predicted["diff"]["before"] == "backend: none\nedge: none\n"
    for one, other in zip(predicted["certificates"], result["certificates"], strict=True):
        assert one["fingerprint"] == ""
        assert one["not_after"][:13] == other["not_after"][:13]
        assert (one["reasons"], one["name"]) == (other["reasons"], other["name"])
    assert predicted["changed_certificates"] == result["changed_certificates"]


@pytest.mark.parametrize("stop_at", range(8))
def test_an_interrupted_run_is_finished_by_the_next(
    run_part: RunModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    written: list[Path] = []
    real = atomic_files.write_file

    def write(path: Path, content: bytes, access: Any) -> None:
        if len(written) == stop_at:
            raise OSError(28, "No space left on device", str(path))
        written.append(path)
        real(path, content, access)

    monkeypatch.setattr(store, "write_file", write)
    first = run_part("certificates", arguments(tmp_path))
    assert bool(first.get("failed")) == (stop_at < 7), "two files of the authority, two of backend, three of edge"
    monkeypatch.setattr(store, "write_file", real)
    again = run_part("certificates", arguments(tmp_path))
    assert again["changed"] == (stop_at < 7)
    assert_pair(tmp_path)
    assert_pair(tmp_path, "edge")
    assert not run_part("certificates", arguments(tmp_path))["changed"]


def test_no_key_is_returned_or_logged(run_part: RunModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ansible.module_utils.basic import AnsibleModule

    logged: list[str] = []
    monkeypatch.setattr(AnsibleModule, "log", lambda self, msg, log_args=None: logged.append(f"{msg} {log_args}"))
    pem, key, _ = provided_pair(["backend"])
    for changes in ({}, {"dns_names": ["other"]}, {"key_mode": "0444"}):
        args = arguments(
            tmp_path,
            entry(tmp_path, "own"),
            entry(
                tmp_path,
                "backend",
                **{
                    "dns_names": ["backend"],
                    "ip_addresses": [],
                    "provided_certificate": pem,
                    "provided_key": key,
                    **changes,
                },
            ),
        )
        for check in (True, False):
            result = run_part("certificates", args, check=check, diff=True)
            assert bool(result.get("failed")) == bool(changes)
            text = json.dumps(result) + "".join(logged)
            assert "PRIVATE KEY" not in text
            for path in (tmp_path / "tls").rglob("*.key"):
                for line in path.read_text().splitlines()[1:-1]:
                    assert line not in text
            for line in key.splitlines()[1:-1]:
                assert line not in text
    assert any("Invoked with" in line for line in logged)
    assert str(tmp_path / "tls/ca/ca.crt") in json.dumps(
        run_part("certificates", arguments(tmp_path, entry(tmp_path, "own"), entry(tmp_path, "tls")))
    ), "a name such as tls does not blot out paths"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dns_names": [], "ip_addresses": []}, "certificate x: it has no name"),
        ({"dns_names": ["bad name"]}, "certificate x: 'bad name' is not a DNS name"),
        ({"dns_names": ["münchen.example"]}, "xn--"),
        ({"ip_addresses": ["localhost"]}, "'localhost' is not an IP address"),
        ({"valid_days": 0}, "valid_days must be 1 or more"),
        ({"key_mode": "0444"}, "with key_mode 0444 others could read the key"),
        ({"certificate_mode": "rw"}, "'rw' is not an octal mode"),
        ({"provided_certificate": "x"}, "belong together"),
        ({"name": "backend"}, "two certificates have the same name: backend"),
    ],
)
def test_bad_input_is_refused_before_anything_changes(
    run_part: RunModule, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    args = arguments(tmp_path, entry(tmp_path, "backend"), {**entry(tmp_path, "x"), **changes})
    result = run_part("certificates", args)
    assert result["failed"]
    assert message in result["msg"]
    assert not (tmp_path / "tls").exists()


def test_two_certificates_in_one_directory_are_refused(run_part: RunModule, tmp_path: Path) -> None:
    other = entry(tmp_path, "x", directory=str(tmp_path / "tls/backend"))
    result = run_part("certificates", arguments(tmp_path, entry(tmp_path, "backend"), other))
    assert "the same directory" in result["msg"]


@pytest.mark.parametrize("fraction", [0, 1, -1])
def test_a_fraction_is_a_fraction(run_part: RunModule, tmp_path: Path, fraction: float) -> None:
    result = run_part("certificates", arguments(tmp_path, renew_fraction=fraction))
    assert result["failed"]
    assert "renew_fraction" in result["msg"]


# -- provided certificates


def provided_pair(
    names: list[str], days: int = 90, *, key: Any = None, with_root: bool = False
) -> tuple[str, str, Any]:
    """A chain (server, intermediate, on demand root) and its key in PEM form, and the parts."""
    root_key, middle_key, leaf_key = tools.new_key(), tools.new_key(), key or tools.new_key()
    root = tools.make_ca(root_key, "Public root", 1000)
    middle = (
        tools._builder("Intermediate", root.subject, middle_key.public_key(), tools.now() + timedelta(days=500))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(root_key, tools.hashes.SHA256())
    )
    leaf = tools.make_leaf(
        leaf_key,
        middle,
        middle_key,
        common_name=names[0],
        names=tools.parse_names(names, []),
        end=tools.now() + timedelta(days=days),
    )
    chain = [leaf, middle, *([root] if with_root else [])]
    pem = "".join(tools.certificate_pem(one).decode() for one in chain)
    return pem, tools.key_pem(leaf_key).decode(), chain


def provided(base: Path, pem: str, key: str, **changes: Any) -> dict[str, Any]:
    one = entry(base, "public", dns_names=["app.example.org"], ip_addresses=[], with_ca=True)
    return arguments(base, {**one, "provided_certificate": pem, "provided_key": key, **changes})


def test_a_provided_certificate_is_used_as_it_is(run_part: RunModule, tmp_path: Path) -> None:
    pem, key, chain = provided_pair(["app.example.org"])
    predicted = run_part("certificates", provided(tmp_path, pem, key), check=True, diff=True)
    result = run_part("certificates", provided(tmp_path, pem, key), diff=True)
    assert predicted["certificates"] == result["certificates"]
    assert predicted["diff"] == result["diff"]
    assert result["certificates"][0]["fingerprint"] == tools.fingerprint(chain[0])
    assert (tmp_path / "tls/public/server.crt").read_text() == pem
    assert (tmp_path / "tls/public/server.key").read_text() == key
    assert not (tmp_path / "tls/public/ca.crt").exists(), "the private authority has not signed it"
    assert not run_part("certificates", provided(tmp_path, f"\n{pem}\n\n", key))["changed"]


def test_a_root_that_came_with_it_is_what_clients_trust(run_part: RunModule, tmp_path: Path) -> None:
    pem, key, chain = provided_pair(["app.example.org"], with_root=True)
    run_part("certificates", provided(tmp_path, pem, key))
    assert (tmp_path / "tls/public/ca.crt").read_bytes() == tools.certificate_pem(chain[-1])


def test_from_own_to_provided_and_back(run_part: RunModule, tmp_path: Path) -> None:
    own = arguments(tmp_path, entry(tmp_path, "public", dns_names=["app.example.org"], ip_addresses=[], with_ca=True))
    run_part("certificates", own)
    pem, key, _ = provided_pair(["app.example.org"])
    there = run_part("certificates", provided(tmp_path, pem, key))
    assert reasons(there, "public") == ["another one was provided", "ca.crt is of another authority"]
    assert not (tmp_path / "tls/public/ca.crt").exists()
    assert not run_part("certificates", provided(tmp_path, pem, key))["changed"]
    back = run_part("certificates", own)
    assert "issued by another authority" in reasons(back, "public")
    assert_pair(tmp_path, "public")
    assert (tmp_path / "tls/public/ca.crt").exists()


def test_a_provided_wildcard_covers_one_label(run_part: RunModule, tmp_path: Path) -> None:
    pem, key, _ = provided_pair(["*.example.org"])
    assert run_part("certificates", provided(tmp_path, pem, key))["changed"]
    deep = run_part("certificates", provided(tmp_path, pem, key, dns_names=["a.b.example.org"]))
    assert "is not for a.b.example.org" in deep["msg"]


def test_a_provided_rsa_key(run_part: RunModule, tmp_path: Path) -> None:
    rsa_key: Any = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem, key, _ = provided_pair(["app.example.org"], key=rsa_key)
    assert run_part("certificates", provided(tmp_path, pem, key))["changed"]


def test_a_provided_certificate_near_its_end(
    run_part: RunModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pem, key, _ = provided_pair(["app.example.org"], days=90)
    run_part("certificates", provided(tmp_path, pem, key))
    later(monkeypatch, days=70)
    result = run_part("certificates", provided(tmp_path, pem, key))
    assert not result["changed"]
    assert "The provided certificate public ends on" in str(result["warnings"])
    later(monkeypatch, days=91)
    result = run_part("certificates", provided(tmp_path, pem, key))
    assert "expired on" in result["msg"]


def swap(pem: str, *order: int) -> str:
    blocks = tools.PEM_CERTIFICATE.findall(pem.encode())
    return "\n".join(blocks[index].decode() for index in order)


def encrypted(key: str) -> str:
    loaded = tools.load_key(key.encode())
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x"))
    text: str = loaded.private_bytes(*form).decode()
    return text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda pem, key: (pem, tools.key_pem(tools.new_key()).decode()), "provided_key does not fit"),
        (lambda pem, key: (swap(pem, 1, 0), key), "The file must begin with the server's own certificate"),
        (lambda pem, key: (swap(pem, 0, 2), key), "CN=app.example.org is not followed by its issuer CN=Intermediate"),
        (lambda pem, key: (pem, "garbage"), "provided_key: it is not a private key in PEM form"),
        (lambda pem, key: (pem, encrypted(key)), "provided_key: it is encrypted. Decrypt it"),
        (lambda pem, key: ("garbage", key), "provided_certificate: it holds no PEM block"),
        (lambda pem, key: (swap(pem, 0).replace("M", "%", 5), key), "provided_certificate: "),
        (lambda pem, key: (pem, ""), "belong together"),
    ],
)
def test_a_provided_certificate_that_cannot_work_is_refused(
    run_part: RunModule, tmp_path: Path, change: Any, message: str
) -> None:
    pem, key, _ = provided_pair(["app.example.org"], with_root=True)
    result = run_part("certificates", provided(tmp_path, *change(pem, key)))
    assert result["failed"]
    assert f"certificate public: {message}" in result["msg"] or message in result["msg"]
    assert not (tmp_path / "tls").exists()


def test_one_of_the_future_is_refused(run_part: RunModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pem, key, _ = provided_pair(["app.example.org"])
    later(monkeypatch, days=-2)
    result = run_part("certificates", provided(tmp_path, pem, key))
    assert "is valid only from" in result["msg"]
    assert "clock" in result["msg"]


def test_without_cryptography_the_message_names_the_package(
    run_part: RunModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "HAS_CRYPTOGRAPHY", False)
    result = run_part("certificates", arguments(tmp_path))
    assert "apt-get install python3-cryptography" in result["msg"]
