"""The authority and the servers' certificates of the module release_files."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ansible.module_utils import certificate_tools as tools
from ansible.module_utils.atomic_files import (
    Access,
    ensure_access,
    ensure_folder,
    parse_mode,
    read_file,
    write_file,
)


@dataclass
class Authority:
    """The private CA. A broken one is an error, never replaced: clients trust the certificate that they were given."""

    certificate_path: Path
    key_path: Path
    common_name: str
    valid_days: int
    user: Access
    certificate: Any = None
    key: Any = None
    state: str = "present"

    def load(self) -> None:
        """Reads what is there. `state` becomes `present`, `missing` or `no certificate` (an interrupted first run).

        Raises ValueError with the cure where half of it is broken or lost.
        """
        certificate, key = read_file(self.certificate_path), read_file(self.key_path)
        cure = (
            f"Restore {self.certificate_path} and {self.key_path} from a backup. Or remove both: a new authority and "
            "new certificates are made then, and whoever was given the old authority's certificate needs the new one."
        )
        if certificate is None:
            self.state = "missing" if key is None else "no certificate"
        elif key is None:
            raise ValueError(f"the authority's key {self.key_path} is missing. {cure}")
        if key is not None:
            self.key = self._read("key", self.key_path, tools.load_key, key, cure)
        if certificate is not None:
            self.certificate = self._read("certificate", self.certificate_path, tools.load_chain, certificate, cure)[0]
            if not tools.fits(self.key, self.certificate):
                raise ValueError(f"the authority's key {self.key_path} does not fit its certificate. {cure}")
            end = tools.valid_until(self.certificate)
            if end <= tools.now():
                raise ValueError(
                    f"the authority's certificate {self.certificate_path} expired on {end:%Y-%m-%d}. {cure}"
                )

    @staticmethod
    def _read(what: str, path: Path, load: Any, content: bytes, cure: str) -> Any:
        try:
            return load(content)
        except ValueError as error:
            raise ValueError(f"the authority's {what} {path} is broken: {error}. {cure}") from None

    def make(self) -> None:
        """Makes what is missing, in memory. A lost certificate is made again for the same key."""
        if self.state == "missing":
            self.key = tools.new_key()
        if self.state != "present":
            self.certificate = tools.make_ca(self.key, self.common_name, self.valid_days)

    def accesses(self) -> dict[Path, Access]:
        """Who may read its files: the key root alone."""
        return {
            self.key_path: Access(self.user.owner, self.user.group, 0o400),
            self.certificate_path: Access(self.user.owner, self.user.group, 0o444),
        }

    def access_differs(self) -> bool:
        """Whether an owner or mode was changed."""
        return self.state == "present" and any(Access.of(path) != access for path, access in self.accesses().items())

    def write(self) -> None:
        """Writes what `make` made: the key first, since a key alone is a state that the next run can go on from."""
        contents = {}
        if self.state == "missing":
            contents[self.key_path] = tools.key_pem(self.key)
        if self.state != "present":
            contents[self.certificate_path] = tools.certificate_pem(self.certificate)
        for path, access in self.accesses().items():
            if not path.parent.is_dir():
                ensure_folder(path.parent, Access(self.user.owner, self.user.group, 0o700))
            if path in contents:
                write_file(path, contents[path], access)
            ensure_access(path, access)


@dataclass
class Leaf:
    """One server's certificate with its key, as asked for and as found."""

    name: str
    directory: Path
    common_name: str
    names: frozenset[Any]
    valid_days: int
    key_access: Access
    certificate_access: Access
    directory_access: Access
    with_ca: bool
    provided_chain: bytes | None
    provided_key: bytes | None
    old: Any = None
    new: Any = None
    reasons: list[str] = field(default_factory=list)
    contents: dict[Path, bytes] = field(default_factory=dict)
    stale_ca: bool = False

    @property
    def certificate_path(self) -> Path:
        """Certificate, with its chain if it was provided with one."""
        return self.directory / "server.crt"

    @property
    def key_path(self) -> Path:
        """Private key."""
        return self.directory / "server.key"

    @property
    def ca_path(self) -> Path:
        """What a client has to trust."""
        return self.directory / "ca.crt"

    @property
    def provided(self) -> bool:
        """Whether the certificate comes from the inventory and not from the authority."""
        return self.provided_chain is not None

    def accesses(self) -> dict[Path, Access]:
        """Who may read its files. The key comes first: that is the order in which they are written."""
        accesses = {self.key_path: self.key_access, self.certificate_path: self.certificate_access}
        if self.with_ca and not self.stale_ca:
            accesses[self.ca_path] = self.certificate_access
        return accesses

    def access_differs(self) -> bool:
        """Whether an owner or mode is not as asked for, of what exists."""
        wanted = {**self.accesses(), self.directory: self.directory_access}
        return any(Access.of(path) not in (None, access) for path, access in wanted.items())

    def write(self) -> None:
        """Writes what is new. Stopped between key and certificate, the next run sees a pair that does not fit."""
        ensure_folder(self.directory, self.directory_access)
        for path, access in self.accesses().items():
            if path in self.contents:
                write_file(path, self.contents[path], access)
            ensure_access(path, access)
        if self.stale_ca:
            self.ca_path.unlink(missing_ok=True)


def leaf_of(entry: dict[str, Any]) -> Leaf:
    """The certificate that one entry of the argument asks for. Raises ValueError with its name and the cure."""
    try:
        return _leaf_of(entry)
    except ValueError as error:
        raise ValueError(f"certificate {entry['name']}: {error}") from None


def _leaf_of(entry: dict[str, Any]) -> Leaf:
    chain, key = entry["provided_certificate"] or None, entry["provided_key"] or None
    if (chain is None) != (key is None):
        raise ValueError("provided_certificate and provided_key belong together. Give both or none.")
    if entry["valid_days"] < 1:
        raise ValueError("valid_days must be 1 or more.")
    key_mode = parse_mode(entry["key_mode"])
    if key_mode & 0o007:
        raise ValueError(f"with key_mode {key_mode:04o} others could read the key. Use '0400'.")
    return Leaf(
        name=entry["name"],
        directory=Path(entry["directory"]),
        common_name=tools.shorten(entry["common_name"]),
        names=tools.parse_names(entry["dns_names"] or [], entry["ip_addresses"] or []),
        valid_days=entry["valid_days"],
        key_access=Access(entry["owner"], entry["group"], key_mode),
        certificate_access=Access(entry["owner"], entry["group"], parse_mode(entry["certificate_mode"])),
        # the reader must not be able to put other files there
        directory_access=Access(os.geteuid(), os.getegid(), parse_mode(entry["directory_mode"])),
        with_ca=entry["with_ca"],
        provided_chain=chain.strip().encode() + b"\n" if chain else None,
        provided_key=key.strip().encode() + b"\n" if key else None,
    )


def check_provided(leaf: Leaf) -> list[Any]:
    """The provided chain, server first. Raises ValueError with the cure for one that clients would not take."""
    what = f"certificate {leaf.name}: "
    try:
        key = tools.load_key(leaf.provided_key or b"")
    except ValueError as error:
        raise ValueError(f"{what}provided_key: {error}.") from None
    try:
        chain = tools.load_chain(leaf.provided_chain or b"")
    except ValueError as error:
        raise ValueError(f"{what}provided_certificate: {error}.") from None
    if not tools.fits(key, chain[0]):
        hint = (
            " The file must begin with the server's own certificate." if any(tools.fits(key, c) for c in chain) else ""
        )
        raise ValueError(f"{what}provided_key does not fit provided_certificate.{hint}")
    for lower, upper in itertools.pairwise(chain):
        if not tools.issued_by(lower, upper):
            raise ValueError(
                f"{what}in provided_certificate {lower.subject.rfc4514_string()} is not followed by its issuer "
                f"{lower.issuer.rfc4514_string()}. Order it: server, then each intermediate after what it signed."
            )
    for certificate in chain:
        begin, end = tools.valid_from(certificate), tools.valid_until(certificate)
        subject = certificate.subject.rfc4514_string()
        if end <= tools.now():
            raise ValueError(f"{what}{subject} expired on {end:%Y-%m-%d}. Provide a renewed one.")
        if begin > tools.now():
            raise ValueError(
                f"{what}{subject} is valid only from {begin:%Y-%m-%d %H:%M} UTC. Wait, or look at the server's clock."
            )
    missing = tools.not_covered(leaf.names, chain[0])
    if missing:
        raise ValueError(
            f"{what}provided_certificate is not for {', '.join(missing)}. Provide one that names them, or take them "
            "out of the server's public names."
        )
    return chain


def reasons_to_renew(leaf: Leaf, authority: Authority, renew_fraction: float) -> list[str]:
    """Why a self-made certificate must be made anew; nothing when it is good. Puts what it found into `leaf.old`."""
    certificate, key = read_file(leaf.certificate_path), read_file(leaf.key_path)
    if certificate is None:
        return ["missing"]
    try:
        chain = tools.load_chain(certificate)
    except ValueError as error:
        return [f"certificate not readable: {error}"]
    leaf.old = chain[0]
    if key is None:
        return ["key missing"]
    try:
        loaded = tools.load_key(key)
    except ValueError:
        return ["key not readable"]
    reasons = []
    if not tools.fits(loaded, leaf.old):
        reasons.append("key does not fit")
    if tools.names_of(leaf.old) != leaf.names or tools.common_name_of(leaf.old) != leaf.common_name:
        reasons.append("names differ")
    if authority.state == "missing" or not tools.issued_by(leaf.old, authority.certificate) or len(chain) > 1:
        reasons.append("issued by another authority")
    if tools.valid_from(leaf.old) > tools.now():
        reasons.append("not valid yet")
    if tools.life_left(leaf.old) < renew_fraction:
        reasons.append(f"{max(tools.life_left(leaf.old), 0):.0%} of its life left")
    return reasons


def plan_provided(leaf: Leaf) -> None:
    """Compares a provided certificate with the files."""
    chain = check_provided(leaf)
    found, key = read_file(leaf.certificate_path), read_file(leaf.key_path)
    if found is not None:
        try:
            leaf.old = tools.load_chain(found)[0]
        except ValueError:
            leaf.old = None
    leaf.new = chain[0]
    if found != leaf.provided_chain or key != leaf.provided_key:
        leaf.reasons.append("missing" if found is None else "another one was provided")
        leaf.contents[leaf.key_path] = leaf.provided_key or b""
        leaf.contents[leaf.certificate_path] = leaf.provided_chain or b""
    if leaf.with_ca:
        # the private authority did not sign it: only a root that came with it is worth trusting
        root = chain[-1] if tools.issued_by(chain[-1], chain[-1]) else None
        if root is not None:
            _plan_ca_file(leaf, root)
        else:
            leaf.stale_ca = True
            if read_file(leaf.ca_path) is not None:
                leaf.reasons.append("ca.crt is of another authority")


def plan_own(leaf: Leaf, authority: Authority, renew_fraction: float) -> None:
    """Makes a new certificate, in memory, where one is due. `authority` must hold its certificate and key."""
    leaf.reasons += reasons_to_renew(leaf, authority, renew_fraction)
    leaf.new = leaf.old
    if leaf.reasons:
        key = tools.new_key()
        end: datetime = min(tools.now() + timedelta(days=leaf.valid_days), tools.valid_until(authority.certificate))
        leaf.new = tools.make_leaf(
            key, authority.certificate, authority.key, common_name=leaf.common_name, names=leaf.names, end=end
        )
        leaf.contents[leaf.key_path] = tools.key_pem(key)
        leaf.contents[leaf.certificate_path] = tools.certificate_pem(leaf.new)
    if leaf.with_ca:
        _plan_ca_file(leaf, authority.certificate)


def _plan_ca_file(leaf: Leaf, certificate: Any) -> None:
    wanted = tools.certificate_pem(certificate)
    found = read_file(leaf.ca_path)
    if found != wanted:
        leaf.reasons.append("ca.crt is missing" if found is None else "ca.crt is of another authority")
        leaf.contents[leaf.ca_path] = wanted
