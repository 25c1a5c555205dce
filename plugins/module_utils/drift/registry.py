"""The registry of the application's images: is the login accepted, where do tags point to, is there a newer release."""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import json
import os
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from ansible.module_utils.drift.findings import Comparison
from ansible.module_utils.drift.probes import UnansweredError

CALVER = re.compile(r"(\d{4})\.([1-9]\d?)\.(0|[1-9]\d*)\Z")
MANIFESTS = (
    "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
)
PAGES = 20  # of a list of tags
CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


class RefusedError(Exception):
    """The registry does not accept the login."""


def calver(tag: str) -> tuple[int, ...]:
    """The numbers of a release's tag; () for a tag of another form."""
    match = CALVER.match(tag)
    return tuple(int(number) for number in match.groups()) if match else ()


def split_reference(reference: str) -> tuple[str, str, str]:
    """Host, repository and tag of `host/repository:tag`, a digest left out."""
    name = reference.partition("@")[0]
    host, _, rest = name.partition("/")
    repository, _, tag = rest.rpartition(":")
    return host, repository or rest, tag


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the login to another host."""

    def redirect_request(self, *_arguments: Any) -> None:
        """Follow none."""
        return


def _is_beside(host: str, no_proxy: str) -> bool:
    """Whether a host is reached without the proxy: names with those below them, addresses, networks, or * for all."""
    name = host.partition(":")[0].lower()
    for one in (entry.strip().lower() for entry in no_proxy.split(",")):
        plain = one.partition(":")[0].removeprefix("*").lstrip(".")
        if one == "*" or (plain and (name == plain or name.endswith(f".{plain}"))):
            return True
        with contextlib.suppress(ValueError):
            if ipaddress.ip_address(name) in ipaddress.ip_network(one, strict=False):
                return True
    return False


def proxy_for(host: str, proxies: Mapping[str, Any]) -> dict[str, str] | None:
    """The proxy by which the Docker Engine reaches a registry, as urllib takes it; {} where it goes there directly.

    None where its settings name no proxy that urllib could use: then the environment's counts, if there is one.

    :param proxies: `proxies` of daemon.json.
    """
    url = str(proxies.get("https-proxy") or "")
    if urlsplit(url).scheme not in ("http", "https"):
        return None
    return {} if _is_beside(host, str(proxies.get("no-proxy") or "")) else {"https": url}


class Registry:
    """One registry, asked by its HTTP API (distribution-spec) with GET and HEAD.

    :param timeout: seconds for one answer.
    :param proxies: `proxies` of daemon.json: the engine's way is the one that a pull takes.
    """

    def __init__(
        self, host: str, username: str, password: str, timeout: float, proxies: Mapping[str, Any] | None = None
    ) -> None:
        self.host = host
        self._login = base64.b64encode(f"{username}:{password}".encode()).decode() if username else ""
        self._timeout = timeout
        self._header: dict[str, str] = {}
        context = ssl.create_default_context()
        ca = f"/etc/docker/certs.d/{host}/ca.crt"
        if os.path.isfile(ca):
            context.load_verify_locations(ca)
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler(proxy_for(host, proxies or {})),
            urllib.request.HTTPSHandler(context=context),
            _NoRedirect(),
        )

    def _open(self, method: str, url: str, headers: Mapping[str, str]) -> tuple[int, Any, bytes]:
        request = urllib.request.Request(url, method=method, headers=dict(headers))  # noqa: S310  (https only, see below)
        try:
            with self._opener.open(request, timeout=self._timeout) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()
        except (urllib.error.URLError, HTTPException, OSError) as error:
            why = getattr(error, "reason", None) or error
            raise UnansweredError(f"{self.host} cannot be reached: {why}") from None

    def _authorise(self, challenge: str) -> dict[str, str]:
        kind, _, rest = challenge.partition(" ")
        if kind.lower() == "basic":
            return {"Authorization": f"Basic {self._login}"} if self._login else {}
        values = dict(CHALLENGE.findall(rest))
        realm = values.pop("realm", "")
        if kind.lower() != "bearer" or urlsplit(realm).scheme != "https":
            raise UnansweredError(f"{self.host} asks for a login of an unknown kind")
        headers = {"Authorization": f"Basic {self._login}"} if self._login else {}
        status, _, body = self._open("GET", f"{realm}?{urlencode(values)}", headers)
        if status in {401, 403}:
            raise RefusedError
        try:
            answer = json.loads(body)
            token = answer.get("token") or answer["access_token"]
        except (ValueError, KeyError, AttributeError):
            raise UnansweredError(f"{self.host} gives no token (HTTP {status})") from None
        return {"Authorization": f"Bearer {token}"}

    def ask(self, method: str, path: str, accept: str = "application/json") -> tuple[int, Any, bytes]:
        """One question, with a login where one is asked for. Raises RefusedError, UnansweredError."""
        url = urljoin(f"https://{self.host}", path)
        status, headers, body = self._open(method, url, {"Accept": accept, **self._header})
        if status == 401:
            self._header = self._authorise(headers.get("WWW-Authenticate", ""))
            status, headers, body = self._open(method, url, {"Accept": accept, **self._header})
        if status in {401, 403}:
            raise RefusedError
        return status, headers, body

    def digest(self, repository: str, tag: str) -> str:
        """The digest that a tag stands for now; "" where there is no such tag."""
        status, headers, _ = self.ask("HEAD", f"/v2/{repository}/manifests/{tag}", MANIFESTS)
        if status == 404:
            return ""
        found = headers.get("Docker-Content-Digest", "")
        if status != 200 or not found:
            raise UnansweredError(f"{self.host} answers {status} when asked for {repository}:{tag}")
        return str(found)

    def tags(self, repository: str) -> list[str]:
        """All tags of a repository."""
        found: list[str] = []
        path = f"/v2/{repository}/tags/list?n=1000"
        for _ in range(PAGES):
            status, headers, body = self.ask("GET", path)
            if status != 200:
                raise UnansweredError(f"{self.host} answers {status} when asked for the tags of {repository}")
            try:
                found += [str(tag) for tag in json.loads(body).get("tags") or []]
            except (ValueError, AttributeError):
                raise UnansweredError(f"{self.host} lists the tags of {repository} in an unknown form") from None
            link = re.search(r'<([^>]+)>;\s*rel="?next"?', headers.get("Link") or "")
            if link is None:
                break
            path = link[1]
        return found


def collect_registry(
    expected: Mapping[str, Any],
    password: str,
    references: list[str],
    timeout: float,
    proxies: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Digests of the application's images by their tags, and all tags. Raises UnansweredError.

    :param expected: `host` (where the login belongs), `username`.
    :param references: image references of the running release with the digests that they had.
    :param proxies: `proxies` of daemon.json.
    """
    found: dict[str, Any] = {"refused": False, "digests": {}, "tags": []}
    host = str(expected["host"])
    registry = Registry(host, str(expected.get("username") or ""), password, timeout, proxies)
    try:
        for reference in references:
            _, repository, tag = split_reference(reference)
            found["digests"][reference] = registry.digest(repository, tag)
        if references:
            found["tags"] = registry.tags(split_reference(references[0])[1])
    except RefusedError:
        found["refused"] = True
    return found


def application_images(record: Mapping[str, Any] | None, registry: str) -> dict[str, str]:
    """Recorded digest by reference, of the images that a release takes from `registry` (host and path)."""
    digests = (record or {}).get("digests") or {}
    return {
        str(reference): str(digest)
        for reference, digest in digests.items()
        if str(reference).startswith(registry.rstrip("/") + "/") and digest
    }


def compare_registry(
    result: Comparison, expected: Mapping[str, Any], facts: Mapping[str, Any], recorded: Mapping[str, str], tag: str
) -> None:
    """Compare the registry with the running release: login, tags; a newer release is told and is no drift."""
    host = str(expected["host"])
    result.count("registry")
    if facts["refused"]:
        who = f"login of {expected['username']}" if expected.get("username") else "access without a login"
        result.add(
            "registry",
            host,
            "login",
            expected="accepted",
            found=f"{who} is refused",
            cure=(
                "By hand: make a new token with read:packages and put it into vault_registry_password "
                "(ansible-vault edit)"
            ),
            severity="critical",
        )
        return
    for reference, found in facts["digests"].items():
        result.count("registry")
        if not found:
            result.add(
                "registry",
                reference,
                "missing",
                expected="in the registry",
                found="the tag is gone: another server could not get it",
                cure="By hand: publish the release again, or deploy one that exists",
            )
        elif found != recorded.get(reference):
            result.add(
                "registry", reference, "digest", expected=recorded.get(reference), found=found, cure=result.deploy(tag)
            )
    newer = sorted(
        one for one in (calver(other) for other in facts["tags"]) if one and calver(tag) and one > calver(tag)
    )
    if newer:
        name = ".".join(str(number) for number in newer[-1])
        result.notes.append(f"A newer release is in the registry: {name}. {result.deploy(name)}")
