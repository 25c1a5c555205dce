"""Passwords as MongoDB and its clients prepare them: SASLprep, RFC 4013."""

from __future__ import annotations

import stringprep
import unicodedata

_FORBIDDEN = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
    stringprep.in_table_a1,
)
"""RFC 4013, 2.3 and 2.5: white space but the space, control, private and unassigned characters, and others."""


def saslprep(password: str) -> str:
    """Prepare a password.

    :raises ValueError: no login can have it: a character is forbidden, directions of writing are mixed, or it has
        characters and nothing is left of them.
    """
    kept = "".join(
        " " if stringprep.in_table_c12(char) else char for char in password if not stringprep.in_table_b1(char)
    )
    # SASLprep is defined by this Unicode, and the driver uses it
    normal = unicodedata.ucd_3_2_0.normalize("NFKC", kept)
    # an empty one is prepared, and refused by the server
    if (password and not normal) or any(table(char) for char in normal for table in _FORBIDDEN):
        raise ValueError("the password holds a character that SASLprep (RFC 4013) forbids, so no login can have it")
    right_to_left = [stringprep.in_table_d1(char) for char in normal]
    if any(right_to_left):
        mixed = any(stringprep.in_table_d2(char) for char in normal)
        if mixed or not (right_to_left[0] and right_to_left[-1]):
            raise ValueError("the password mixes directions of writing, which SASLprep (RFC 4013) forbids")
    return normal
