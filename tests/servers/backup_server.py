"""A server with backups: what it holds, what is in its MongoDB, and who logs in; for the tests of backups."""

from __future__ import annotations

import http.client
import json
import shlex
import ssl
import urllib.parse
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
ROUTINE = "backup"
FRESH = "molecule/backup/fresh"
BASE, BACKUPS = "/opt/integr8scode", "/var/backups/integr8scode"
SECRETS: dict[str, str] = yaml.safe_load((ROOT / "inventories/lab/group_vars/all/vault.yml").read_text())
# with the driver and the login that the application itself has
PYMONGO = (
    "import json, sys, tomllib, pymongo; "
    "url = tomllib.load(open('/app/secrets.toml', 'rb'))['MONGODB_URL']; "
    "shop = pymongo.MongoClient(url)['integr8scode'].proof; "
)


def mongo(host: Any, script: str) -> Any:
    """Run a line of Python with the collection `shop` in the backend's container; what it prints, as JSON."""
    # its name changes with each replacement
    backend = "docker ps --quiet --filter label=com.docker.compose.service=backend"
    command = shlex.join(["python", "-c", PYMONGO + script])
    return json.loads(host.check_output(f"docker exec $({backend} | head -1) {command}") or "null")


def documents(host: Any) -> list[str]:
    """The names of the documents that tests have written."""
    found: list[str] = mongo(host, "print(json.dumps(sorted(one['_id'] for one in shop.find())))")
    return found


def write_document(host: Any, name: str) -> None:
    """Write one, acknowledged."""
    mongo(host, f"shop.insert_one({{'_id': {name!r}}})")


def kubectl(host: Any, *words: str) -> str:
    """Ask the cluster as its administrator."""
    answer: str = host.check_output(shlex.join(["k3s", "kubectl", *words]))
    return answer


def names_of(host: Any, kind: str, namespace: str = "integr8scode") -> list[str]:
    """Names of the objects of a kind."""
    return kubectl(host, "-n", namespace, "get", kind, "-o", "jsonpath={.items[*].metadata.name}").split()


def log_in(host: Any, user: str, authority: str = "") -> tuple[int, str]:
    """Log a user in through the edge from outside; status and body."""
    cadata = authority or host.file(f"{BASE}/tls/public/ca.crt").content_string
    connection = http.client.HTTPSConnection(
        "localhost",
        int(host.connection["ansible_port"]) + 1,
        timeout=60,
        context=ssl.create_default_context(cadata=cadata),
    )
    form = {"username": user, "password": SECRETS[f"vault_integr8scode_{user}_password"]}
    connection.request(
        "POST",
        "/api/v1/auth/login",
        urllib.parse.urlencode(form),
        {"Content-Type": "application/x-www-form-urlencoded"},
    )
    response = connection.getresponse()
    return response.status, response.read().decode()


def history(host: Any) -> list[dict[str, Any]]:
    """The server's history, oldest first."""
    return [json.loads(line) for line in host.file(f"{BASE}/history.jsonl").content_string.splitlines()]


def backups(host: Any, kind: str) -> list[str]:
    """Files of a kind, oldest first."""
    found: list[str] = host.check_output(f"ls {BACKUPS} | grep -E '^{kind}-.*(gz|age)$' || true").split()
    return found


def routine(host: Any, kind: str) -> list[str]:
    """Those that were made for their own sake, oldest first: a recovery's or a restore's count apart."""
    return [name for name in backups(host, kind) if manifest(host, name)["reason"] == ROUTINE]


def manifest(host: Any, name: str) -> dict[str, Any]:
    """What lies beside a backup."""
    answer: dict[str, Any] = json.loads(host.file(f"{BACKUPS}/{name}.json").content_string)
    return answer


def secrets_in(text: str) -> list[str]:
    """Names of the lab's secrets that a text shows."""
    return [name for name, value in SECRETS.items() if value in text]
