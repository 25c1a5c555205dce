"""The unit's journal: the lines of each recent start, and the signatures of what goes wrong.

Signatures are the constant part of a message, in any case: releases wrap and prefix them differently.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ansible.module_utils.k3s_common import UNIT

# One start of k3s writes some 500 lines until it ends itself, and the one before it has to be seen as well: while a
# start is under way, or ends just now, only that one tells why.
LINES = 5000
LINE_LENGTH = 600  # of what is kept of a line; k3s writes whole command lines
_ADDRESS = r"\[?(?P<address>[0-9a-fA-F:.]*)\]?"


@dataclass(frozen=True)
class Start:
    """One start of the unit. `clean`: it was stopped and did not fail."""

    invocation: str
    began: float  # seconds since 1970
    lines: list[str] = field(default_factory=list)
    clean: bool = False


@dataclass(frozen=True)
class Journal:
    """The unit's recent starts, the oldest first. With a `problem` nothing could be read."""

    starts: list[Start] = field(default_factory=list)
    problem: str = ""


@dataclass(frozen=True)
class Match:
    """A signature that was found: its name, what it names (address, port, files …) and the line."""

    name: str
    values: dict[str, str]
    line: str


def _signature(name: str, *patterns: str) -> tuple[str, re.Pattern[str]]:
    return name, re.compile("|".join(patterns), re.IGNORECASE)


# etcd says the same of damage and of files that it may not read, write or lock now; the error stands behind it
_NOT_THE_FILES = (
    r"(?!.*(?:no space left|quota exceeded|read-only file system|permission denied|too many open files|timeout"
    r"|file lock|temporarily unavailable))"
)
SIGNATURES = (
    _signature(
        "node_ip_gone", r"node IP: \\*\"?(?P<address>[0-9a-f:.]+)\\*\"? not found in the host's network interfaces"
    ),
    _signature("node_interface", r"failed to find interface with specified node ip"),
    _signature("no_default_route", r"no default routes found", r"unable to select an IP from default routes"),
    _signature("listen_gone", rf"listen tcp\d? {_ADDRESS}:(?P<port>\d+): bind: cannot assign requested address"),
    _signature("port_taken", rf"listen tcp\d? {_ADDRESS}:(?P<port>\d+): bind: address already in use"),
    _signature(
        "flannel_interface",
        r"interface (?P<interface>\S+) does not have a correct global unicast ip",
        r"unable to find interface(?: (?P<named>[^\s:]+))?: route ip\+net: no such network interface",
        r"unable to get global unicast ip from interface name",
        r"failed to find the interface",
    ),
    _signature(
        "token",
        r"encrypted with different token",
        r"cipher: message authentication failed",
        r"token CA hash does not match",
    ),
    _signature(
        "newer_files", r"(?P<files>(?:/[^\s,\"]+(?:,\s*)?)+)\s+newer than datastore and could cause a cluster outage"
    ),
    _signature(
        "node_password",
        r"node password rejected",
        r"node password validation failed",
        r"unable to verify hash for node",
    ),
    _signature("etcd_member", r"(?:is )?a?\s?not a member of the etcd cluster\.? ?(?P<members>Found .*?)?(?:\"|$)"),
    _signature(
        "etcd_damaged",
        r"walpb: crc mismatch",
        r"wal: crc mismatch",
        rf"failed to recover v3 backend from snapshot{_NOT_THE_FILES}",
        rf"recovering backend from snapshot error{_NOT_THE_FILES}",
        r"failed to find database snapshot file",
        r"tocommit\(\d+\) is out of range",
        r"freepages: failed to get all reachable pages",
        r"snap: snapshot file doesn't exist",
        r"invalid database(?! endpoint)",
        r"panic: .*(?:bbolt|freelist|page \d+)",
        r"wal: file not found",
        r"etcdserver: read wal error",
        rf"failed to open database{_NOT_THE_FILES}",
    ),
    _signature(
        "disk_full", r"database or disk is full", r"(?<!inotify )no space left on device", r"disk quota exceeded"
    ),
    _signature("read_only", r"read-only file system", r"attempt to write a readonly database"),
    _signature(
        "database",
        r"database disk image is malformed",
        r"file is not a database",
        r"file is encrypted or is not a database",
        r"malformed database schema",
        r"disk I/O error",
        r"unable to open database file",
        r"no such table: kine",
    ),
    _signature("cgroup_v1", r"configured to not run on a host using cgroup v1"),
    _signature("cgroup_missing", r"failed to find (?P<controller>memory|cpu|cpuset|pids) cgroup"),
    _signature(
        "too_many_files", r"too many open files", r"inotify.*no space left on device", r"user limit on .* inotify"
    ),
    _signature("oom", r"killed by the OOM killer", r"result 'oom-kill'"),
    _signature(
        "binary",
        r"Failed at step EXEC spawning",
        r"status=203/EXEC",
        r"exec format error",
        r"Main process exited, code=dumped",
    ),
    _signature(
        "unknown_option",
        r"flag provided but not defined: (?P<option>-\S+?)[\"\s]",
        r"flag provided but not defined: (?P<last>-\S+)$",
    ),
    _signature("yaml", r"msg=\"?yaml: (?P<yaml>[^\"]*)", r"cannot unmarshal \S+ .*into yaml\.MapSlice"),
    _signature("permission", r"open (?P<path>/\S+?): permission denied"),
    _signature("waiting_token", r"Waiting for (?P<file>/\S+) to be available"),
    _signature(
        "iptables", r"exec: \\*\"?ip6?tables\S*?\\*\"?: executable file not found", r"can't initialize ip6?tables table"
    ),
    _signature(
        "kernel_module",
        r"bridge-nf-call-ip6?tables: no such file",
        r"modprobe: FATAL: Module (?P<module>\S+) not found",
    ),
    _signature(
        "snapshot_datastore",
        r"connect to external datastore|dial tcp \S+:(?:3306|5432|2379): connect: connection refused",
    ),
    _signature("certificate_time", r"x509: certificate has expired or is not yet valid(?P<when>[^\"\\]*)"),
    _signature(
        "certificate",
        r"x509: certificate signed by unknown authority",
        r"x509: certificate is valid for",
        r"private key does not match public key",
        r"x509: cannot validate certificate",
        r"crypto/(?:rsa|ecdsa): verification error",
    ),
    _signature("already_reset", r"previously reset, please remove the cluster-reset flag"),
)

# While k3s ends for another reason its parts complain about each other's certificates as well.
DOUBTFUL = frozenset({"certificate", "certificate_time"})
WEAK = frozenset({"too_many_files", "permission", "iptables", "kernel_module", "cgroup_missing"})
_ERROR = re.compile(
    r"level=(?:fatal|error|panic)|\"level\":\"(?:fatal|error|panic)\"|^[EF]\d{4} |^panic:|Failed with result|^Error:"
)
_FATAL = re.compile(r"level=(?:fatal|panic)|\"level\":\"(?:fatal|panic)\"|^F\d{4} |^panic:|^Error:")
_CLEAN = re.compile(r"Deactivated successfully|k3s\.service: Succeeded|^Stopped ")
_FAILED = re.compile(r"Failed with result|Main process exited, code=exited, status=[1-9]")


def _record(text: str) -> tuple[str, float, str] | None:
    """Invocation, time and message of a line of `journalctl -o json`."""
    try:
        record = json.loads(text)
        message = record.get("MESSAGE") or ""
        if isinstance(message, list):
            # bytes that are no text
            message = bytes(message).decode(errors="replace")
        # systemd's own lines about a unit name its start in another field
        invocation = record.get("INVOCATION_ID") or record.get("_SYSTEMD_INVOCATION_ID") or ""
        return str(invocation), int(record.get("__REALTIME_TIMESTAMP") or 0) / 1e6, str(message)
    except (ValueError, TypeError, AttributeError):
        return None


def parse(text: str, secrets: Iterable[str] = ()) -> list[Start]:
    """The starts in the output of `journalctl -o json`. `secrets` are blotted out."""
    hidden = [one for one in secrets if len(one) >= 8]
    found: dict[str, Start] = {}
    for raw in text.splitlines():
        record = _record(raw)
        if record is None or not record[0]:
            continue
        invocation, when, message = record
        for one in hidden:
            message = message.replace(one, "********")
        start = found.setdefault(invocation, Start(invocation, when))
        start.lines.extend(line[:LINE_LENGTH] for line in message.splitlines() if line.strip())
    return [Start(one.invocation, one.began, one.lines, _ended_well(one.lines)) for one in found.values()]


def _ended_well(lines: list[str]) -> bool:
    """Whether the last that systemd says of a start is that it was stopped, and nothing that it failed."""
    for line in reversed(lines):
        if _FAILED.search(line) or _FATAL.search(line):
            return False
        if _CLEAN.search(line):
            return True
    return False


def read(secrets: Iterable[str] = (), unit: str = UNIT) -> Journal:
    """Read the last LINES of the unit's journal. Never raises."""
    command = ["journalctl", "-u", unit, "-o", "json", "-n", str(LINES), "--no-pager", "-q"]
    command.append("--output-fields=MESSAGE,INVOCATION_ID,_SYSTEMD_INVOCATION_ID")
    try:
        shown = subprocess.run(command, capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Journal(problem=f"the journal cannot be read: {error}")
    text = shown.stdout.decode(errors="replace")
    if shown.returncode != 0 and not text:
        return Journal(problem=f"the journal cannot be read: {shown.stderr.decode(errors='replace').strip()[:300]}")
    starts = parse(text, secrets)
    return Journal(starts, "" if starts else f"the journal has no line of {unit}")


def matches(lines: Sequence[str]) -> list[Match]:
    """The signatures in these lines, each once with its last line, in the order of SIGNATURES."""
    found = []
    for name, pattern in SIGNATURES:
        for line in reversed(lines):
            match = pattern.search(line)
            if match:
                values = {key: value for key, value in match.groupdict().items() if value}
                found.append(Match(name, values, quote(line)))
                break
    return found


def is_fatal(line: str) -> bool:
    """Whether a line is the last word of a process."""
    return _FATAL.search(line) is not None


def quote(line: str) -> str:
    """A line as evidence: the message alone, not too long."""
    match = re.search(r'level=(\w+) msg="((?:[^"\\]|\\.)*)"?', line)
    text = f"{match[1]}: {match[2]}" if match else line
    text = text.replace('\\"', '"').replace("\\n", " ").strip()
    return text if len(text) <= 400 else text[:400] + "…"


def last_errors(lines: Sequence[str], count: int = 4) -> list[str]:
    """The last error lines, fatal ones before others; the last lines where none is an error."""
    bad = [line for line in lines if _FATAL.search(line)] or [line for line in lines if _ERROR.search(line)]
    return [quote(line) for line in (bad or list(lines))[-count:]]
