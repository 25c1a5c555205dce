"""The node's password: /etc/rancher/node/password here, its hash in a Secret in kube-system (`pkg/nodepassword`)."""

import base64
import hashlib
import hmac
import secrets
from pathlib import Path

from .api import ApiError, Client
from .pki import write_private

_SECRETS = "/api/v1/namespaces/kube-system/secrets"


class RejectedError(Exception):
    """The password is not the one that the node was registered with; the text is k3s' own."""


def secret_name(node: str) -> str:
    """Return the name of the Secret that holds a node's hash."""
    return f"{node}.node-password.k3s"


def verify(admin: Client, node: str, file: Path) -> None:
    """Compare the password with the hash, or store a hash where there is none.

    Raises:
        RejectedError: they differ.
        ApiError, OSError: the API server does not answer.
    """
    if not file.exists():
        write_private(file, secrets.token_hex(16).encode() + b"\n")
    password = file.read_text().strip()
    secret = admin.get(f"{_SECRETS}/{secret_name(node)}")
    if secret is None:
        salted = _hash(password, secrets.token_hex(8))
        body = {"metadata": {"name": secret_name(node)}, "immutable": True, "stringData": {"hash": salted}}
        admin.create(_SECRETS, body)
        return
    known = base64.b64decode(secret["data"]["hash"]).decode()
    if not hmac.compare_digest(known, _hash(password, known.split(":")[1])):
        raise RejectedError(
            f"Node password rejected, duplicate hostname or contents of '{file}' may not match server node-passwd "
            "entry, try enabling a unique node name with the --with-node-id flag"
        )


def forget(admin: Client, node: str) -> None:
    """Delete the hash, as k3s does when the Node object is deleted and after a cluster reset."""
    try:
        admin.request("DELETE", f"{_SECRETS}/{secret_name(node)}")
    except ApiError as error:
        if error.code != 404:
            raise


def _hash(password: str, salt: str) -> str:
    digest = hashlib.scrypt(password.encode(), salt=salt.encode(), n=2**15, r=8, p=1, maxmem=64 << 20, dklen=64)
    return f"$1:{salt}:15:8:1:{base64.b64encode(digest).decode()}"
