"""Which behaviour belongs to which k3s version."""

import re
from typing import NamedTuple


class Version(NamedTuple):
    """A k3s version such as v1.34.4+k3s1."""

    major: int
    minor: int
    patch: int
    revision: int

    @classmethod
    def parse(cls, text: str) -> "Version":
        """Read `text`.

        Raises:
            ValueError: it is not of the form v1.34.4+k3s1.
        """
        match = re.fullmatch(r"v(\d+)\.(\d+)\.(\d+)\+k3s(\d+)", text)
        if match is None:
            raise ValueError(f"{text!r} is not a k3s version such as v1.34.4+k3s1")
        return cls(*(int(group) for group in match.groups()))


# (minor version: first and last patch) in which the network policy controller looks at the Node object before the
# kubelet has written the new address there. It began with the kube-router of June 2025 (k3s-io/k3s#12639 names
# v1.32.6; #12844 has v1.31.6 working and v1.33.2 failing) and ended with the backports of October 2025 of #12891.
_STALE_NODE_IS_FATAL = {31: (10, 13), 32: (6, 9), 33: (2, 5), 34: (0, 1)}


def stale_node_is_fatal(version: Version) -> bool:
    """Say whether this version crashes when the Node object still has the address from before a change."""
    first, last = _STALE_NODE_IS_FATAL.get(version.minor, (1, 0))
    return version.major == 1 and first <= version.patch <= last
