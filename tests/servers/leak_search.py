"""Finds marked secrets wherever a machine may have let them out. Runs on servers, too: the standard library alone.

Every secret of a test holds the same random mark, followed by two digits of its own. The mark is made of letters and
digits, which no way of writing changes but base64 and hex, and these are searched for as well: so a secret is found in
each of its forms, and a part of it as well.
"""

from __future__ import annotations

import base64
import binascii
import glob
import json
import os
import re
import stat
import subprocess
import sys
import time

BASE64 = re.compile(rb"[A-Za-z0-9+/]*")
UNKNOWN = "??"
LARGEST = 256 * 1024 * 1024
"""Bytes; what is larger holds images and databases."""


class Mark:
    """What all secrets of a test have in common.

    Attributes:
        text: letters and digits, 12 or more.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._plain = text.encode()
        self._hex = binascii.hexlify(self._plain)
        self._base64 = []
        for before in range(3):
            # characters that also depend on what stands before and after the mark are left out
            first = (before * 8 + 5) // 6
            last = (before + len(text)) * 8 // 6
            self._base64.append((base64.b64encode(b"\0" * before + self._plain)[first:last], first))

    def found(self, data: bytes) -> set[str]:
        """The numbers of the secrets in some data; `UNKNOWN` stands for one that is cut behind its mark."""
        numbers: set[str] = set()
        self._look(data, numbers)
        if self._hex in data.lower():
            for digits in re.findall(self._hex + rb"((?:3[0-9]){2})?", data.lower()):
                numbers.add(binascii.unhexlify(digits).decode() or UNKNOWN)
        for needle, first in self._base64:
            start = data.find(needle)
            while start >= 0:
                begin = max(start - first, 0)
                run = BASE64.match(data, begin, begin + 80)
                text = run.group() if run else b""
                # the last group may be short: its padding is not part of the run
                text = text[:-1] if len(text) % 4 == 1 else text
                decoded = base64.b64decode(text + b"=" * (-len(text) % 4))
                before = len(numbers)
                self._look(decoded, numbers)
                if len(numbers) == before and self._plain not in decoded:
                    numbers.add(UNKNOWN)
                start = data.find(needle, start + 1)
        return numbers

    def _look(self, data: bytes, numbers: set[str]) -> None:
        if self._plain in data:
            for digits in re.findall(self._plain + rb"(\d\d)?", data):
                numbers.add(digits.decode() or UNKNOWN)


def watch(mark: Mark, stop: str, pause: float) -> list[list[str]]:
    """Read command line and environment of all processes again and again until the file `stop` is there.

    Returns:
        Secret's number, `command line` or `environment`, and the program's name, once each.
    """
    found: set[tuple[str, str, str]] = set()
    known: dict[str, int] = {}
    turn = 0
    while not os.path.exists(stop):
        turn += 1
        for pid in os.listdir("/proc"):
            # a new process is read at once and again in the next turns (exec changes both), an old one now and then
            if not pid.isdigit() or (known.get(pid, 0) > 5 and turn % 20):
                continue
            known[pid] = known.get(pid, 0) + 1
            for name, what in (("cmdline", "command line"), ("environ", "environment")):
                try:
                    with open(f"/proc/{pid}/{name}", "rb") as stream:
                        numbers = mark.found(stream.read())
                    if numbers:
                        with open(f"/proc/{pid}/comm", encoding="utf-8") as stream:
                            program = stream.read().strip()
                        found |= {(number, what, program) for number in numbers}
                except OSError:
                    # it has ended meanwhile
                    continue
        time.sleep(pause)
    return sorted(list(one) for one in found)


def output_of(*command: str) -> bytes:
    """What a command says; it may fail where there is nothing to say."""
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False).stdout


def in_journal(mark: Mark, since: float) -> list[list[str]]:
    """Entries of the journal, by the program that wrote them."""
    found = set()
    for entry in output_of("journalctl", "--no-pager", "-o", "export", f"--since=@{int(since)}").split(b"\n\n"):
        numbers = mark.found(entry)
        if numbers:
            fields = dict(line.partition(b"=")[::2] for line in entry.splitlines())
            who = fields.get(b"SYSLOG_IDENTIFIER") or fields.get(b"_COMM") or b"?"
            found |= {(number, who.decode("utf-8", "replace")) for number in numbers}
    return sorted(list(one) for one in found)


def in_containers(mark: Mark) -> dict[str, list[list[str]]]:
    """Logs of all containers, stopped ones too, and what Docker tells of everything that it keeps."""
    logs, told = set(), set()
    for name in output_of("docker", "ps", "--all", "--format", "{{.Names}}").decode().split():
        logs |= {(number, name) for number in mark.found(output_of("docker", "logs", name))}
    lists = {
        "container": ("docker", "ps", "--all", "--format", "{{.Names}}"),
        "image": ("docker", "images", "--quiet"),
        "volume": ("docker", "volume", "ls", "--quiet"),
        "network": ("docker", "network", "ls", "--quiet"),
    }
    for kind, command in lists.items():
        for name in output_of(*command).decode().split():
            said = output_of("docker", "inspect", "--type", kind, name)
            told |= {(number, f"{kind} {name}") for number in mark.found(said)}
    told |= {(number, "info") for number in mark.found(output_of("docker", "info", "--format", "{{json .}}"))}
    return {"container logs": sorted(map(list, logs)), "docker inspect": sorted(map(list, told))}


def _open_to_others(status: os.stat_result, other: int, group: int) -> bool:
    # the group root has no members
    return bool(status.st_mode & other or (status.st_mode & group and status.st_gid != 0))


def in_readable_files(mark: Mark, since: float, top: str = "/") -> list[list[str]]:
    """Regular files that have changed since a moment and that others than root and their owner can read."""
    found = []
    waiting = [top]
    skipped = {"/proc", "/sys", "/dev"}
    while waiting:
        folder = waiting.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError:
            continue
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if stat.S_ISDIR(status.st_mode):
                if entry.path not in skipped and _open_to_others(status, stat.S_IXOTH, stat.S_IXGRP):
                    waiting.append(entry.path)
            elif (
                stat.S_ISREG(status.st_mode)
                and status.st_ctime >= since
                and status.st_size <= LARGEST
                and _open_to_others(status, stat.S_IROTH, stat.S_IRGRP)
            ):
                found += [[number, entry.path] for number in _in_file(mark, entry.path)]
    return sorted(found)


def _in_file(mark: Mark, path: str) -> set[str]:
    try:
        with open(path, "rb") as stream:
            return mark.found(stream.read())
    except OSError:
        return set()


def in_temporary_folders(mark: Mark, *more: str) -> list[list[str]]:
    """All files that Ansible has left in its temporary folders, whoever can read them."""
    found = []
    for pattern in ("/root/.ansible", "/home/*/.ansible", "/tmp/ansible*", "/var/tmp/ansible*", *more):
        for top in glob.glob(pattern):
            paths = [top] if os.path.isfile(top) else []
            for folder, _folders, names in os.walk(top):
                paths += [os.path.join(folder, name) for name in names]
            found += [[number, path] for path in paths if os.path.isfile(path) for number in _in_file(mark, path)]
    return sorted(found)


def search(mark: Mark, since: float) -> dict[str, list[list[str]]]:
    """All places of a server that keep what was said."""
    return {
        "journal": in_journal(mark, since),
        **in_containers(mark),
        "readable files": in_readable_files(mark, since),
        "temporary folders": in_temporary_folders(mark),
    }


def answer(question: dict[str, object]) -> None:
    """Do what was asked on standard input, and print the answer as JSON."""
    mark = Mark(str(question["mark"]))
    if question["what"] == "watch":
        json.dump(watch(mark, str(question["stop"]), float(str(question["pause"]))), sys.stdout)
    else:
        json.dump(search(mark, float(str(question["since"]))), sys.stdout)
