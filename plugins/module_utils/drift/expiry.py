"""Certificates and tokens: whose they are, for which names, and when they end."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils import certificate_tools as tools
from ansible.module_utils.drift.findings import Comparison, Severity
from ansible.module_utils.drift.probes import UnansweredError
from ansible.module_utils.drift.reading import describe, keyed, read, text
from ansible.module_utils.k3s_certificates import read_certificates
from ansible.module_utils.k3s_common import K3sError
from ansible.module_utils.kubeconfig_file import read_claims
from ansible.module_utils.kubernetes_access_client import KubeconfigError, parse_kubeconfig

DAY = 86400.0


def _need_library() -> None:
    if not tools.HAS_CRYPTOGRAPHY:
        raise UnansweredError("python3-cryptography is not installed")


def _seconds(moment: Any) -> float:
    return float(moment.timestamp())


def _service_certificate(directory: Path, authority: Any) -> dict[str, Any]:
    crt, key, ca = (directory / name for name in ("server.crt", "server.key", "ca.crt"))
    found: dict[str, Any] = {"access": {str(p): describe(p) for p in (directory, crt, key, ca)}, "problem": ""}
    try:
        certificate = tools.load_chain(read(crt) or b"")[0]
        private = tools.load_key(read(key) or b"")
    except ValueError as error:
        return {**found, "problem": str(error)}
    begin, end = tools.valid_from(certificate), tools.valid_until(certificate)
    return {
        **found,
        "begins": _seconds(begin),
        "ends": _seconds(end),
        "names": sorted(str(name) for name in tools.names_of(certificate)),
        "fits": tools.fits(private, certificate),
        "own_authority": authority is not None and tools.issued_by(certificate, authority),
        "fingerprint": tools.fingerprint(certificate),
    }


def collect_certificates(expected: Mapping[str, Any]) -> dict[str, Any]:
    """The stack's certificates by name, and the authority's end. Raises UnansweredError."""
    _need_library()
    path = Path(expected["authority"])
    authority = None
    found: dict[str, Any] = {"authority": None, "services": {}}
    if describe(path) is not None:
        try:
            authority = tools.load_chain(read(path) or b"")[0]
            found["authority"] = {"path": str(path), "ends": _seconds(tools.valid_until(authority))}
        except ValueError as error:
            found["authority"] = {"path": str(path), "ends": 0.0, "problem": str(error)}
    for one in expected["certificates"]:
        found["services"][one["name"]] = _service_certificate(Path(one["directory"]), authority)
    return found


def collect_k3s_certificates() -> list[dict[str, Any]]:
    """k3s' own certificates. Raises UnansweredError."""
    _need_library()
    try:
        found, problems = read_certificates()
    except K3sError as error:
        raise UnansweredError(str(error).partition(" Cure:")[0]) from None
    broken = [one.partition(" is no certificate")[0] for one in problems]
    return [
        *({"path": one.path, "authority": one.authority, "ends": one.expires} for one in found),
        *({"path": path, "authority": False, "ends": 0.0, "broken": True} for path in broken),
    ]


def collect_kubeconfigs(expected: Mapping[str, Any]) -> dict[str, Any]:
    """The workers' kubeconfigs: server, whose token, when it ends; never the token."""
    found: dict[str, Any] = {"ca": "", "workers": {}}
    with contextlib.suppress(KubeconfigError):
        found["ca"] = keyed(parse_kubeconfig(text(expected["admin_kubeconfig"])).ca.strip().encode(), b"ca")
    for worker in expected["workers"]:
        path = Path(expected["directory"]) / f"{worker}.yaml"
        access = describe(path)
        entry: dict[str, Any] = {"path": str(path), "access": access, "problem": ""}
        if access is not None and access["kind"] == "file":
            try:
                credentials = parse_kubeconfig(text(path))
                claims = read_claims(credentials.token)
                entry |= {
                    "server": credentials.server,
                    "account": f"{claims.namespace}/{claims.account}",
                    "begins": float(claims.issued),
                    "ends": float(claims.expires),
                    "uid": claims.uid,
                    "ca": keyed(credentials.ca.strip().encode(), b"ca"),
                }
            except KubeconfigError as error:
                entry["problem"] = str(error)
        found["workers"][worker] = entry
    return found


def left(ends: float, now: float) -> str:
    """How long something still lives, in words."""
    days = (ends - now) / DAY
    if days < 0:
        return f"ended {-days:.0f} days ago" if days < -1 else "has ended"
    return f"{days:.0f} days left" if days >= 2 else f"{days * 24:.0f} hours left"


def compare_certificates(
    result: Comparison, expected: Mapping[str, Any], facts: Mapping[str, Any], now: float, tag: str
) -> None:
    """Compare the stack's certificates.

    `certificates`: `name`, `directory`, `names`, `owner`, `with_ca`, `provided`, and `content` of a provided one;
    `provided_days`: when its end is told; own ones are renewed by a deploy below `renew_fraction` of their life.
    """
    cure = result.deploy(tag)
    for wanted in expected["certificates"]:
        item, found = f"tls {wanted['name']}", facts["services"][wanted["name"]]
        result.count("expiry", 4)
        if found["problem"]:
            result.add(
                "expiry",
                item,
                "certificate",
                expected="a certificate with its key",
                found=found["problem"],
                cure=cure,
                severity="critical",
                absent=not any(found["access"].values()),
            )
            continue
        if not found["fits"]:
            result.add(
                "expiry",
                item,
                "key",
                expected="fits its certificate",
                found="the key of another one",
                cure=cure,
                severity="critical",
            )
        names = {str(name).lower() for name in wanted["names"]}
        missing = sorted(names - set(found["names"])) if not wanted["provided"] else []
        if missing:
            result.add(
                "expiry", item, "names", expected=sorted(names), found=found["names"], cure=cure, severity="critical"
            )
        if not wanted["provided"] and not found["own_authority"]:
            result.add(
                "expiry",
                item,
                "issuer",
                expected="the server's own authority",
                found="another one",
                cure=cure,
                severity="critical",
            )
        if wanted["provided"]:
            _content(result, item, str(wanted.get("content") or ""), found, cure)
        _ending(result, item, found, now, cure, provided=bool(wanted["provided"]), expected=expected)
        _accesses(result, wanted, found, cure)
    authority = facts["authority"]
    result.count("expiry")
    if authority is None:
        cure_ca = (
            f"By hand: restore {expected['authority']} from a backup, or {cure} makes a new one that clients "
            "must be given"
        )
        result.add(
            "expiry",
            "tls authority",
            "missing",
            expected="a certificate",
            found="nothing",
            cure=cure_ca,
            severity="critical",
            absent=True,
        )
    elif authority.get("problem") or authority["ends"] < now + 30 * DAY:
        by_hand = f"By hand: remove {Path(expected['authority']).parent}, then {cure}; give the new ca.crt to clients"
        is_now = authority.get("problem") or left(authority["ends"], now)
        result.add(
            "expiry",
            "tls authority",
            "end",
            expected="30 days or more",
            found=is_now,
            cure=by_hand,
            severity="critical",
        )


def _content(result: Comparison, item: str, content: str, found: Mapping[str, Any], cure: str) -> None:
    """Compare a provided certificate with the inventory's."""
    try:
        meant = tools.fingerprint(tools.load_chain(content.encode())[0])
    except ValueError:
        return  # a deploy refuses it, and says why
    if found["fingerprint"] != meant:
        wanted = "the certificate of the inventory"
        result.add("expiry", item, "content", expected=wanted, found="another one", cure=cure, severity="critical")


def _ending(
    result: Comparison,
    item: str,
    found: Mapping[str, Any],
    now: float,
    cure: str,
    *,
    provided: bool,
    expected: Mapping[str, Any],
) -> None:
    ends, life = found["ends"], found["ends"] - found["begins"]
    if provided:
        limit = float(expected.get("provided_days", 21)) * DAY
        cure = "By hand: get a new certificate, put it into integr8scode_tls_certificate and its key, then " + cure
    else:
        limit = life * float(expected.get("renew_fraction", 1 / 3))
    if ends - now < limit:
        severity: Severity = "critical" if ends - now < 7 * DAY else "warning"
        result.add(
            "expiry",
            item,
            "end",
            expected=f"{limit / DAY:.0f} days or more",
            found=left(ends, now),
            cure=cure,
            severity=severity,
        )
    elif found["begins"] > now:
        result.add(
            "expiry",
            item,
            "begin",
            expected="it is valid",
            found="not yet",
            cure="By hand: look at the server's clock (date -u)",
            severity="critical",
        )


def _accesses(result: Comparison, wanted: Mapping[str, Any], found: Mapping[str, Any], cure: str) -> None:
    for path, access in found["access"].items():
        result.count("files")
        if access is None:
            if not path.endswith("ca.crt") or (wanted["with_ca"] and not wanted["provided"]):
                result.add("files", path, "missing", expected="a file", found="nothing", cure=cure, severity="critical")
            continue
        directory = path == str(wanted["directory"])
        meant = (
            {"mode": "0755", "owner": 0}
            if directory
            else {"mode": "0400" if path.endswith(".key") else "0444", "owner": int(wanted["owner"])}
        )
        for name, value in meant.items():
            result.same("files", path, name, expected=value, found=access[name], cure=cure, severity="critical")


def compare_k3s_certificates(
    result: Comparison, expected: Mapping[str, Any], facts: list[Mapping[str, Any]], now: float
) -> None:
    """Compare the ends of k3s' certificates with `restart_days` and `authority_days` (those of role maintenance)."""
    cure = result.playbook("renew-kubeconfig")
    for one in facts:
        result.count("expiry")
        days = (one["ends"] - now) / DAY
        if one.get("broken"):
            # k3s itself takes what it cannot read for one that has not ended, and does not start with it
            result.add(
                "expiry",
                str(one["path"]),
                "certificate",
                expected="a certificate",
                found="something else",
                cure=f"By hand: move {one['path']} away and run systemctl restart k3s.service, which makes it anew",
                severity="critical",
            )
        elif one["authority"]:
            if days < float(expected["authority_days"]):
                by_hand = "By hand: k3s certificate rotate-ca, as k3s' documentation tells, then " + cure
                result.add(
                    "expiry",
                    str(one["path"]),
                    "end",
                    expected=f"{expected['authority_days']} days or more",
                    found=left(one["ends"], now),
                    cure=by_hand,
                )
        elif days < float(expected["restart_days"]):
            severity: Severity = "critical" if days < 7 else "warning"
            result.add(
                "expiry",
                str(one["path"]),
                "end",
                expected=f"{expected['restart_days']} days or more",
                found=left(one["ends"], now),
                cure=cure,
                severity=severity,
            )


def compare_kubeconfigs(
    result: Comparison, expected: Mapping[str, Any], facts: Mapping[str, Any], now: float, uids: Mapping[str, str]
) -> None:
    """Compare the workers' kubeconfigs: `server`, `namespace`, `owner`, `lifetime` (seconds, at a third it is renewed).

    :param uids: of the accounts in the cluster, by worker; {} when the cluster does not answer.
    """
    cure = result.playbook("renew-kubeconfig")
    for worker, found in facts["workers"].items():
        path, access = str(found["path"]), found["access"]
        result.count("expiry", 4)
        if access is None or access["kind"] != "file":
            result.add(
                "files",
                path,
                "missing",
                expected="a file",
                found="nothing" if access is None else f"a {access['kind']}",
                cure=cure,
                severity="critical",
            )
            continue
        result.same("files", path, "mode", expected="0400", found=access["mode"], cure=cure, severity="critical")
        result.same(
            "files",
            path,
            "owner",
            expected=int(expected["owner"]),
            found=access["owner"],
            cure=cure,
            severity="critical",
        )
        if found["problem"]:
            result.add(
                "expiry",
                path,
                "token",
                expected="a kubeconfig with a worker's token",
                found=found["problem"],
                cure=cure,
                severity="critical",
            )
            continue
        result.same(
            "expiry",
            path,
            "server",
            expected=str(expected["server"]).rstrip("/"),
            found=found["server"].rstrip("/"),
            cure=cure,
            severity="critical",
        )
        account = f"{expected['namespace']}/{worker}"
        result.same("expiry", path, "account", expected=account, found=found["account"], cure=cure, severity="critical")
        life = float(expected["lifetime"])
        if facts["ca"] and found["ca"] != facts["ca"]:
            result.add(
                "expiry",
                path,
                "authority",
                expected="k3s' own",
                found="another one: it trusts another cluster",
                cure=cure,
                severity="critical",
            )
        if uids.get(worker) and uids[worker] != found["uid"]:
            result.add(
                "expiry",
                path,
                "account",
                expected="the account that the cluster has",
                found="one that was deleted, and made again",
                cure=cure,
                severity="critical",
            )
        # the timer looks once a day
        if found["ends"] - now < life / 3 - min(DAY, life / 10):
            severity: Severity = "critical" if found["ends"] - now < min(2 * DAY, life / 10) else "warning"
            result.add(
                "expiry",
                path,
                "end",
                expected=f"{life / 3 / DAY:.1f} days or more",
                found=left(found["ends"], now),
                cure=cure,
                severity=severity,
            )
