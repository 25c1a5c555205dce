"""k3s' settings with the place of each: config.yaml, its drop-ins, the unit's command line; and edits that correct them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Setting:
    """One value of one option, and where it stands. A list option has one of these for each item.

    `value` is empty for secrets. `start` and `end` are the value's characters in the file, without quotes.
    """

    key: str
    value: str
    file: str
    line: int
    source: str  # yaml, unit (a unit file's ExecStart) or environment (a file that the unit reads)
    start: int
    end: int

    @property
    def place(self) -> str:
        """Where it stands, as `file:line`."""
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Edit:
    """Replaces the characters `before` at `offset` of `file` by `after`; `before` is empty for an addition.

    Holds only what changes, never a whole line of the unit, which may hold a token.
    """

    file: str
    line: int
    offset: int
    before: str
    after: str
    sentence: str
    source: str = "yaml"  # as in Setting: after an edit of a unit systemd has to read it anew (daemon-reload)


@dataclass(frozen=True)
class Configuration:
    """What k3s reads when it starts."""

    config: str  # path of config.yaml
    files: list[str]  # config.yaml and drop-ins in k3s' order
    settings: list[Setting]  # in the order in which k3s sees them; not only those that win
    effective: dict[str, list[Setting]]  # option -> what k3s uses
    problems: list[str] = field(default_factory=list)  # files that k3s refuses, with file:line

    def items(self, key: str) -> list[Setting]:
        """The settings of `key` that count."""
        return self.effective.get(key, [])

    def text(self, key: str, default: str = "") -> str:
        """The value of an option that has one value."""
        found = self.items(key)
        return found[-1].value if found else default


def settings_with_places(root: Path = Path("/")) -> Configuration:
    """Read the configuration of this server below `root`. Never raises: what cannot be read is in `problems`."""
    raise NotImplementedError


def edits(configuration: Configuration, key: str, old: str, new: str) -> list[Edit]:
    """The edits that replace the value `old` of `key` by `new` wherever it counts or would count later.

    An empty `new` removes it; an empty `old` adds the option to config.yaml.
    """
    raise NotImplementedError


def apply(changes: Sequence[Edit], root: Path = Path("/")) -> list[str]:
    """Write the edits, each file at once with its mode and owner; the paths of the files that were changed.

    An edit that is already there is left alone. Raises ConfigurationError, before anything is written, where a file
    has changed since the edit was made.
    """
    raise NotImplementedError


class ConfigurationError(Exception):
    """An edit cannot be made; the text says where and why."""
