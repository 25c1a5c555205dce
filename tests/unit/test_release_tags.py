"""What is a release tag, and what is told to somebody who gave something else."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible.plugins.filter.release_tags import FilterModule, image_tag_kind, tag_problems
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("tag", "kind"),
    [
        ("latest", "latest"),
        ("sha-1a2b3c4", "sha"),
        ("2026.2.20", "calver"),
        ("2026.12.0", "calver"),
        ("2026.1.0", "calver"),
        ("9999.1.1", "calver"),
    ],
)
def test_tags(tag: str, kind: str) -> None:
    assert image_tag_kind(tag) == kind


@pytest.mark.parametrize(
    ("tag", "why"),
    [
        ("x; rm", "it has none of the forms"),
        ("", "The tag is empty"),
        ("  ", "The tag is empty"),
        ("2026.02.1", "its month 02 begins with a zero"),
        ("2026.2.01", "its patch 01 begins with a zero"),
        ("2026.0.1", "0 is not a month"),
        ("2026.13.1", "13 is not a month"),
        ("0026.1.1", "its year 0026 begins with a zero"),
        ("2026.2", "it has none of the forms"),
        ("v2026.2.20", "it has none of the forms"),
        ("2026.2.20\n", "it has none of the forms"),
        ("2026.2.٣", "it has none of the forms"),
        ("2026.2.20-rc1", "it has none of the forms"),
        ("sha-1A2B3C4", "seven hex digits in lower case"),
        ("sha-1a2b3c", "seven hex digits"),
        ("sha-1a2b3c4d", "seven hex digits"),
        ("sha-1a2b3c4\n", "seven hex digits"),
        ("Latest", "it has none of the forms"),
        (2026.2, "is a float, not text"),
        (None, "is a NoneType, not text"),
    ],
)
def test_anything_else_is_refused_with_reason_and_cure(tag: Any, why: str) -> None:
    with pytest.raises(AnsibleFilterError) as error:
        image_tag_kind(tag)
    assert why in str(error.value)
    assert "deploy.yml -e tag=2026.2.20" in str(error.value)
    # which is refused in its turn
    assert "or latest" not in str(error.value)


@given(st.integers(1000, 9999), st.integers(1, 12), st.integers(0, 10_000))
def test_every_calver(year: int, month: int, patch: int) -> None:
    assert image_tag_kind(f"{year}.{month}.{patch}") == "calver"


@given(st.text(max_size=30))
def test_what_passes_is_safe_in_a_shell_and_an_image_reference(tag: str) -> None:
    try:
        image_tag_kind(tag)
    except AnsibleFilterError:
        return
    assert set(tag) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-")


def test_the_filter_is_found_by_ansible() -> None:
    assert FilterModule().filters() == {"image_tag_kind": image_tag_kind, "tag_problems": tag_problems}
