"""The grain of JavaScript that health checks and operators hand to mongosh, and nothing more.

Expressions of literals, ``db``'s commands, property access, comparison, ``? :`` and calls of the functions in
`Evaluator.GLOBALS`, separated by ``;`` or line ends. Everything else is refused by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r]+|//[^\n]*)
      | (?P<end>[;\n])
      | (?P<number>\d+(?:\.\d+)?)
      | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
      | (?P<name>[A-Za-z_$][\w$]*)
      | (?P<operator>===|!==|==|!=|<=|>=|&&|\|\||[-!<>?:.,(){}\[\]])""",
    re.VERBOSE,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "0": "\0"}
_WORDS = {"true": True, "false": False, "null": None, "undefined": None}


class UnsupportedError(Exception):
    """What was asked for is no part of this stand-in, or no JavaScript."""


class Undefined:
    """The value of what has none; it is not printed."""


UNDEFINED = Undefined()


@dataclass(frozen=True)
class Token:
    """A word of a script."""

    kind: str
    text: str


def tokens(script: str) -> list[Token]:
    """Split a script; line ends within brackets do not end an expression.

    Raises:
        UnsupportedError: a character that no supported expression holds.
    """
    found: list[Token] = []
    position = depth = 0
    while position < len(script):
        match = _TOKEN.match(script, position)
        if match is None:
            raise UnsupportedError(f"{script[position : position + 20]!r} in a script")
        position = match.end()
        kind, text = str(match.lastgroup), match.group()
        if kind == "operator":
            depth += (text in "([{") - (text in ")]}")
        if kind != "space" and not (kind == "end" and depth > 0):
            found.append(Token(kind, text))
    return [*found, Token("end", "")]


def _unquote(text: str) -> str:
    def escape(match: re.Match[str]) -> str:
        letter = match.group(1)
        if letter in "xu":
            raise UnsupportedError(f"\\{letter} in a string")
        return _ESCAPES.get(letter, letter)

    return re.sub(r"\\(.)", escape, text[1:-1])


class Evaluator:
    """Parses and runs in one go: there is nothing here to run twice or later."""

    GLOBALS = ("db", "quit", "exit", "print", "printjson", "JSON", "EJSON")

    def __init__(self, names: Mapping[str, Any]) -> None:
        """Give the script its world.

        Args:
            names: values and functions by name. An object's members are what its ``member(name)`` gives.
        """
        self._names = names
        self._tokens: list[Token] = []
        self._skipping = 0

    def run(self, script: str) -> Any:
        """Run a script; gives the last expression's value.

        Raises:
            UnsupportedError: see the module.
        """
        self._tokens = tokens(script)
        value: Any = UNDEFINED
        while self._tokens:
            if self._tokens[0].kind == "end":
                self._tokens.pop(0)
                continue
            value = self._ternary()
            if self._tokens[0].kind != "end":
                raise UnsupportedError(f"{self._tokens[0].text!r} in a script")
        return value

    def _take(self, *texts: str) -> str | None:
        token = self._tokens[0]
        if token.kind == "operator" and token.text in texts:
            self._tokens.pop(0)
            return token.text
        return None

    def _expect(self, text: str) -> None:
        if self._take(text) is None:
            raise UnsupportedError(f"{self._tokens[0].text!r} where {text!r} was expected")

    def _branch(self, wanted: bool) -> Any:
        """An expression that is read in any case and run only if it is wanted."""
        self._skipping += not wanted
        value = self._ternary()
        self._skipping -= not wanted
        return value

    def _ternary(self) -> Any:
        condition = self._comparison()
        if self._take("?") is None:
            return condition
        first = self._branch(bool(condition))
        self._expect(":")
        second = self._branch(not condition)
        return first if condition else second

    def _comparison(self) -> Any:
        left = self._unary()
        operator = self._take("===", "==", "!==", "!=", "<=", ">=", "<", ">")
        if operator is None:
            if self._tokens[0].text in ("&&", "||"):
                raise UnsupportedError(f"{self._tokens[0].text!r} in a script")
            return left
        right = self._unary()
        if self._skipping:
            return None
        if operator in ("===", "=="):
            return left == right
        if operator in ("!==", "!="):
            return left != right
        compare: dict[str, Callable[[Any, Any], bool]] = {
            "<": lambda a, b: a < b,
            ">": lambda a, b: a > b,
            "<=": lambda a, b: a <= b,
            ">=": lambda a, b: a >= b,
        }
        return compare[operator](left, right)

    def _unary(self) -> Any:
        operator = self._take("!", "-")
        if operator is None:
            return self._postfix()
        value = self._unary()
        return (not value) if operator == "!" else (None if self._skipping else -value)

    def _postfix(self) -> Any:
        value = self._primary()
        while operator := self._take(".", "(", "["):
            if operator == ".":
                token = self._tokens.pop(0)
                if token.kind != "name":
                    raise UnsupportedError(f"{token.text!r} after '.'")
                value = self._member(value, token.text)
            elif operator == "[":
                index = self._ternary()
                self._expect("]")
                value = self._member(value, index)
            else:
                arguments = self._list(")")
                if not self._skipping:
                    if not callable(value):
                        raise UnsupportedError("calling what is no function")
                    value = value(*arguments)
        return value

    def _member(self, value: Any, name: Any) -> Any:
        if self._skipping:
            return None
        if isinstance(value, Mapping):
            return value.get(name, UNDEFINED)
        if isinstance(value, list):
            if name == "length":
                return len(value)
            if isinstance(name, int) and not isinstance(name, bool):
                return value[name] if 0 <= name < len(value) else UNDEFINED
        member = getattr(value, "member", None)
        if member is None:
            raise UnsupportedError(f"member {name!r}")
        return member(name)

    def _list(self, end: str) -> list[Any]:
        values: list[Any] = []
        while self._take(end) is None:
            values.append(self._ternary())
            if self._take(",") is None:
                self._expect(end)
                break
        return values

    def _object(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while self._take("}") is None:
            token = self._tokens.pop(0)
            if token.kind not in ("name", "string", "number"):
                raise UnsupportedError(f"{token.text!r} as a key")
            key = _unquote(token.text) if token.kind == "string" else token.text
            self._expect(":")
            values[key] = self._ternary()
            if self._take(",") is None:
                self._expect("}")
                break
        return values

    def _primary(self) -> Any:
        if self._take("("):
            value = self._ternary()
            self._expect(")")
            return value
        if self._take("["):
            return self._list("]")
        if self._take("{"):
            return self._object()
        token = self._tokens.pop(0)
        if token.kind == "string":
            return _unquote(token.text)
        if token.kind == "number":
            return float(token.text) if "." in token.text else int(token.text)
        if token.text in _WORDS:
            return _WORDS[token.text]
        if token.kind == "name" and token.text in self._names:
            return self._names[token.text]
        raise UnsupportedError(f"{token.text or 'an unfinished expression'!r} in a script")


def show(value: Any) -> str:
    """A value as mongosh prints it: ``{ ok: 1 }``, strings bare at the top."""
    if isinstance(value, str):
        return value
    return _inner(value)


def _inner(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)}: {_inner(item)}" for key, item in value.items()) + " }" if value else "{}"
    if isinstance(value, list):
        return "[ " + ", ".join(map(_inner, value)) + " ]" if value else "[]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, (int, float)):
        return str(value)
    return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_$][\w$]*", name) else f"'{name}'"


def to_json(value: Any) -> str:
    """JSON.stringify: no spaces, whole numbers without a fraction."""

    def plain(item: Any) -> Any:
        if isinstance(item, Mapping):
            return {key: plain(inner) for key, inner in item.items()}
        if isinstance(item, list):
            return [plain(inner) for inner in item]
        if isinstance(item, float) and item.is_integer():
            return int(item)
        return item if item is None or isinstance(item, (bool, int, float, str)) else str(item)

    return json.dumps(plain(value), separators=(",", ":"), ensure_ascii=False)
