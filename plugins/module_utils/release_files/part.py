"""What the parts of a release have in common: planned as a whole, written later."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar


class Part(ABC):
    """One part as it is to stand on the server.

    To make one is to look, judge and decide; it writes nothing. Raises OSError, TypeError and ValueError with the cure.

    Attributes:
        OPTIONS: its arguments, as in the module's DOCUMENTATION.
        changed: whether something is to be written.
        diff: Ansible's diffs; never a secret.
        warnings: what a person has to do, while there is time.
    """

    OPTIONS: ClassVar[dict[str, Any]]
    changed: bool
    diff: list[dict[str, str]]
    warnings: tuple[str, ...] = ()

    @abstractmethod
    def __init__(self, given: dict[str, Any], *, check: bool) -> None:
        """Plan; `given` are its arguments, `check` whether nothing will be written."""

    @staticmethod
    @abstractmethod
    def failure(given: dict[str, Any]) -> str:
        """What cannot be done, where it cannot."""

    @staticmethod
    def without_secrets(given: dict[str, Any]) -> dict[str, Any]:
        """Its arguments as they may be shown."""
        return given

    @abstractmethod
    def write(self) -> None:
        """Bring it into place. Raises OSError."""

    @abstractmethod
    def result(self) -> dict[str, Any]:
        """What is returned about it, after it was written where it was."""
