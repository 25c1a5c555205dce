"""Docker's own apt repository: its key, its source file, and which of its versions are meant; pure functions."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import urlsplit

from ansible.module_utils.docker_daemon_common import DockerDaemonError, System, version_tuple

# the places that Docker's own guide uses: a server set up by it is taken over, not given a second entry
SOURCE_FILE = "/etc/apt/sources.list.d/docker.sources"
KEY_FILE = "/etc/apt/keyrings/docker.asc"
SOURCE_MARK = "# Managed by Ansible (role docker).\n"

# what a server cannot do without
REQUIRED = ("docker-ce", "docker-ce-cli", "containerd.io", "docker-compose-plugin")

# where Docker publishes packages for what this project supports
SUITES: dict[tuple[str, str], str] = {
    ("debian", "12"): "bookworm",
    ("debian", "13"): "trixie",
    ("ubuntu", "22.04"): "jammy",
    ("ubuntu", "24.04"): "noble",
}

_BEGIN, _END = "-----BEGIN PGP PUBLIC KEY BLOCK-----", "-----END PGP PUBLIC KEY BLOCK-----"
# what a key block may hold (RFC 9580, 5): a key, its names, its subkeys, and signatures on them
_SIGNATURE, _SECRET_KEY, _PUBLIC_KEY, _SECRET_SUBKEY, _USER, _PUBLIC_SUBKEY, _ATTRIBUTE = 2, 5, 6, 7, 13, 14, 17
_ALLOWED = frozenset({_SIGNATURE, _PUBLIC_KEY, _USER, _PUBLIC_SUBKEY, _ATTRIBUTE})


def suite_of(system: System) -> str:
    """The suite of Docker's repository for this system. Raises DockerDaemonError where there is none."""
    suite = SUITES.get((system.id, system.version))
    if suite is None:
        known = ", ".join(f"{name.capitalize()} {version}" for name, version in SUITES)
        raise DockerDaemonError(
            f"{system.name} is not supported by the role docker with docker_source: vendor, which is for {known}. "
            "Install one of these systems on the server. Nothing has been changed."
        )
    return suite


def check_url(url: str) -> str:
    """The repository's URL without a slash at its end.

    Raises DockerDaemonError when it cannot stand in a source file.
    """
    try:
        parts = urlsplit(url)
        usable = bool(parts.scheme in ("http", "https") and parts.hostname and not re.search(r"\s", url))
        login = parts.username is not None or parts.password is not None
    except ValueError:
        usable = login = False
    if not usable:
        raise DockerDaemonError(
            "docker_vendor_url is no http or https URL. Write the folder above debian/ and ubuntu/, as in "
            "https://mirror.example.org/docker/linux."
        )
    if login:
        # the source file may be read by every user, and apt's messages show it
        raise DockerDaemonError(
            "docker_vendor_url holds a login, which every user of the server could read in apt's sources. Put it into "
            "/etc/apt/auth.conf.d/docker.conf on the server (apt_auth.conf(5)), and only the address here."
        )
    return url.rstrip("/")


def source_text(url: str, system: System, key_file: str = KEY_FILE) -> str:
    """The source file (sources.list(5), deb822 style) that trusts this repository by this key alone."""
    return (
        f"{SOURCE_MARK}Types: deb\nURIs: {url}/{system.id}\nSuites: {suite_of(system)}\nComponents: stable\n"
        f"Signed-By: {key_file}\n"
    )


# -- the key


def _length(data: bytes, at: int) -> tuple[int, int]:
    """Length and start of a packet's body, whose length stands at `at` in the newer format (RFC 9580, 4.2.1)."""
    first = data[at]
    if first < 192:
        return first, at + 1
    if first < 224:
        return ((first - 192) << 8) + data[at + 1] + 192, at + 2
    if first < 255:
        raise ValueError("a packet in pieces, which no key may have")
    return int.from_bytes(data[at + 1 : at + 5], "big"), at + 5


def _packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and body of each packet. Raises ValueError or IndexError when `data` is no row of packets."""
    at = 0
    while at < len(data):
        head = data[at]
        if not head & 0x80:
            raise ValueError("no packet where one should begin")
        if head & 0x40:
            kind, (size, start) = head & 0x3F, _length(data, at + 1)
        else:
            kind, width = (head >> 2) & 0x0F, head & 0x03
            if width == 3:
                raise ValueError("a packet without a length")
            start = at + 1 + (1 << width)
            size = int.from_bytes(data[at + 1 : start], "big")
        if start + size > len(data):
            raise ValueError("a packet that is cut off")
        yield kind, data[start : start + size]
        at = start + size


def _bytes_of(text: str) -> bytes:
    """What the one armored block in a text holds. Raises ValueError."""
    if text.count(_BEGIN) != 1 or text.count(_END) != 1:
        raise ValueError(f"not exactly one block {_BEGIN}")
    inside = text.split(_BEGIN, 1)[1].split(_END, 1)[0].replace("\r", "")
    # headers (Version: ...) end with an empty line; the checksum at the end is optional and starts with =
    _headers, separator, body = inside.partition("\n\n")
    lines = [line.strip() for line in (body if separator else inside).splitlines()]
    return base64.b64decode("".join(line for line in lines if not line.startswith("=")), validate=True)


def _checksum(data: bytes) -> bytes:
    """CRC-24 of the armor (RFC 9580, 6.1.1), which older readers want."""
    crc = 0xB704CE
    for byte in data:
        crc ^= byte << 16
        for _bit in range(8):
            crc <<= 1
            if crc & 0x1000000:
                crc ^= 0x1864CFB
    return crc.to_bytes(3, "big")


def _armor(data: bytes) -> str:
    lines = base64.b64encode(data).decode()
    rows = [lines[at : at + 64] for at in range(0, len(lines), 64)]
    return "\n".join([_BEGIN, "", *rows, "=" + base64.b64encode(_checksum(data)).decode(), _END, ""])


def fingerprint_of(text: str) -> str:
    """Fingerprint of the one public key in an armored text, forty hexadecimal digits.

    Raises ValueError when there is none, more than one, a secret one, or one of another version than 4.
    """
    try:
        found = list(_packets(_bytes_of(text)))
    except (IndexError, binascii.Error) as error:
        raise ValueError(f"it is damaged ({error})") from error
    kinds = [kind for kind, _body in found]
    if _SECRET_KEY in kinds or _SECRET_SUBKEY in kinds:
        raise ValueError("it holds a secret key, which belongs to nobody but its owner")
    if kinds[:1] != [_PUBLIC_KEY] or kinds.count(_PUBLIC_KEY) != 1 or not _ALLOWED.issuperset(kinds):
        raise ValueError("it holds something else than exactly one public key")
    body = found[0][1]
    if body[:1] != b"\x04":
        raise ValueError("it is no key of version 4")
    # what a fingerprint is (RFC 9580, 5.5.4.2), not a choice of ours
    return hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body, usedforsecurity=False).hexdigest().upper()


def plain_fingerprint(fingerprint: str) -> str:
    """A fingerprint as it is compared: no blanks, capitals. Raises DockerDaemonError when it is none."""
    plain = re.sub(r"\s", "", fingerprint).upper()
    if not re.fullmatch(r"[0-9A-F]{40}", plain):
        raise DockerDaemonError(
            "docker_vendor_key_fingerprint is no fingerprint. Write all forty hexadecimal digits: the short forms can "
            "be forged."
        )
    return plain


def checked_key(text: str, fingerprint: str, origin: str) -> str:
    """The key as it is written for apt: exactly what was compared with the pinned fingerprint, and nothing beside it.

    Raises DockerDaemonError, with where the key came from (`origin`), when it is another one.
    """
    wanted = plain_fingerprint(fingerprint)
    try:
        found = fingerprint_of(text)
    except ValueError as error:
        raise DockerDaemonError(
            f"The key of Docker's repository from {origin} cannot be used: {error}. It must be one public key in "
            f"armored form ({_BEGIN} ...). Nothing has been changed."
        ) from error
    if found != wanted:
        raise DockerDaemonError(
            f"The key of Docker's repository from {origin} has the fingerprint {found}, docker_vendor_key_fingerprint "
            f"is {wanted}. Either somebody else answers for that address, or the repository has a new key: compare it "
            "with what its owner publishes, then set the variable. The key is not trusted. Nothing has been changed."
        )
    return _armor(_bytes_of(text))


def is_trusted(text: str | None, fingerprint: str) -> bool:
    """Whether a key file holds the pinned key and nothing else, as `checked_key` gives it."""
    try:
        return text is not None and text == checked_key(text, fingerprint, KEY_FILE)
    except DockerDaemonError:
        return False


# -- versions


def upstream(version: str) -> str:
    """Docker's own version in that of a package: 28.5.2 for 5:28.5.2-1~debian.13~trixie."""
    without_epoch = version.partition(":")[2] or version
    return without_epoch.rpartition("-")[0] or without_epoch


def is_pinned(version: str, pin: str) -> bool:
    """Whether a package's version is the pinned one, which may be Docker's own or the package's whole one."""
    return bool(version) and pin in (version, upstream(version))


def check_pins(pins: Mapping[str, str]) -> None:
    """Raise DockerDaemonError for a pin that is no version, or one that is left out and may not be."""
    left_out = [package for package in REQUIRED if not pins.get(package)]
    if left_out:
        raise DockerDaemonError(
            f"{', '.join(left_out)} has no version. Set docker_vendor_engine_version, docker_vendor_containerd_version "
            "and docker_vendor_compose_version; only buildx may be left out. Nothing has been changed."
        )
    for package, pin in pins.items():
        if not re.fullmatch(r"(\d+:)?\d[A-Za-z0-9.+~-]*", pin):
            raise DockerDaemonError(
                f"The version '{pin}' for {package} is none. Write Docker's own (28.5.2) or apt's whole one "
                "(5:28.5.2-1~debian.13~trixie) in docker_vendor_*_version. Nothing has been changed."
            )


def parse_madison(text: str, url: str) -> dict[str, list[str]]:
    """Package -> versions that a repository offers, newest first, from `apt-cache madison`."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        fields = [field.strip() for field in line.split("|")]
        if len(fields) == 3 and fields[2].split(" ")[0].rstrip("/") == url and fields[2].endswith(" Packages"):
            found.setdefault(fields[0], []).append(fields[1])
    return found


def choose(pins: Mapping[str, str], offered: Mapping[str, list[str]], where: str) -> dict[str, str]:
    """Package -> the whole version for its pin.

    Raises DockerDaemonError with the versions that there are, when one is not among them.
    """
    chosen = {}
    for package, pin in pins.items():
        there = offered.get(package, [])
        version = next((one for one in there if is_pinned(one, pin)), "")
        if not version:
            newest = ", ".join(dict.fromkeys(upstream(one) for one in there[:8])) or "none at all"
            raise DockerDaemonError(
                f"{where} offers no {package} {pin}. It has {newest}: set docker_vendor_*_version to one of them. "
                "Nothing has been changed."
            )
        chosen[package] = version
    return chosen


def refuse_downgrade(present: Mapping[str, str], pins: Mapping[str, str]) -> None:
    """Raise DockerDaemonError when a pin is older than what is installed, whose data the older one need not read."""
    older = {
        package: present[package]
        for package, pin in pins.items()
        if present.get(package)
        and not is_pinned(present[package], pin)
        and version_tuple(present[package]) > version_tuple(pin)
    }
    if older:
        told = ", ".join(f"{name} {upstream(version)} (pinned: {pins[name]})" for name, version in older.items())
        wanted = " ".join(f"{name}={pins[name]}…" for name in older)
        raise DockerDaemonError(
            f"Newer than pinned is installed: {told}. An older Docker need not read what a newer one wrote, so it is "
            "not put back by itself. Raise docker_vendor_*_version, or go back by hand after a backup: apt-get install "
            f"--allow-downgrades --allow-change-held-packages {wanted} (whole versions: apt-cache madison "
            f"{' '.join(older)}). Nothing has been changed."
        )


def other_entries(files: Mapping[str, str], url: str) -> list[str]:
    """Those of apt's source files, path -> text, that name the repository too: apt refuses one with two keys."""
    pattern = re.compile(rf"(?:^|\s){re.escape(url)}/?(?=\s|$)")
    return [
        path
        for path, text in files.items()
        if any(_names(pattern, line) for entry in _entries(path, text) for line in entry.splitlines())
    ]


def _entries(path: str, text: str) -> list[str]:
    """The entries of a source file that are not switched off: lines of a .list, stanzas of a .sources."""
    if not path.endswith(".sources"):
        return [text]
    return [
        entry for entry in re.split(r"\n[ \t]*\n", text) if not re.search(r"(?mi)^enabled:\s*(no|false)\s*$", entry)
    ]


def _names(pattern: re.Pattern[str], line: str) -> bool:
    return not line.lstrip().startswith("#") and bool(pattern.search(line))


def upgrades(present: Mapping[str, str], wrong: Iterable[str]) -> list[str]:
    """Those packages whose change restarts the engine or containerd: they are installed in another version."""
    return [name for name in wrong if present.get(name) and name in ("docker-ce", "containerd.io")]
