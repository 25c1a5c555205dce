#!/usr/bin/python
"""A private certificate authority on the server and the certificates of its services."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_certificates
short_description: Keeps a private certificate authority and the certificates that it signs
description:
  - Makes and renews, in one execution on the server, a private authority and all certificates of the stack (P-256).
    Each certificate lies with its key in a directory of its own as C(server.crt) and C(server.key), with C(ca.crt)
    beside them on demand, since programs that load certificates again while they run need their directory mounted.
  - A certificate is made anew, with a new key, when it is missing or not readable, when key, names or issuer do not
    fit, and when less than O(renew_fraction) of its life is left.
  - The authority is made when both of its files are missing. A broken or expired one is an error and never replaced,
    since clients were told to trust it. If only its certificate is lost, it is made again for the same key.
  - Files are replaced at once, the key before its certificate, so an interrupted run leaves a pair that the next run
    recognises.
  - Needs C(python3-cryptography) on the server, 3.4 or newer.
options:
  ca:
    description: The authority.
    type: dict
    required: true
    suboptions:
      certificate:
        description: Path of its certificate.
        type: path
        required: true
      key:
        description: Path of its private key; root alone may read it.
        type: path
        required: true
      common_name:
        description: Its name, cut to the 64 bytes that fit. A later change has no effect on an authority that exists.
        type: str
        required: true
      valid_days:
        description: Days for which it is valid when it is made.
        type: int
        default: 3650
  certificates:
    description: The services' certificates.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: What results, diffs and errors call it.
        type: str
        required: true
      directory:
        description: Where its files lie; made as needed, root's.
        type: path
        required: true
      common_name:
        description: Common name, cut to the 64 bytes that fit. Clients look at the alternative names alone.
        type: str
        required: true
      dns_names:
        description: DNS names. An IP address among them is taken as one.
        type: list
        elements: str
        default: []
      ip_addresses:
        description: IP addresses.
        type: list
        elements: str
        default: []
      valid_days:
        description: Days for which it is valid when it is made, the authority's own end at most.
        type: int
        default: 365
      owner:
        description: User that reads the files in the container, by number.
        type: int
        default: 0
      group:
        description: Group by number.
        type: int
        default: 0
      key_mode:
        description: Permissions of the key, octal. Permissions for others are refused.
        type: str
        default: "0400"
      certificate_mode:
        description: Permissions of C(server.crt) and C(ca.crt), octal.
        type: str
        default: "0444"
      directory_mode:
        description: Permissions of the directory, octal.
        type: str
        default: "0755"
      with_ca:
        description:
          - Whether C(ca.crt), which a client has to trust, is kept beside the certificate. With a provided
            certificate it is the root at the end of that chain, and absent when the chain has none.
        type: bool
        default: false
      provided_certificate:
        description:
          - Certificate in PEM form, followed by its intermediates, to use in place of one of the authority's.
            Validity, order, key and names are checked before anything changes.
        type: str
      provided_key:
        description: Its private key in PEM form, not encrypted.
        type: str
  renew_fraction:
    description: Part of a certificate's life; with less left it is renewed. For a provided one there is a warning.
    type: float
    default: 0.333
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: Shows names, dates and fingerprints, never keys.
"""

EXAMPLES = r"""
- name: Issue the certificates
  service_certificates:
    ca:
      certificate: /opt/integr8scode/tls/ca/ca.crt
      key: /opt/integr8scode/tls/ca/ca.key
      common_name: Integr8sCode web1 CA
    certificates:
      - name: backend
        directory: /opt/integr8scode/tls/internal/backend
        common_name: backend
        dns_names: [backend, localhost]
        ip_addresses: [127.0.0.1]
"""

RETURN = r"""
changed_certificates:
  description: Names of the certificates whose files changed; programs that use one must load it again.
  type: list
  returned: always
certificates:
  description:
    - For each certificate C(name), C(reasons) (why it was made or written, empty when it was good), C(not_after) (ISO
      8601), C(provided), and C(fingerprint) (SHA-256, hex; empty for one that check mode only predicts).
  type: list
  elements: dict
  returned: always
ca:
  description: Path of the authority's C(certificate), its C(not_after), and whether it is C(new).
  type: dict
  returned: always
"""

import os
from pathlib import Path
from typing import Any

from ansible.module_utils import certificate_tools as tools
from ansible.module_utils.atomic_files import MASK, Access
from ansible.module_utils.basic import AnsibleModule, missing_required_lib
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


def warnings_of(authority: Authority, leaves: list[Leaf], renew_fraction: float) -> list[str]:
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
    return warnings


def run(module: AnsibleModule, leaves: list[Leaf]) -> dict[str, Any]:
    """Does the module's work and returns its result. Raises OSError and ValueError with their cure."""
    ca = module.params["ca"]
    renew_fraction = module.params["renew_fraction"]
    if not 0 < renew_fraction < 1:
        raise ValueError(f"renew_fraction is {renew_fraction}. Use a part of a life, for example 0.333.")
    if ca["valid_days"] < 1:
        raise ValueError("the authority's valid_days must be 1 or more.")
    for attribute in ("name", "directory"):
        values = [getattr(leaf, attribute) for leaf in leaves]
        twice = sorted({str(value) for value in values if values.count(value) > 1})
        if twice:
            raise ValueError(f"two certificates have the same {attribute}: {', '.join(twice)}. Give each its own.")
    user = Access(os.geteuid(), os.getegid(), 0o700)
    authority = Authority(Path(ca["certificate"]), Path(ca["key"]), ca["common_name"], ca["valid_days"], user)
    plan(authority, leaves, renew_fraction)
    for leaf in leaves:
        if leaf.access_differs():
            leaf.reasons.append("owner or permissions differ")
    new_ca = authority.state != "present"
    before = "" if new_ca else describe("authority", authority.certificate, new=False)
    after = describe("authority", authority.certificate, new=new_ca)
    for leaf in leaves:
        before += describe(leaf.name, leaf.old, new=False)
        made = leaf.certificate_path in leaf.contents and not leaf.provided
        after += describe(leaf.name, leaf.new, new=made)
    for warning in warnings_of(authority, leaves, renew_fraction):
        module.warn(warning)
    changed = new_ca or authority.access_differs() or any(leaf.reasons for leaf in leaves)
    if changed and not module.check_mode:
        authority.write()
        for leaf in leaves:
            if leaf.reasons:
                leaf.write()
    return {
        "changed": changed,
        "changed_certificates": [leaf.name for leaf in leaves if leaf.reasons],
        "certificates": [result_of(leaf, predicted=module.check_mode) for leaf in leaves],
        "ca": {
            "certificate": str(authority.certificate_path),
            "not_after": tools.valid_until(authority.certificate).isoformat(),
            "new": new_ca,
        },
        "diff": {"before_header": "certificates", "after_header": "certificates", "before": before, "after": after},
    }


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


def argument_spec() -> dict[str, Any]:
    """The arguments, as in DOCUMENTATION."""
    authority = {
        "certificate": {"type": "path", "required": True},
        "key": {"type": "path", "required": True, "no_log": False},
        "common_name": {"type": "str", "required": True},
        "valid_days": {"type": "int", "default": 3650},
    }
    certificate = {
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
    }
    return {
        "ca": {"type": "dict", "required": True, "options": authority},
        # all of it: Ansible writes a nested list to the system log as Python shows it, where the line breaks of a key
        # look different and it is not recognised
        "certificates": {"type": "list", "elements": "dict", "required": True, "no_log": True, "options": certificate},
        "renew_fraction": {"type": "float", "default": 0.333},
    }


def main() -> None:
    """Ansible's entry point."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    entries = module.params["certificates"]
    # Keys are never returned. So nothing needs masking, which would replace names and paths in the results.
    module.params["certificates"] = [
        {**entry, "provided_key": MASK if entry["provided_key"] else None} for entry in entries
    ]
    module.no_log_values.clear()
    if not tools.HAS_CRYPTOGRAPHY:
        if module.check_mode and not Path(module.params["ca"]["certificate"]).exists():
            # a fresh server: an earlier task of the real run brings the library
            names = [entry["name"] for entry in entries]
            module.exit_json(changed=True, changed_certificates=names, certificates=[], ca={"new": True})
        module.fail_json(
            msg=missing_required_lib("cryptography") + " On Debian and Ubuntu: apt-get install python3-cryptography"
        )
    try:
        result = run(module, [leaf_of(entry) for entry in entries])
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"The certificates cannot be made: {error}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
