"""The server of the scenario `site-variant`: what its inventory names and needs, and how its tests look at it.

python -m tests.servers.variant
"""

from __future__ import annotations

import json
import re
import shlex
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lab.registry import Registry
from lab.settings import REGISTRY_HOST, Settings

ROOT = Path(__file__).resolve().parents[2]
SCENARIO = ROOT / "molecule/site-variant"
SERVER = "variant1"
WORD = "variance"
"""In every text of the variant's own."""
TAG = "2026.2.20"


def inventory(name: str) -> dict[str, Any]:
    """The host's variables as one of the scenario's inventories writes them."""
    text = (SCENARIO / name / "hosts.yml").read_text("utf-8")
    variables: dict[str, Any] = yaml.safe_load(text)["integr8scode"]["hosts"][SERVER]
    return variables


VARIANT, PLAIN = inventory("inventory"), inventory("plain")
BASE: str = VARIANT["integr8scode_base"]
CURRENT = f"{BASE}/current"


# -- what the inventory names


def repositories() -> list[tuple[str, str, str]]:
    """Repository and tag of every image of the stack in the lab's registry, and the repository that the variant has."""
    own, hub = (VARIANT[f"integr8scode_{name}_registry"].removeprefix(f"{REGISTRY_HOST}/") for name in ("app", "hub"))
    compose = (ROOT / "docker-compose.yaml").read_text("utf-8")
    others = set(re.findall(r"image: \$\{HUB_REGISTRY:-docker\.io\}/(\S+):(\S+)", compose))
    found = [(f"hardmax71/integr8scode/{name}", TAG, f"{own}/{name}") for name in ("backend", "frontend")]
    return found + [(name, tag, f"{hub}/{name}") for name, tag in sorted(others)]


def copy_images(registry: Registry) -> None:
    """Have all of them in the variant's repositories. Raises LabError."""
    for repository, tag, to in repositories():
        registry.copy(repository, tag, to)


def make_certificates(folder: Path) -> None:
    """An authority, and a certificate for the variant's public names that it has signed by way of another one."""
    now = datetime.now(timezone.utc)

    def certificate(
        name: str, issuer: tuple[x509.Name, ec.EllipticCurvePrivateKey] | None, names: list[x509.GeneralName]
    ) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signed_by, signing = issuer or (subject, key)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(signed_by)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=90))
            .add_extension(x509.BasicConstraints(ca=not names, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False)
        )
        usage = x509.KeyUsage(
            digital_signature=bool(names),
            key_cert_sign=not names,
            crl_sign=not names,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        builder = builder.add_extension(usage, critical=True)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(signing, hashes.SHA256()), key

    def pem(made: x509.Certificate) -> bytes:
        return made.public_bytes(serialization.Encoding.PEM)

    public: list[x509.GeneralName] = [x509.DNSName(name) for name in VARIANT["integr8scode_public_names"]]
    public += [x509.IPAddress(ip_address(one)) for one in VARIANT["integr8scode_public_addresses"]]
    root, root_key = certificate(f"Authority of the {WORD}", None, [])
    between, between_key = certificate(f"Authority in between of the {WORD}", (root.subject, root_key), [])
    server, key = certificate(f"app.{WORD}.lab.test", (between.subject, between_key), public)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ca.crt").write_bytes(pem(root))
    (folder / "server.crt").write_bytes(pem(server) + pem(between))
    secret = folder / "server.key"
    secret.touch(0o600)
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


# -- how its tests look at it

# by the server itself, since the lab publishes other ports
_ASK = """
import hashlib, socket, ssl, sys
authority, name, port, path = sys.argv[1:]
context = ssl.create_default_context(cafile=authority)
# k3s' own certificates lack what Python 3.13 asks for besides
context.verify_flags &= ~ssl.VERIFY_X509_STRICT
with socket.create_connection(("127.0.0.1", int(port)), 30) as plain:
    with context.wrap_socket(plain, server_hostname=name) as tls:
        tls.sendall(f"GET {path} HTTP/1.0\\r\\nHost: {name}\\r\\n\\r\\n".encode())
        print(tls.recv(65536).split()[1].decode(), hashlib.sha256(tls.getpeercert(True)).hexdigest())
"""
_LISTENS = """
import socket, sys
for port in sys.argv[1:]:
    with socket.socket() as probe:
        probe.settimeout(5)
        if probe.connect_ex(("127.0.0.1", int(port))) == 0:
            print(port)
"""


def ask(host: Any, authority: str, name: str, port: int, path: str) -> tuple[int, str]:
    """The status of an answer over TLS by a verified name, and the certificate's SHA-256. Fails where it is not."""
    command = shlex.join(["python3", "-c", _ASK, authority, name, str(port), path])
    status, digest = host.check_output(command).split()
    return int(status), digest


def listening(host: Any, *ports: int) -> set[int]:
    """Ports of 127.0.0.1 that take connections."""
    command = shlex.join(["python3", "-c", _LISTENS, *map(str, ports)])
    return {int(port) for port in host.check_output(command).split()}


def containers(host: Any) -> dict[str, dict[str, Any]]:
    """What `docker inspect` says of each service's one container."""
    ids = host.check_output("docker ps --all --quiet --filter label=com.docker.compose.project=integr8scode").split()
    found: dict[str, dict[str, Any]] = {}
    for one in json.loads(host.check_output(shlex.join(["docker", "inspect", *ids]))):
        service = one["Config"]["Labels"]["com.docker.compose.service"]
        assert service not in found, f"two containers of {service}"
        found[service] = one
    return found


def networks(host: Any) -> dict[str, dict[str, Any]]:
    """The stack's networks: the first entry of each one's addresses, as the engine has it."""
    told = json.loads(host.check_output("docker network inspect integr8scode integr8scode_proxy"))
    return {one["Name"]: one["IPAM"]["Config"][0] for one in told}


def variables_of(container: dict[str, Any]) -> dict[str, str]:
    """A container's environment."""
    return dict(entry.split("=", 1) for entry in container["Config"]["Env"])


def settings(host: Any) -> str:
    """The application's config.toml, as the running release mounts it."""
    record = json.loads(host.file(f"{CURRENT}/release.json").content_string)
    text: str = host.file(record["files"]["config.toml"]).content_string
    return text


def written(host: Any, path: str) -> Any:
    """A file of JSON or YAML, which holds JSON, too."""
    return yaml.safe_load(host.file(path).content_string)


def timer(host: Any, name: str) -> str:
    """When a timer is due, as systemd has loaded it."""
    shown: str = host.check_output(f"systemctl show {name} --property=TimersCalendar,RandomizedDelayUSec,ActiveState")
    return shown


def changes(output: str) -> int:
    """How many changes ansible-playbook counts."""
    return sum(int(count) for count in re.findall(r"changed=(\d+)", output))


if __name__ == "__main__":
    lab = Settings.from_environment()
    make_certificates(lab.state / "site-variant")
    copy_images(Registry.of(lab))
