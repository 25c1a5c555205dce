"""Filters of the first contact with a server: whether anything answers there, and why nobody was let in."""

from __future__ import annotations

import re
import runpy
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# its path is known to Ansible, not to Python
_contact = runpy.run_path(str(Path(__file__).parents[1] / "module_utils/preflight/contact.py"))
_SILENT = re.compile(
    r"Connection refused|timed out|No route to host|Network is unreachable|Could not resolve|Name or service not known"
)


def _words(result: Mapping[str, Any]) -> str:
    return str(_contact["ssh_words"](str(result.get("msg") or "no answer"))).rstrip(".")


def nobody_answers(result: Mapping[str, Any]) -> bool:
    """Return whether no ssh server was met at all, so that another user would not get further.

    :param result: of a task that went on without the server (``ignore_unreachable``).
    """
    return bool(result.get("unreachable")) and bool(_SILENT.search(_words(result)))


def first_contact_refusal(first: Mapping[str, Any], later: Mapping[str, Any], way: Mapping[str, Any]) -> list[str]:
    """Return why a server cannot be begun with, and what to do.

    :param first: result of the login as the server's first user, which failed.
    :param later: result of the one as the user that a bootstrap makes; skipped where nobody answers.
    :param way: ``host``, ``address``, ``port``, ``first_user``, ``ops_user``.
    """
    host, address, port = (str(way[name]) for name in ("host", "address", "port"))
    target = shlex.quote(f"{way['first_user']}@{address}")
    by_hand = f"`ssh {'' if port == '22' else f'-p {port} '}{target} true` must work by hand"
    if nobody_answers(first):
        found = f"{host}: nothing answers by ssh at {address}, port {port}: {_words(first)}."
        questions = "Is that its address (ansible_host in hosts.yml), is it up, does its firewall let this machine in?"
        return [found, f"Cure: {by_hand}. {questions}", "Nothing was changed."]
    said = {str(way["first_user"]): _words(first), f"{way['ops_user']}, whom a bootstrap makes": _words(later)}
    both = " ".join(said.values())
    cures = [f"Cure: {by_hand}."]
    host_key = "Host key verification failed" in both
    if host_key:
        cures.append(_contact["host_key_cure"](address, port))
    if not host_key or "Permission denied" in both:
        cures.append("It takes passwords only: add -k. Its first user is another: -e bootstrap_login_user=debian")
    if not host_key and "Permission denied" not in both:
        cures.append(_contact["host_key_cure"](address, port))
    return [
        f"{host} lets in neither its first user nor the one that a bootstrap makes.",
        *(f"As {user}: {words}." for user, words in said.items()),
        *cures,
        "Nothing was changed.",
    ]


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"nobody_answers": nobody_answers, "first_contact_refusal": first_contact_refusal}
