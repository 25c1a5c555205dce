"""Passwords for property tests: any printable characters, most of them those that some format trips over."""

from __future__ import annotations

import string

from hypothesis import strategies as st

HOSTILE = [
    "$", '"', "'", "\\", "#", "@", ":", "/", "%", "!", "{", "}", "{{ x }}", "{% x %}", "{# x #}", " ", "é", ";", "$$",
    "${A}", "$(id)", "\\'", '\\"', "\\n", "=", "`", "%41", "+", "&", "END",
]  # fmt: skip
# beyond what MongoDB takes in a password
NEWER = ["😀"]
ASCII = string.ascii_letters + string.digits + string.punctuation + " "
LONGEST = 64
EVERYTHING = "".join([*HOSTILE, *NEWER]) + " leading and trailing "


def _mixed(parts: list[str]) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(parts), min_size=1, max_size=LONGEST).map(lambda found: "".join(found)[:LONGEST])


# no control characters and no line breaks: those are refused
_PRINTABLE = st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp"))

passwords = st.one_of(
    _mixed([*HOSTILE, *NEWER, "a", "1"]),
    st.text(ASCII, min_size=1, max_size=LONGEST),
    st.text(_PRINTABLE, min_size=1, max_size=LONGEST),
    st.text(ASCII, min_size=1, max_size=LONGEST - 2).map(lambda text: f" {text} "),
)
# of these MongoDB takes nearly all
mongo_passwords = st.one_of(
    _mixed([*HOSTILE, "a", "1"]),
    st.text(ASCII, min_size=1, max_size=LONGEST),
    st.text(ASCII, min_size=1, max_size=LONGEST - 2).map(lambda text: f" {text} "),
    st.text(st.characters(max_codepoint=0x21F, exclude_categories=("Cc", "Cn")), min_size=1, max_size=LONGEST),
)
