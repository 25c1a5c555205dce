"""The private certificate authority of a server and the certificates of its services."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

from ansible.module_utils import certificate_tools as tools
from ansible.module_utils.atomic_files import MASK, Access
from ansible.module_utils.basic import missing_required_lib
from ansible.module_utils.release_files.part import Part
from ansible.module_utils.service_certificates import Authority, Leaf, leaf_of, plan_own, plan_provided


def describe(title: str, certificate: Any, *, new: bool) -> str:
    """Lines of a diff for one certificate; a new one's fingerprint and minute are not known before it is made."""
    if certificate is None:
        return f"{title}: none\n"
    names = ", ".join(sorted(str(name) for name in tools.names_of(certificate)))
    return (
        f"{title}:\n"
        f"  subject: {certificate.subject.rfc4514_string()}\n"
        f"  issuer: {certificate.issuer.rfc4514_string()}\n"
        f"  names: {names or 'none'}\n"
        f"  valid until: {tools.valid_until(certificate):%Y-%m-%d}\n"
        f"  sha256: {'of a new certificate' if new else tools.fingerprint(certificate)}\n"
    )


def plan(authority: Authority, leaves: list[Leaf], renew_fraction: float) -> None:
    """Decides on everything, in memory. Raises ValueError for bad input and a broken authority."""
    authority.load()
    for leaf in leaves:
        if leaf.provided:
            plan_provided(leaf)
    authority.make()
    for leaf in leaves:
        if not leaf.provided:
            plan_own(leaf, authority, renew_fraction)


def warnings_of(authority: Authority, leaves: list[Leaf], renew_fraction: float) -> tuple[str, ...]:
    """What nobody but a person can renew, while there is time."""
    warnings = []
    if tools.life_left(authority.certificate) < renew_fraction / 3:
        warnings.append(
            f"The authority {authority.certificate_path} ends on {tools.valid_until(authority.certificate):%Y-%m-%d}. "
            f"To make a new one, remove it and {authority.key_path} and run this again; then give its certificate to "
            "the clients."
        )
    warnings += [
        f"The provided certificate {leaf.name} ends on {tools.valid_until(leaf.new):%Y-%m-%d}. Provide a renewed one."
        for leaf in leaves
        if leaf.provided and tools.life_left(leaf.new) < renew_fraction
    ]
    return tuple(warnings)


def result_of(leaf: Leaf, *, predicted: bool) -> dict[str, Any]:
    """What is returned about one certificate."""
    unknown = predicted and leaf.certificate_path in leaf.contents and not leaf.provided
    return {
        "name": leaf.name,
        "reasons": leaf.reasons,
        "provided": leaf.provided,
        "not_after": tools.valid_until(leaf.new).isoformat(),
        "fingerprint": "" if unknown else tools.fingerprint(leaf.new),
    }


class CertificatesPart(Part):
    """The authority and the certificates that it signs."""

    OPTIONS: ClassVar[dict[str, Any]] = {
        "ca": {
            "type": "dict",
            "required": True,
            "options": {
                "certificate": {"type": "path", "required": True},
                "key": {"type": "path", "required": True, "no_log": False},
                "common_name": {"type": "str", "required": True},
                "valid_days": {"type": "int", "default": 3650},
            },
        },
        "certificates": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "no_log": True,
            "options": {
                "name": {"type": "str", "required": True},
                "directory": {"type": "path", "required": True},
                "common_name": {"type": "str", "required": True},
                "dns_names": {"type": "list", "elements": "str", "default": []},
                "ip_addresses": {"type": "list", "elements": "str", "default": []},
                "valid_days": {"type": "int", "default": 365},
                "owner": {"type": "int", "default": 0},
                "group": {"type": "int", "default": 0},
                "key_mode": {"type": "str", "default": "0400", "no_log": False},
                "certificate_mode": {"type": "str", "default": "0444"},
                "directory_mode": {"type": "str", "default": "0755"},
                "with_ca": {"type": "bool", "default": False},
                "provided_certificate": {"type": "str"},
                "provided_key": {"type": "str", "no_log": True},
            },
        },
        "renew_fraction": {"type": "float", "default": 0.333},
    }

    def __init__(self, given: dict[str, Any], *, check: bool) -> None:
        self.check = check
        self.names = [entry["name"] for entry in given["certificates"]]
        self.unseen = False
        if not tools.HAS_CRYPTOGRAPHY:
            if not check or Path(given["ca"]["certificate"]).exists():
                raise ValueError(
                    missing_required_lib("cryptography") + " On Debian and Ubuntu: apt-get install python3-cryptography"
                )
            # a fresh server: an earlier task of the real run brings the library
            self.unseen, self.changed, self.diff = True, True, []
            return
        self.leaves = [leaf_of(entry) for entry in given["certificates"]]
        self.authority = self._checked_authority(given)
        plan(self.authority, self.leaves, given["renew_fraction"])
        for leaf in self.leaves:
            if leaf.access_differs():
                leaf.reasons.append("owner or permissions differ")
        self.new_ca = self.authority.state != "present"
        self.changed = self.new_ca or self.authority.access_differs() or any(leaf.reasons for leaf in self.leaves)
        self.diff = [self._difference()]
        self.warnings = warnings_of(self.authority, self.leaves, given["renew_fraction"])

    @staticmethod
    def failure(given: dict[str, Any]) -> str:
        """See Part."""
        del given
        return "The certificates cannot be made"

    @staticmethod
    def without_secrets(given: dict[str, Any]) -> dict[str, Any]:
        """See Part."""
        shown = [{**one, "provided_key": MASK if one["provided_key"] else None} for one in given["certificates"]]
        return {**given, "certificates": shown}

    def _checked_authority(self, given: dict[str, Any]) -> Authority:
        """The authority, once the arguments are what they can be. Raises ValueError."""
        ca, renew_fraction = given["ca"], given["renew_fraction"]
        if not 0 < renew_fraction < 1:
            raise ValueError(f"renew_fraction is {renew_fraction}. Use a part of a life, for example 0.333.")
        if ca["valid_days"] < 1:
            raise ValueError("the authority's valid_days must be 1 or more.")
        for attribute in ("name", "directory"):
            values = [getattr(leaf, attribute) for leaf in self.leaves]
            twice = sorted({str(value) for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"two certificates have the same {attribute}: {', '.join(twice)}. Give each its own.")
        user = Access(os.geteuid(), os.getegid(), 0o700)
        return Authority(Path(ca["certificate"]), Path(ca["key"]), ca["common_name"], ca["valid_days"], user)

    def _difference(self) -> dict[str, str]:
        certificate = self.authority.certificate
        before = "" if self.new_ca else describe("authority", certificate, new=False)
        after = describe("authority", certificate, new=self.new_ca)
        for leaf in self.leaves:
            before += describe(leaf.name, leaf.old, new=False)
            made = leaf.certificate_path in leaf.contents and not leaf.provided
            after += describe(leaf.name, leaf.new, new=made)
        return {"before_header": "certificates", "after_header": "certificates", "before": before, "after": after}

    def write(self) -> None:
        """See Part."""
        self.authority.write()
        for leaf in self.leaves:
            if leaf.reasons:
                leaf.write()

    def result(self) -> dict[str, Any]:
        """See Part."""
        if self.unseen:
            return {"changed": True, "changed_certificates": self.names, "certificates": [], "ca": {"new": True}}
        return {
            "changed": self.changed,
            "changed_certificates": [leaf.name for leaf in self.leaves if leaf.reasons],
            "certificates": [result_of(leaf, predicted=self.check) for leaf in self.leaves],
            "ca": {
                "certificate": str(self.authority.certificate_path),
                "not_after": tools.valid_until(self.authority.certificate).isoformat(),
                "new": self.new_ca,
            },
        }
