"""Who may log in: accounts, keys, sudo, and what the ssh server really does."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.drift.findings import Comparison
from ansible.module_utils.drift.probes import UnansweredError
from ansible.module_utils.drift.reading import run, text

NO_LOGIN = ("/nologin", "/false", "/sync", "/shutdown", "/halt")
FIRST_PERSON, LAST_PERSON = 1000, 59999  # Debian's policy manual, 9.2.2: accounts of people
KINDS = ("ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-")


def fingerprint(line: str) -> str:
    """`SHA256:…` of a line of authorized_keys, as ssh-keygen -l shows it; "" for a comment or what is no key."""
    words = line.strip().split()
    for position, word in enumerate(words[:-1]):
        # options may stand before the kind, and may hold spaces
        if word.startswith(KINDS):
            try:
                blob = base64.b64decode(words[position + 1], validate=True)
            except (binascii.Error, ValueError):
                return ""
            return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    return ""


def _accounts() -> list[dict[str, Any]]:
    """Accounts with a shell to log in with; `password`: whether one is set. The hash itself is not kept."""
    hashes = {row[0]: row[1] for row in (line.split(":") for line in text("/etc/shadow").splitlines()) if len(row) > 1}
    found = []
    for line in text("/etc/passwd").splitlines():
        row = line.split(":")
        if len(row) != 7 or row[6].endswith(NO_LOGIN) or not row[6]:
            continue
        secret = hashes.get(row[0], "*")
        found.append(
            {
                "name": row[0],
                "uid": int(row[2]),
                "home": row[5],
                "shell": row[6],
                # a hash begins with $; ! and * fit no password; nothing at all lets anybody in
                "password": secret.startswith("$"),
                "empty_password": not secret,
            }
        )
    return found


def collect_users(expected: Mapping[str, Any]) -> dict[str, Any]:
    """Accounts, the keys that the ops user and root have, who is in group sudo, and the ssh server's settings."""
    keys: dict[str, list[dict[str, str]]] = {}
    accounts = _accounts()
    for account in accounts:
        for name in ("authorized_keys", "authorized_keys2"):
            path = os.path.join(account["home"], ".ssh", name)
            for line in text(path).splitlines():
                mark = fingerprint(line)
                if mark:
                    comment = line.split()[-1] if not line.split()[-1].endswith("=") else ""
                    keys.setdefault(account["name"], []).append({"fingerprint": mark, "comment": comment, "path": path})
    groups = {
        row[0]: row[3].split(",")
        for row in (line.split(":") for line in text("/etc/group").splitlines())
        if len(row) == 4
    }
    sshd: dict[str, str] = {}
    sshd_problem = ""
    if expected.get("sshd"):
        try:
            out = run("sshd", "-T", "-C", "user=root,host=localhost,addr=127.0.0.1")
            sshd = {
                row[0].lower(): row[1] for row in (line.split(maxsplit=1) for line in out.splitlines()) if len(row) == 2
            }
        except UnansweredError as error:
            sshd_problem = str(error)
    return {
        "accounts": accounts,
        "keys": keys,
        "groups": {name: [one for one in groups.get(name, []) if one] for name in ("sudo", "docker", "root", "adm")},
        "sshd": sshd,
        "sshd_problem": sshd_problem,
    }


def _compare_ops(result: Comparison, expected: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    cure = result.playbook("bootstrap")
    name = str(expected["name"])
    account = next((one for one in facts["accounts"] if one["name"] == name), None)
    result.count("users")
    if account is None:
        result.add(
            "users", name, "missing", expected="an account with a shell", found="none", cure=cure, severity="critical"
        )
        return
    found = {one["fingerprint"] for one in facts["keys"].get(name, [])}
    wanted = {fingerprint(line): line.split()[-1] for line in expected.get("keys", [])} if expected.get("keys") else {}
    for mark in sorted(set(wanted) - {""}):
        result.count("users")
        if mark not in found:
            result.add(
                "users",
                f"{name}: key {mark}",
                "missing",
                expected="may log in",
                found="may not",
                cure=cure,
                severity="critical",
            )
    if not wanted:
        return
    for key in facts["keys"].get(name, []):
        if key["fingerprint"] not in wanted:
            _unknown_key(result, name, key)


def _unknown_key(result: Comparison, name: str, key: Mapping[str, str]) -> None:
    result.add(
        "users",
        f"{name}: key {key['fingerprint']}",
        "unknown",
        expected="only keys of the inventory",
        found=f"a key more ({key['comment'] or 'no comment'}), which may log in",
        cure=f"By hand: take its line out of {key['path']}, or put the key into bootstrap_authorized_keys",
        severity="critical",
    )


def _compare_account(result: Comparison, account: Mapping[str, Any], known: set[str]) -> None:
    result.count("users")
    one = str(account["name"])
    if account["uid"] == 0 and one != "root":
        by_hand = f"By hand: find out who made {one}, then userdel --force {one}"
        result.add(
            "users",
            one,
            "root's number",
            expected="root alone has the number 0",
            found="number 0",
            cure=by_hand,
            severity="critical",
        )
    elif FIRST_PERSON <= account["uid"] <= LAST_PERSON and one not in known:
        by_hand = f"By hand: userdel {one} if nobody needs it, or name it in drift_known_users"
        result.add(
            "users", one, "unknown", expected="no such account", found="an account that can log in", cure=by_hand
        )
    if account["empty_password"]:
        by_hand = f"By hand: passwd --lock {one}"
        result.add(
            "users", one, "password", expected="none fits", found="an empty one", cure=by_hand, severity="critical"
        )


def _compare_sshd(result: Comparison, wanted: Mapping[str, str], facts: Mapping[str, Any]) -> None:
    # nobody but the ops user is meant to come in; accounts that are known bring their own keys
    for key in facts["keys"].get("root", []):
        if wanted.get("permitrootlogin") != "no" or facts["sshd"].get("permitrootlogin") != "no":
            _unknown_key(result, "root", key)
    if facts["sshd_problem"]:
        result.not_asked(
            "users",
            "the ssh server's settings",
            facts["sshd_problem"],
            "By hand: sshd -t says what is wrong with its configuration",
        )
    else:
        for setting, value in wanted.items():
            found = facts["sshd"].get(setting, "not set")
            # sshd takes the first value that it reads: that of another file, if the role's is as it should be
            cure = (
                f"By hand: grep -rni {setting} /etc/ssh/sshd_config /etc/ssh/sshd_config.d shows who says so before "
                f"10-ops-user.conf; take that out, then {result.playbook('bootstrap')}"
            )
            result.same(
                "users", f"sshd {setting}", "setting", expected=value, found=found, cure=cure, severity="critical"
            )


def compare_users(result: Comparison, expected: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Compare who may log in.

    `name` and `keys` (lines) of the ops user, `known` (names of accounts that belong here), `sshd` (settings that
    must be in force), `sudo` (whether `known` and the ops user are all that may be in the groups sudo and docker).
    """
    name = str(expected["name"])
    _compare_ops(result, expected, facts)
    known = {"root", name, *expected.get("known", [])}
    for account in facts["accounts"]:
        _compare_account(result, account, known)
    if expected.get("sshd"):
        _compare_sshd(result, expected["sshd"], facts)
    for group in ("sudo", "docker"):
        result.count("users")
        for member in facts["groups"].get(group, []):
            if member not in known:
                by_hand = f"By hand: gpasswd --delete {member} {group}, or name {member} in drift_known_users"
                result.add(
                    "users",
                    f"group {group}: {member}",
                    "unknown",
                    expected="not a member",
                    found="a member, which can become root",
                    cure=by_hand,
                    severity="critical",
                )
