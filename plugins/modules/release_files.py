#!/usr/bin/python
"""Write what a release of the stack reads: the release, its services' certificates and secrets."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release_files
short_description: Writes a release of the stack, the certificates and the secrets that its services read
description:
  - All three in one execution. Each is planned and judged before one of them is written, so bad input changes nothing.
    They are written in the order of the options; one that is left out is not looked at.
  - No key and no content of a secret file is in a result, a diff or the server's system log.
options:
  bundle:
    type: dict
    description:
      - One release, named by its content. Every mounted configuration file goes to C(<base>/files/<hash>/<name>), the
        release to C(<base>/releases/<id>/) with C(docker-compose.yaml), C(digests.yaml), C(secrets.yaml), C(.env),
        C(haproxy.cfg) and C(release.json).
      - The id comes from the tag, the digests, the compose file and the configuration, not from time, author or
        secrets, so the same input gives the same id and nothing to do.
      - What is written is never changed again; C(release.json) comes last, so a release without it is not complete.
    suboptions:
      base: {type: path, default: /opt/integr8scode, description: Where Integr8sCode is installed.}
      tag: {type: str, required: true, description: The release's tag.}
      compose: {type: str, required: true, description: Text of docker-compose.yaml.}
      images:
        description: Pinned image of each service, as M(container_images) returns them.
        type: dict
        required: true
      digests:
        description: Digest by image reference, kept in release.json. Null where it is unknown.
        type: dict
        required: true
      files:
        description: Configuration files. None may hold a secret.
        type: list
        elements: dict
        default: []
        suboptions:
          name: {type: str, required: true, description: Name of the file.}
          variable: {type: str, required: true, description: Variable of the compose file that gets the file's path.}
          content: {type: str, required: true, description: Text of the file.}
      environment: {type: dict, default: {}, description: Other variables of the compose file.}
      edge_config: {type: str, default: "", description: Text of the edge's configuration (HAProxy). Empty for none.}
      secrets:
        description: Compose file that mounts the newest secrets of all releases, by absolute path. Empty for none.
        type: path
        default: ""
      secret_services:
        description:
          - Services of this release that get from O(bundle.secrets) what it mounts into those of their name. They
            stand in C(secrets.yaml), so that the release keeps its own services whatever others have.
        type: list
        elements: str
        default: []
      consumer_groups:
        description: Kafka consumer groups that the release has to be in, for release.json.
        type: list
        elements: str
        default: []
      author: {type: str, default: "", description: "Who made the release, for release.json."}
      commit: {type: str, default: "", description: "Commit of this project that made it, for release.json."}
  certificates:
    type: dict
    description:
      - A private authority and all certificates of the stack (P-256), made and renewed. Each lies with its key in a
        directory of its own as C(server.crt) and C(server.key), with C(ca.crt) beside them on demand, since programs
        that load certificates again while they run need their directory mounted.
      - A certificate is made anew, with a new key, when it is missing or not readable, when key, names or issuer do
        not fit, and when less than O(certificates.renew_fraction) of its life is left.
      - The authority is made when both of its files are missing. A broken or expired one is an error and never
        replaced, since clients were told to trust it. If only its certificate is lost, it is made again for the same
        key.
      - Files are replaced at once, the key before its certificate, so an interrupted run leaves a pair that the next
        run recognises. Needs C(python3-cryptography) on the server, 3.4 or newer.
    suboptions:
      ca:
        description: The authority.
        type: dict
        required: true
        suboptions:
          certificate: {type: path, required: true, description: Path of its certificate.}
          key: {type: path, required: true, description: Path of its private key; root alone may read it.}
          common_name:
            description: Its name, cut to the 64 bytes that fit. A change has no effect on an authority that exists.
            type: str
            required: true
          valid_days: {type: int, default: 3650, description: Days for which it is valid when it is made.}
      certificates:
        description: The services' certificates.
        type: list
        elements: dict
        required: true
        suboptions:
          name: {type: str, required: true, description: "What results, diffs and errors call it."}
          directory: {type: path, required: true, description: "Where its files lie; made as needed, root's."}
          common_name:
            description: Common name, cut to the 64 bytes that fit. Clients look at the alternative names alone.
            type: str
            required: true
          dns_names:
            description: DNS names. An IP address among them is taken as one.
            type: list
            elements: str
            default: []
          ip_addresses: {type: list, elements: str, default: [], description: IP addresses.}
          valid_days:
            description: Days for which it is valid when it is made, the authority's own end at most.
            type: int
            default: 365
          owner: {type: int, default: 0, description: "User that reads the files in the container, by number."}
          group: {type: int, default: 0, description: Group by number.}
          key_mode:
            description: Permissions of the key, octal. Permissions for others are refused.
            type: str
            default: "0400"
          certificate_mode:
            description: Permissions of C(server.crt) and C(ca.crt), octal.
            type: str
            default: "0444"
          directory_mode: {type: str, default: "0755", description: "Permissions of the directory, octal."}
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
          provided_key: {type: str, description: "Its private key in PEM form, not encrypted."}
      renew_fraction:
        description: Part of a certificate's life; with less left it is renewed; a provided one is warned of.
        type: float
        default: 0.333
  secrets:
    type: dict
    description:
      - All secret files of the stack. Each lies in a folder of its own, named by a keyed hash of its content, so a
        new content has a new path and exactly the services that read it are recreated.
      - C(current.yaml) in the same directory is a compose file that mounts each file, read-only, into the services
        that read it. It is replaced last and at once. An interrupted run leaves the old one, whose files are still
        there.
      - The hash is keyed (HMAC-SHA256, a random key in C(.key), made once), since a folder named by a plain hash
        would let anyone who can list it test guesses. Needs C(python3-yaml) on the server.
    suboptions:
      directory:
        description:
          - Where the files lie. Made as needed, open to root alone (0700). A container reads its file nevertheless,
            since a bind mount of a single file does not pass through the folders above it.
        type: path
        required: true
      files:
        description:
          - The secret files. A file that is no longer listed is no longer mounted, but where O(secrets.releases) says
            so; see O(secrets.prune).
        type: list
        elements: dict
        required: true
        suboptions:
          name: {type: str, required: true, description: File name.}
          content: {type: str, required: true, description: "Content, written as UTF-8 without a line break added."}
          owner: {type: int, default: 0, description: "User that reads it in the container, by number."}
          group: {type: int, default: 0, description: Group by number.}
          mode: {type: str, default: "0400", description: Permissions in octal digits; those for others are refused.}
          fixed:
            description:
              - Why the content may not change once it is mounted, and the cure. A changed content is then refused
                with this text, before anything is written. Empty for a content that may change.
            type: str
            default: ""
          services:
            description: Where the file is mounted.
            type: list
            elements: dict
            default: []
            suboptions:
              service: {type: str, required: true, description: Service of the compose file.}
              target: {type: str, required: true, description: Absolute path in its containers.}
      releases:
        description:
          - Folder of the kept releases. A service that is no longer listed here and that one of them has keeps its
            mounts, of the newest content, so that this release can run again. A release of the kind that names
            C(current.yaml) itself and lacks a service of it gets a list of its own services, which it names in place
            of it.
          - None for no releases.
        type: path
      prune:
        description:
          - Whether to remove folders that C(current.yaml) no longer names. A container that still mounts one could
            not be started again, so remove them only after the containers were recreated.
        type: bool
        default: false
attributes:
  check_mode:
    support: full
    details: Before the secrets' key exists, folders' names cannot be known; RV(secrets.paths) shows C(unknown) there.
  diff_mode:
    support: full
    details:
      - Shows the release's files that differ from the running one's; certificates by names, dates and fingerprints;
        secrets by what becomes of each and who reads it.
"""

EXAMPLES = r"""
- name: Write the release, its certificates and its secrets
  release_files:
    bundle:
      tag: 2026.2.20
      compose: "{{ lookup('ansible.builtin.file', 'docker-compose.yaml') }}"
      images: "{{ pulled.services }}"
      digests: "{{ pulled.digests }}"
      files:
        - {name: config.toml, variable: CONFIG_TOML, content: "{{ config | integr8scode_toml }}"}
    certificates:
      ca:
        certificate: /opt/integr8scode/tls/ca/ca.crt
        key: /opt/integr8scode/tls/ca/ca.key
        common_name: Integr8sCode web1 CA
      certificates:
        - name: backend
          directory: /opt/integr8scode/tls/internal/backend
          common_name: backend
          dns_names: [backend, localhost]
    secrets:
      directory: /opt/integr8scode/secrets
      releases: /opt/integr8scode/releases
      files:
        - name: mongo_root_password
          content: "{{ vault_mongo_root_password }}"
          owner: 999
          services:
            - {service: mongo, target: /run/secrets/mongo_root_password}
"""

RETURN = r"""
bundle:
  description: The release.
  type: dict
  returned: where O(bundle) is given
  contains:
    changed: {description: Whether something of it is (in check mode, would be) written., type: bool}
    id: {type: str, description: "Name of the release, C(<tag>-<12 hex digits>)."}
    path: {type: path, description: Folder of the release.}
    current: {type: bool, description: Whether it is the one that runs.}
    files: {type: dict, description: "Absolute path of each configuration file, by name."}
certificates:
  description: The certificates.
  type: dict
  returned: where O(certificates) is given
  contains:
    changed: {description: Whether something of it is (in check mode, would be) written., type: bool}
    changed_certificates:
      description: Names of the certificates whose files changed; programs that use one must load it again.
      type: list
    certificates:
      description:
        - For each certificate C(name), C(reasons) (why it was made or written, empty when it was good), C(not_after)
          (ISO 8601), C(provided), and C(fingerprint) (SHA-256, hex; empty for one that check mode only predicts).
      type: list
      elements: dict
    ca: {type: dict, description: "Path of the authority's C(certificate), its C(not_after), and whether it is C(new)."}
secrets:
  description: The secret files.
  type: dict
  returned: where O(secrets) is given
  contains:
    changed: {description: Whether something of it is (in check mode, would be) written., type: bool}
    changed_files: {type: list, description: "Names of the files that are new, or whose content or access changed."}
    services:
      description:
        - Services that mount something else than before, or a file whose content was put right. They must be recreated.
      type: list
    paths: {type: dict, description: Path of each file by its name.}
    override: {type: str, description: Path of the compose file that mounts them.}
    unused:
      description: Folders that C(current.yaml) does not name; with O(secrets.prune) those that were removed.
      type: list
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.release_files.bundle import BundlePart
from ansible.module_utils.release_files.certificates import CertificatesPart
from ansible.module_utils.release_files.part import Part
from ansible.module_utils.release_files.secrets import SecretsPart

# in the order in which they are written: secrets count at once, so they come last
KINDS: dict[str, type[Part]] = {"bundle": BundlePart, "certificates": CertificatesPart, "secrets": SecretsPart}


def plan(module: AnsibleModule, given: dict[str, Any]) -> dict[str, Part]:
    """Every part as it is to be; fails with all that stands in the way, before anything is written."""
    parts: dict[str, Part] = {}
    problems = []
    for name, arguments in given.items():
        try:
            parts[name] = KINDS[name](arguments, check=module.check_mode)
        except (OSError, TypeError, ValueError) as error:
            problems.append(f"{KINDS[name].failure(arguments)}: {error}")
    if problems:
        module.fail_json(msg="\n".join(["Nothing was written.", *problems]))
    return parts


def write(module: AnsibleModule, parts: dict[str, Part], given: dict[str, Any]) -> None:
    """Write what is to be changed; fails where the server does not take it."""
    for name, part in parts.items():
        if not part.changed:
            continue
        try:
            part.write()
        except OSError as error:
            module.fail_json(msg=f"{part.failure(given[name])}: {error}", changed=True)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "bundle": {"type": "dict", "options": BundlePart.OPTIONS},
            # all of them: Ansible writes what is nested to the system log as Python shows it, where the line breaks of
            # a key or the backslash of a secret look different and are not recognised
            "certificates": {"type": "dict", "no_log": True, "options": CertificatesPart.OPTIONS},
            "secrets": {"type": "dict", "no_log": True, "options": SecretsPart.OPTIONS},
        },
        required_one_of=[list(KINDS)],
        supports_check_mode=True,
    )
    given = {name: module.params[name] for name in KINDS if module.params[name] is not None}
    # No key and no content is ever returned, so nothing needs masking; masking would replace a short secret such as a
    # user name `root` inside the paths and texts that are returned.
    module.params.update({name: KINDS[name].without_secrets(arguments) for name, arguments in given.items()})
    module.no_log_values.clear()
    parts = plan(module, given)
    for warning in (warning for part in parts.values() for warning in part.warnings):
        module.warn(warning)
    if not module.check_mode:
        write(module, parts, given)
    module.exit_json(
        changed=any(part.changed for part in parts.values()),
        diff=[entry for part in parts.values() for entry in part.diff],
        **{name: part.result() for name, part in parts.items()},
    )


if __name__ == "__main__":
    main()
