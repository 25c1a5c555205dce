"""The values of a flat YAML file with the place of each, so that one can be changed and all else kept byte for byte.

PyYAML tells values and places exactly. A server where only ssh works may lack it; a reader for what k3s' files look
like stands in then. Values that it cannot place are reported as such and never edited.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

try:
    import yaml

    HAS_YAML = True
except ImportError:
    HAS_YAML = False

_KEY = re.compile(
    r"""(?P<indent>[ ]*)(?P<quote>["']?)(?P<key>[A-Za-z0-9_.-]+\+?)(?P=quote)[ \t]*:(?=[ \t\r\n]|$)[ \t]*"""
)
_ITEM = re.compile(r"[ ]*-(?=[ \t\r\n]|$)[ \t]*")
_COMMA_BEHIND = re.compile(r"[ \t]*,[ \t]*")
_COMMA_BEFORE = re.compile(r",[ \t]*(?:\r?\n[ \t]*)?$")
_BLANK = re.compile(r"[ \t]*(#.*)?\r?\n?$")


@dataclass(frozen=True)
class Value:
    """A scalar. `start` and `end` are its characters in the text without quotes, or -1 where it cannot be placed."""

    text: str
    line: int
    start: int
    end: int


@dataclass(frozen=True)
class Entry:
    """A top-level key; `values` has one for a scalar.

    `start` and `end` are all of its lines, -1 where others have a part in them (a file in braces, as JSON).
    """

    key: str
    listed: bool
    values: list[Value]
    line: int
    start: int
    end: int


@dataclass(frozen=True)
class Document:
    """What a file says. With a `problem` (and its line) k3s refuses it; `certain` says whether that is for sure."""

    entries: list[Entry]
    problem: str = ""
    problem_line: int = 0
    certain: bool = True


def item(text: str, start: int, end: int, *, later: bool) -> tuple[int, int] | None:
    """What goes with the value at `start`, of a list that keeps others: its quotes, and its comma or its line.

    With one that stays `later` in the list the comma behind it, else the one before it: so no two that go share one.
    None where it stands in another way.
    """
    quote = text[start - 1] if start else ""
    if quote in {"'", '"'} and text[end : end + 1] == quote:
        start, end = start - 1, end + 1
    comma = _COMMA_BEHIND.match(text, end) if later else _COMMA_BEFORE.search(text[:start])
    if comma is not None:
        return (start, comma.end()) if later else (comma.start(), end)
    line = _line_start(text, start)
    dash = _ITEM.fullmatch(text, line, start)
    return (line, _line_end(text, end)) if dash and _BLANK.match(text[end : _line_end(text, end)]) else None


def parse(text: str) -> Document:
    """Read a file of k3s' configuration. Never raises."""
    return _parse_exactly(text) if HAS_YAML else parse_plainly(text)


def _line_start(text: str, index: int) -> int:
    return text.rfind("\n", 0, index) + 1


def _line_end(text: str, index: int) -> int:
    """The index behind the line break of the line with `index`."""
    found = text.find("\n", index)
    return len(text) if found < 0 else found + 1


def _exact_value(text: str, node: yaml.ScalarNode) -> Value:
    start, end = node.start_mark.index, node.end_mark.index
    if node.style in {"'", '"'}:
        start, end = start + 1, end - 1
    if node.style in {"|", ">"}:
        at = text.find(node.value.strip(), start, end)
        start, end = (at, at + len(node.value.strip())) if node.value.strip() else (-1, -1)
    value = node.value.strip() if node.style in {"|", ">"} else node.value
    if start < 0 or text[start:end] != value:
        start = end = -1
    line = text.count("\n", 0, start) if start >= 0 else node.start_mark.line
    return Value(value, line + 1, start, end)


def _parse_exactly(text: str) -> Document:
    try:
        # as k3s: the first document counts
        root = next(yaml.compose_all(text, Loader=yaml.SafeLoader), None)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        words = getattr(error, "problem", None) or str(error).splitlines()[0]
        return Document([], f"it is not YAML: {words}", mark.line + 1 if mark else 1)
    if root is None or (isinstance(root, yaml.ScalarNode) and root.value in {"", "null", "~"}):
        return Document([])
    if not isinstance(root, yaml.MappingNode):
        return Document([], "it is no list of options with values (key: value)", root.start_mark.line + 1)
    entries = []
    for key, value in root.value:
        listed = isinstance(value, yaml.SequenceNode)
        scalars = [node for node in (value.value if listed else [value]) if isinstance(node, yaml.ScalarNode)]
        last = max(value.end_mark.index - 1, key.end_mark.index)
        # a block's end mark is where the next token begins, maybe lines below
        while last > key.end_mark.index and text[last] in " \t\r\n":
            last -= 1
        if listed and not value.flow_style and value.value:
            last = max(value.value[-1].end_mark.index - 1, key.end_mark.index)
        values = [_exact_value(text, node) for node in scalars]
        start, end = (-1, -1) if root.flow_style else (_line_start(text, key.start_mark.index), _line_end(text, last))
        entries.append(Entry(str(key.value), listed, values, key.start_mark.line + 1, start, end))
    return Document(entries)


@dataclass(frozen=True)
class _Line:
    number: int
    start: int
    text: str


def _lines(text: str) -> Iterator[_Line]:
    start = 0
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        yield _Line(number, start, line)
        start += len(line)


def _scalar(text: str, line: int, start: int) -> tuple[Value, int]:
    """The scalar that begins at `start`, and the index behind it. A place of -1 for what spans lines or has escapes."""
    quote = text[start] if start < len(text) else ""
    if quote in {"'", '"'}:
        end = text.find(quote, start + 1)
        stop = _line_end(text, start)
        if end < 0 or end >= stop or text[end + 1 : end + 2] == quote or (quote == '"' and "\\" in text[start:end]):
            return Value(text[start:stop].strip(), line, -1, -1), stop
        return Value(text[start + 1 : end], line, start + 1, end), end + 1
    stop = _line_end(text, start)
    plain = re.split(r"[ \t]#|\r?\n", text[start:stop])[0].rstrip() if start < stop else ""
    special = plain[:1] in {"&", "*", "!", "{", "|", ">"}
    return (Value(plain, line, -1, -1) if special else Value(plain, line, start, start + len(plain))), start + len(
        plain
    )


def _flow_values(text: str, line: int, start: int) -> tuple[list[Value], int]:
    """The values of a list in brackets that begins at `start`, and the index behind it; -1 where it does not end."""
    values: list[Value] = []
    index = start + 1
    while index < len(text):
        character = text[index]
        if character == "]":
            return values, index + 1
        if character == "#" and text[index - 1] in " \t\n":
            index = _line_end(text, index)
        elif character in " \t\r\n,":
            index += 1
        elif character in "'\"":
            value, index = _scalar(text, line + text.count("\n", start, index), index)
            values.append(value)
        else:
            match = re.compile(r"[^,\]\n#]+").match(text, index)
            if match is None:
                break
            plain = match.group().rstrip()
            values.append(Value(plain, line + text.count("\n", start, index), index, index + len(plain)))
            index = match.end()
    return values, -1


def _plain_block(text: str, lines: list[_Line], at: int, indent: int) -> tuple[list[Value], bool, int]:
    """The values below a key without one on its line: its list or its scalar, and the number of the line behind it."""
    values: list[Value] = []
    listed = False
    while at < len(lines):
        line = lines[at]
        if _BLANK.match(line.text):
            at += 1
            continue
        depth = len(line.text) - len(line.text.lstrip(" "))
        item = _ITEM.match(line.text)
        if depth < indent or (depth == indent and item is None):
            break
        if item is not None:
            listed = True
            values.append(_scalar(text, line.number, line.start + item.end())[0])
        elif not listed:
            values.append(_scalar(text, line.number, line.start + depth)[0])
        at += 1
    if not listed and len(values) > 1:
        values = [Value(" ".join(one.text for one in values), values[0].line, -1, -1)]
    return values, listed, at


def parse_plainly(text: str) -> Document:
    """Read without a library: keys with a scalar, a list of lines or in brackets. Its complaints are not certain."""
    lines = list(_lines(text))
    entries: list[Entry] = []
    indent: int | None = None
    at = 0
    while at < len(lines):
        line = lines[at]
        if _BLANK.match(line.text) or line.text.startswith("%"):
            at += 1
            continue
        if line.text.startswith(("---", "...")):
            if entries:
                break
            at += 1
            continue
        key = _KEY.match(line.text)
        if key is None or (indent is not None and len(key["indent"]) != indent):
            return Document(entries, "it is neither an option with a value nor a comment", line.number, certain=False)
        indent = len(key["indent"])
        entry, at = _plain_entry(text, lines, at, key, indent)
        if entry is None:
            return Document(entries, "a list in brackets does not end", line.number, certain=False)
        entries.append(entry)
    return Document(entries)


def _plain_entry(text: str, lines: list[_Line], at: int, key: re.Match[str], indent: int) -> tuple[Entry | None, int]:
    """The entry whose key is on the line number `at` (from 0), and the number of the line behind it."""
    line = lines[at]
    start = line.start + key.end()
    rest = line.text[key.end() :]
    listed = False
    if rest.startswith("["):
        values, end = _flow_values(text, line.number, start)
        if end < 0:
            return None, at
        listed = True
        at = next((number for number, one in enumerate(lines) if one.start >= _line_end(text, end - 1)), len(lines))
    elif _BLANK.match(rest) or rest[:1] in {"|", ">"}:
        values, listed, at = _plain_block(text, lines, at + 1, indent)
        values = values or [Value("", line.number, start, start)]
    else:
        values = [_scalar(text, line.number, start)[0]]
        _more, _listed, at = _plain_block(text, lines, at + 1, indent + 1)
        if _more:
            values = [Value(values[0].text, line.number, -1, -1)]
    last = at
    while last > line.number and _BLANK.match(lines[last - 1].text):
        last -= 1
    return Entry(
        key["key"], listed, values, line.number, line.start, lines[last - 1].start + len(lines[last - 1].text)
    ), at
