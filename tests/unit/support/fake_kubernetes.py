"""A Kubernetes API for unit tests: HTTPS with client certificates and tokens, a few kinds, dry runs and RBAC.

It answers as the real kube-apiserver 1.34 does where the project's plugins depend on it; it is no more forgiving.
"""

from __future__ import annotations

import base64
import copy
import dataclasses
import datetime as dt
import ipaddress
import json
import ssl
import threading
import time
import urllib.parse
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

UNAUTHORIZED = {
    "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "Unauthorized",
    "reason": "Unauthorized", "code": 401,
}  # fmt: skip
# what system:basic-user and system:discovery grant to everybody
BASIC = {"selfsubjectreviews", "selfsubjectaccessreviews", "selfsubjectrulesreviews"}


class Authority:
    """A certificate authority and what it has signed, as PEM text."""

    def __init__(self, name: str = "k3s-server-ca") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.pem = self._sign(self._name, self._key, ca=True, names=())[0]

    def issue(self, common_name: str, names: tuple[str, ...] = ()) -> tuple[str, str]:
        """Certificate and key for a server (with `names`, 127.0.0.1 included) or a client."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        return self._sign(subject, ec.generate_private_key(ec.SECP256R1()), ca=False, names=names)

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, ca: bool, names: tuple[str, ...]
    ) -> tuple[str, str]:
        now = dt.datetime.now(dt.timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
        )
        if names:
            sans: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
            sans.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
            builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return (
            certificate.public_bytes(serialization.Encoding.PEM).decode(),
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ).decode(),
        )


@dataclasses.dataclass
class Target:
    """What a request is about, as RBAC sees it."""

    group: str
    namespace: str
    resource: str
    name: str
    subresource: str
    verb: str

    @property
    def full(self) -> str:
        """The resource as a rule names it."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


def parse(method: str, path: str, query: dict[str, list[str]]) -> Target:
    """The target of a request."""
    parts = path.strip("/").split("/")
    group, parts = ("", parts[2:]) if parts[0] == "api" else (parts[1], parts[3:])
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 2:
        namespace, parts = parts[1], parts[2:]
    resource, name, subresource = (*parts, "", "")[:3]
    read = "get" if name else "list"
    if "watch" in query:
        read = "watch"
    verbs = {"GET": read, "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
    return Target(group, namespace, resource, name, subresource, verbs[method])


class FakeKubernetes:
    """The cluster. `objects` maps an object's path to it; `requests` records method and path of every request."""

    def __init__(self, folder: Path, *, names: tuple[str, ...] = ("localhost", "host.docker.internal")) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str]] = []
        self.tokens: dict[str, tuple[str, str]] = {}
        self.default_account = True
        self.ready = True
        # an API that never accepts a token, as after a change of its keys
        self.refuse_tokens = False
        self.authority = Authority()
        self.put_object("/api/v1/namespaces/default", {"kind": "Namespace", "metadata": {"name": "default"}})
        self.put_object("/api/v1/namespaces/kube-system", {"kind": "Namespace", "metadata": {"name": "kube-system"}})
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        (folder / "server.pem").write_text("".join(self.authority.issue("k3s", names)))
        context.load_cert_chain(folder / "server.pem")
        context.load_verify_locations(cadata=self.authority.pem)
        context.verify_mode = ssl.CERT_OPTIONAL
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.admin_path = folder / "k3s.yaml"
        self.write_admin()

    def write_admin(self) -> None:
        """Writes the administrator's kubeconfig as k3s does."""
        certificate, key = self.authority.issue("system:admin")

        def encode(text: str) -> str:
            return base64.b64encode(text.encode()).decode()

        server = {"server": f"https://127.0.0.1:{self.port}", "certificate-authority-data": encode(self.authority.pem)}
        user = {"client-certificate-data": encode(certificate), "client-key-data": encode(key)}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "default",
            "clusters": [{"name": "default", "cluster": server}],
            "users": [{"name": "default", "user": user}],
            "contexts": [{"name": "default", "context": {"cluster": "default", "user": "default"}}],
        }
        self.admin_path.write_text(yaml.safe_dump(document))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def writes(self) -> list[tuple[str, str]]:
        """The requests that may have changed something: no reads, reviews and dry runs."""
        return [
            (method, path)
            for method, path in self.requests
            if method != "GET" and "dryRun" not in path and "review" not in path
        ]

    def put_object(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Stores an object; what is empty is left out, as the API does."""
        metadata = {"uid": str(uuid.uuid4()), "resourceVersion": "1", **body.get("metadata", {})}
        self.objects[path] = {
            **{key: value for key, value in body.items() if value is not None and value != []},
            "metadata": metadata,
        }
        return self.objects[path]

    def issue_token(self, namespace: str, name: str, seconds: int, *, issued: float | None = None) -> str:
        """A token of a service account. Its signature is none: this API knows its tokens by heart."""
        account = self.objects[f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}"]
        start = int(issued if issued is not None else time.time())
        claims = {
            "iat": start,
            "exp": start + seconds,
            "sub": f"system:serviceaccount:{namespace}:{name}",
            "kubernetes.io": {
                "namespace": namespace,
                "serviceaccount": {"name": name, "uid": account["metadata"]["uid"]},
            },
        }
        middle = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
        token = f"eyJhbGciOiJSUzI1NiJ9.{middle}.fake-signature-{uuid.uuid4().hex}"
        self.tokens[token] = (namespace, name)
        return token

    def rules(self, namespace: str, account: tuple[str, str]) -> list[dict[str, Any]]:
        """The rules that hold for an account in a namespace."""
        found: list[dict[str, Any]] = []
        subject = {"kind": "ServiceAccount", "namespace": account[0], "name": account[1]}
        prefix = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
        for path, binding in self.objects.items():
            if path.startswith(f"{prefix}/rolebindings/") and subject in binding.get("subjects", []):
                found += self.objects.get(f"{prefix}/roles/{binding['roleRef']['name']}", {}).get("rules", [])
        return found

    def allowed(self, target: Target, account: tuple[str, str]) -> bool:
        """Whether RBAC lets the account do it."""
        return target.resource in BASIC or any(
            target.group in rule["apiGroups"] and target.full in rule["resources"] and target.verb in rule["verbs"]
            for rule in self.rules(target.namespace, account)
        )

    def answer(self, method: str, target: Target, path: str, body: dict[str, Any], *, dry: bool) -> tuple[int, Any]:
        """Status and body for somebody who may ask."""
        if target.subresource == "token":
            return self._token(target, body)
        if target.verb in ("list", "watch"):
            found = [o for p, o in self.objects.items() if parse("GET", p, {}).resource == target.resource]
            return 200, {"items": found}
        existing = self.objects.get(path)
        if method != "POST" and existing is None:
            return failure(404, f'{target.resource} "{target.name}" not found')
        if method == "DELETE" and not dry:
            del self.objects[path]
        if method in ("GET", "DELETE"):
            return 200, existing
        return self._store(method, target, path, body, dry=dry)

    def _store(self, method: str, target: Target, path: str, body: dict[str, Any], *, dry: bool) -> tuple[int, Any]:
        if target.namespace and f"/api/v1/namespaces/{target.namespace}" not in self.objects:
            return failure(404, f'namespaces "{target.namespace}" not found')
        existing = self.objects.get(path)
        where = path if method == "PUT" else f"{path}/{body['metadata']['name']}"
        if method == "POST" and where in self.objects:
            return failure(409, f'{target.resource} "{body["metadata"]["name"]}" already exists')
        if existing and existing.get("roleRef") != body.get("roleRef"):
            return failure(422, "cannot change roleRef")
        before = copy.deepcopy(self.objects)
        stored = copy.deepcopy(self.put_object(where, body))
        if dry:
            self.objects = before
        elif target.resource == "namespaces" and self.default_account:
            account = {"kind": "ServiceAccount", "metadata": {"name": "default"}}
            self.put_object(f"{where}/serviceaccounts/default", account)
        return (200 if method == "PUT" else 201), stored

    def _token(self, target: Target, body: dict[str, Any]) -> tuple[int, Any]:
        seconds = int(body.get("spec", {}).get("expirationSeconds", 3600))
        if seconds < 600:
            return failure(422, "may not specify a duration less than 10 minutes")
        if f"/api/v1/namespaces/{target.namespace}/serviceaccounts/{target.name}" not in self.objects:
            return failure(404, f'serviceaccounts "{target.name}" not found')
        return 201, {"status": {"token": self.issue_token(target.namespace, target.name, seconds)}}

    def respond(self, method: str, url: str, token: str | None, body: dict[str, Any]) -> tuple[int, Any]:
        """One request of somebody with a token, or (None) of the administrator."""
        self.requests.append((method, url))
        parts = urllib.parse.urlsplit(url)
        if token is not None and (self.refuse_tokens or token not in self.tokens):
            return 401, UNAUTHORIZED
        if parts.path == "/readyz":
            return (200, "ok") if self.ready else (500, "[-]etcd failed")
        query = urllib.parse.parse_qs(parts.query)
        target = parse(method, parts.path, query)
        if token is not None:
            account = self.tokens[token]
            if not self.allowed(target, account):
                user = f"system:serviceaccount:{account[0]}:{account[1]}"
                return failure(
                    403, f'{target.full} is forbidden: User "{user}" cannot {target.verb} resource "{target.full}"'
                )
            if target.resource == "selfsubjectrulesreviews":
                return 201, {"status": {"resourceRules": self.rules(body["spec"]["namespace"], account)}}
            asked = body.get("spec", {}).get("resourceAttributes")
            if target.resource == "selfsubjectaccessreviews" and asked:
                wanted = Target(asked.get("group", ""), asked["namespace"], asked["resource"], "", "", asked["verb"])
                return 201, {"status": {"allowed": self.allowed(wanted, account)}}
        if target.resource in BASIC:
            return 201, {}
        return self.answer(method, target, parts.path, body, dry="dryRun" in query)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 20

            def log_message(self, *_: Any) -> None:
                """Silent."""

            def do(self) -> None:
                """Any method."""
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else {}
                bearer = self.headers.get("Authorization", "").removeprefix("Bearer ")
                certificate = self.connection.getpeercert()  # type: ignore[attr-defined]
                token = None if certificate and not bearer else bearer
                status, answer = cluster.respond(self.command, self.path, token, body)
                data = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do  # noqa: N815 - named so by the base class

        return Handler


def failure(code: int, message: str) -> tuple[int, dict[str, Any]]:
    """An answer of kind Status."""
    return code, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}
