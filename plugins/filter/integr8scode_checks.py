"""Filters of what is judged before a run: secrets, and the names and ports that it needs."""

from __future__ import annotations

import ipaddress
import re
import runpy
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

BCRYPT_MAX_BYTES = 72  # bcrypt ignores what comes after; the application hashes users' passwords with it
SECRET_KEY_MIN = 32  # the application's own minimum for SECRET_KEY
PASSWORD_MIN = 12
_WHOLE_TOKEN = re.compile(r"K10[0-9a-f]{64}::[^:]+:[^:]+")  # as in k3s' own token files
K3S_TOKEN_MIN = 16  # what the role k3s refuses below
# as in module_utils/certificate_tools.py, which would bring a whole library
DNS_NAME = re.compile(r"(?:\*\.)?[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*\Z")
DOCKER_HUB = ("registry-1.docker.io", "auth.docker.io")
# what the shipped inventories name in another way than the variable with vault_ before it
_IN_THE_VAULT = {"integr8scode_registry_password": "vault_registry_password", "k3s_token": "vault_k3s_token"}
EXAMPLE_USERNAME = "your-github-name"  # of the shipped inventories
# control characters, and what Unicode and YAML count as line breaks beside them
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_PLACEHOLDER = re.compile(r"change.?me|replace.?me|placeholder|not-a-secret|example|your[_-]|todo|<.*>", re.IGNORECASE)
# what no registry gives; all else is its own business, whatever it looks like (listed in roles/integr8scode/README.md)
_NO_REGISTRY_PASSWORD = frozenset({"changeme", "replaceme", "placeholder", "todo", "yourtoken", "yourpassword"})
# what servers use, too; Ansible adds the project's folder to ansible.module_utils there alone
_saslprep = runpy.run_path(str(Path(__file__).parents[1] / "module_utils" / "saslprep.py"))["saslprep"]
# the guide's and the application's published defaults
_DEFAULTS = frozenset({"rootpassword", "user123", "admin123", "root", "admin", "password", "integr8scode"})


def _cure(name: str, registry: str = "") -> str:
    """How to come by another value, and where to put it."""
    if name.endswith("username"):
        return "Correct it in group_vars/all/main.yml"
    place = f"put it into vault.yml as {_IN_THE_VAULT.get(name, f'vault_{name}')}"
    if not name.endswith("_registry_password"):
        return f"Make one (openssl rand -base64 48) and {place}"
    kind = ", a classic token with read:packages" if registry == "ghcr.io" else ""
    where = f"at {registry}" if registry else "at its registry"
    return f"It is the token or password of integr8scode_registry_username {where}{kind}: {place}"


def _problems_of_text(name: str, value: object, cure: str) -> list[str]:
    """What keeps a value out of every format that it goes into."""
    if value is None or value == "":
        return [f"{name} is missing. {cure}"]
    if not isinstance(value, str):
        # YAML reads 0123 or yes as something else, so what was typed is lost already
        return [f"{name} is no text: YAML reads it as {_yaml_type(value)}. Put it into quotes in vault.yml."]
    try:
        value.encode()
    except UnicodeEncodeError:
        return [f"{name} is not valid Unicode text. Store the file that it comes from as UTF-8."]
    if _UNPRINTABLE.search(value):
        problem = (
            f"{name} holds a line break or another control character, which not every format that it is written into "
            f"can carry. Write it in one line, in quotes (a block, `|`, ends with a line break). {cure}"
        )
        return [problem]
    return []


def _yaml_type(value: object) -> str:
    """The type of what YAML has read, by its plain name: Ansible's own classes say little to people."""
    known = (bool, int, float, list, dict)
    return next((kind.__name__ for kind in known if isinstance(value, kind)), type(value).__name__)


def _forbidden_by_mongodb(password: str) -> bool:
    try:
        _saslprep(password)
    except ValueError:
        return True
    return False


def _is_placeholder(name: str, text: str) -> bool:
    if name.endswith("_registry_password"):
        return re.sub(r"[\s_<>-]", "", text.lower()) in _NO_REGISTRY_PASSWORD
    return text.lower() in _DEFAULTS or bool(_PLACEHOLDER.search(text))


def _problems_of_secret(name: str, value: object, minimum: int, allow_fake: bool, cure: str) -> list[str]:
    problems = _problems_of_text(name, value, cure)
    if problems:
        return problems
    text = str(value)
    if not allow_fake and _is_placeholder(name, text):
        # its length and what is in it count for nothing
        return [f"{name} is a default or placeholder value. {cure}"]
    if len(text) < minimum:
        problems.append(f"{name} has {len(text)} characters, {minimum} are the least. {cure}")
    if name.endswith("mongo_root_password") and _forbidden_by_mongodb(text):
        problems.append(
            f"{name} holds a character that MongoDB takes in no password (it prepares them by RFC 4013, which knows no "
            f"emoji, no private and no newer characters, and no mix of directions of writing). {cure}"
        )
    if name == "k3s_token" and re.search(r"\s", text):
        problems.append(f"{name} holds white space, which k3s does not take. {cure}")
    if name == "k3s_token" and ":" in text and not _WHOLE_TOKEN.fullmatch(text):
        problems.append(f"{name} holds a colon, before which k3s reads a user's name. {cure}")
    size = len(text.encode())
    if name.endswith(("_user_password", "_admin_password")) and size > BCRYPT_MAX_BYTES:
        problems.append(
            f"{name} has {size} bytes in UTF-8, and bcrypt, by which the application keeps it, reads "
            f"{BCRYPT_MAX_BYTES} at most. Shorten it."
        )
    return problems


def _minimum(name: str) -> int:
    if name == "k3s_token":
        return K3S_TOKEN_MIN
    if name.endswith("_registry_password"):
        return 1  # another's, and as long as that says
    return SECRET_KEY_MIN if name.endswith("secret_key") else PASSWORD_MIN


def secret_problems(secrets: dict[str, Any], allow_fake: bool = False, registry: str = "") -> list[str]:
    """Return what is wrong with the secrets, never showing one.

    :param secrets: by name of the variable; names that end in ``secret_key`` need 32 characters,
        ``k3s_token`` 16, those that end in ``username`` or ``_registry_password`` any, others 12.
    :param allow_fake: whether published defaults and placeholders pass, as in the lab.
    :param registry: the registry of the login, with or without the images' prefix; for its password's cure.
    """
    problems = []
    for name, value in secrets.items():
        cure = _cure(name, registry.partition("/")[0])
        if name.endswith("username"):
            # not secret, but written beside the passwords into the same formats
            problems += _problems_of_text(name, value, cure)
        else:
            problems += _problems_of_secret(name, value, _minimum(name), bool(allow_fake), cure)
    return problems


def name_notes(names: Any, addresses: Any, host: str, *, given: bool) -> list[str]:
    """Return what is worth a word about a server whose public names were not given.

    :param names: ``integr8scode_public_names``.
    :param addresses: ``integr8scode_public_addresses``.
    :param host: the server's name in the inventory; a whole DNS name or an address may well be its public one.
    :param given: whether the inventory sets the names.
    """
    if given or addresses or names != [host] or "." in host or ":" in host:
        return []
    note = (
        f"integr8scode_public_names is not set: users are expected at https://{host}, and the certificate is for that "
        "name. Others are written beside the server in hosts.yml: integr8scode_public_names: [app1.example.org]"
    )
    return [note]


def example_problems(username: str) -> list[str]:
    """Return which examples of the shipped inventories were not replaced.

    :param username: the login at the application's registry.
    """
    if username != EXAMPLE_USERNAME:
        return []
    problem = (
        f"integr8scode_registry_username is the example {EXAMPLE_USERNAME}. Write your login at the registry into "
        'group_vars/all/main.yml, or "" where the images need none'
    )
    return [problem]


def name_problems(names: Any, addresses: Any) -> list[str]:
    """Return why no certificate could be made for a server's public names.

    :param names: ``integr8scode_public_names``; an address among them counts as one.
    :param addresses: ``integr8scode_public_addresses``.
    """
    if not isinstance(names, list) or not isinstance(addresses, list):
        return []  # another type is told as such
    if not names and not addresses:
        return ["integr8scode_public_names and integr8scode_public_addresses are empty. Give the server a name."]
    found = []
    for setting, given in (("integr8scode_public_names", names), ("integr8scode_public_addresses", addresses)):
        for one in map(str, given):
            if not _has_to_be_found(one) and one not in {"", "localhost"}:
                continue  # an address
            if setting.endswith("_addresses"):
                found.append(f"{setting}: {one!r} is no IP address. Names belong into integr8scode_public_names.")
            elif not DNS_NAME.match(one.lower().rstrip(".")):
                hint = " Leave out https://, port and path." if re.search(r"[:/]", one) else ""
                cure = "Letters, digits, - and . are allowed; other scripts need their xn--… form."
                found.append(f"{setting}: {one!r} is no DNS name.{hint} {cure}")
    return found


def download_hosts(
    registries: list[str], mirrors: list[str] | None = None, proxy: str = "", no_proxy: list[str] | None = None
) -> list[str]:
    """Return the names that a server has to find to pull images.

    :param registries: registry and prefix of images, as docker.io or registry.example/team.
    :param mirrors: URLs that stand in for Docker Hub.
    :param proxy: URL of the engine's proxy, which finds the names itself; empty for none.
    :param no_proxy: hosts and .domains that are reached without it.
    """
    found: list[str] = []
    for registry in registries:
        place = registry.partition("/")[0]
        if place == "docker.io":
            found += [urlsplit(one).hostname or "" for one in mirrors or ()] or list(DOCKER_HUB)
        else:
            found.append(urlsplit(f"//{place}").hostname or "")
    if proxy:
        found = [name for name in found if _without_proxy(name, no_proxy)]
        found.append(urlsplit(proxy).hostname or "")
    return [name for name in dict.fromkeys(found) if _has_to_be_found(name)]


def url_host(url: str, http_proxy: str = "", https_proxy: str = "", no_proxy: str | list[str] | None = None) -> str:
    """Return the name that has to be found to fetch a URL; "" for a file, an address or this server.

    :param http_proxy: URL of the proxy for http, which finds the name itself; empty for none.
    :param https_proxy: the one for https.
    :param no_proxy: hosts and .domains that are reached without it, in a list or a text with commas.
    """
    split = urlsplit(url)
    name = split.hostname or ""
    proxy = {"http": http_proxy, "https": https_proxy}.get(split.scheme, "")
    if proxy and not _without_proxy(name, no_proxy):
        name = urlsplit(proxy).hostname or ""
    return name if _has_to_be_found(name) else ""


def _without_proxy(name: str, no_proxy: str | list[str] | None) -> bool:
    listed = no_proxy.split(",") if isinstance(no_proxy, str) else no_proxy or ()
    direct = [one.strip().lstrip(".").lower() for one in listed]
    return any(name == one or name.endswith(f".{one}") for one in direct if one)


def _has_to_be_found(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name not in {"", "localhost"}
    return False


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {
            "secret_problems": secret_problems,
            "example_problems": example_problems,
            "name_problems": name_problems,
            "name_notes": name_notes,
            "download_hosts": download_hosts,
            "url_host": url_host,
        }
