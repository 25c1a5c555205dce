"""The filters that know what a release's tag looks like."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal

from ansible.errors import AnsibleFilterError

SHA = re.compile(r"sha-[0-9a-f]{7}\Z")
CALVER = re.compile(r"(?P<year>[0-9]{4})\.(?P<month>[0-9]+)\.(?P<patch>[0-9]+)\Z")

TagKind = Literal["latest", "sha", "calver"]

FORMS = (
    "A tag is YYYY.M.PATCH without leading zeros (2026.2.20), or sha- and seven hex digits of a commit (sha-1a2b3c4). "
    "Say which release to ship, for example: ansible-playbook deploy.yml -e tag=2026.2.20"
)
"""What is shipped; `latest` is a tag too, and no advice: it is refused unless somebody allows it."""


def _why_not(tag: str) -> str:
    """Why `tag` is no tag, as a clause."""
    calver = CALVER.match(tag)
    if calver:
        parts = calver.groupdict()
        for part in ("month", "patch"):
            if len(parts[part]) > 1 and parts[part].startswith("0"):
                return f"its {part} {parts[part]} begins with a zero"
        if not 1 <= int(parts["month"]) <= 12:
            return f"{parts['month']} is not a month"
        if parts["year"].startswith("0"):
            return f"its year {parts['year']} begins with a zero"
        return ""
    if tag.lower().startswith("sha-"):
        return "after sha- it needs exactly seven hex digits in lower case"
    return "it has none of the forms of a tag"


def image_tag_kind(tag: Any) -> TagKind:
    """`latest`, `sha` or `calver`: the form that the release tag `tag` has; whether it exists is the registry's to say.

    Raises AnsibleFilterError with the reason and the cure for anything else, an empty tag and a number included: an
    unquoted `2026.2` in YAML is one, and may have lost a zero.
    """
    if not isinstance(tag, str):
        raise AnsibleFilterError(f"The tag {tag!r} is a {type(tag).__name__}, not text: put it into quotes. {FORMS}")
    if not tag.strip():
        raise AnsibleFilterError(f"The tag is empty. {FORMS}")
    if tag == "latest":
        return "latest"
    if SHA.match(tag):
        return "sha"
    why = _why_not(tag)
    if not why:
        return "calver"
    raise AnsibleFilterError(f"{tag!r} is not a release tag: {why}. {FORMS}")


def tag_problems(tag: Any, default: Any = "", allow_latest: bool = False) -> list[str]:
    """Return why a release could not be shipped by its tag, before the registry is asked.

    :param tag: the tag that the run names; empty where it names none.
    :param default: the one that a server without a release gets then.
    """
    try:
        # a default that moves is the inventory's own choice
        moves = image_tag_kind(tag or default) == "latest" and bool(tag)
    except AnsibleFilterError as error:
        return [str(error)]
    if not moves or allow_latest:
        return []
    problem = (
        "The tag 'latest' names another release tomorrow. Deploy a release by its own tag, or allow it by name: "
        "-e integr8scode_allow_latest=true"
    )
    return [problem]


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters of this file by their names in templates."""
        return {"image_tag_kind": image_tag_kind, "tag_problems": tag_problems}
