"""The words of k3s' command line, with the place of each character: in the unit or in an environment file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

# systemd's order: an administrator's file hides a package's of the same name
UNIT_FOLDERS = (
    "etc/systemd/system",
    "run/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
)
_ASSIGNMENT = re.compile(r"(?m)^[ \t]*(?P<name>[A-Za-z]+)[ \t]*=[ \t]*")
_VARIABLE = re.compile(r"\$(?:\{(?P<braced>\w+)\}|(?P<bare>\w+)(?=$))")
_ESCAPES = {"n": "\n", "t": "\t", "s": " ", "r": "\r"}


@dataclass(frozen=True)
class Character:
    """One character of a word and where it stands; `written` counts the characters there (an escape has two)."""

    text: str
    file: str
    offset: int
    written: int = 1


@dataclass(frozen=True)
class Word:
    """A word of a command line. `start` and `end` are where it is written in its file, with its quotes."""

    characters: tuple[Character, ...]
    file: str
    start: int
    end: int

    @property
    def text(self) -> str:
        """The word itself."""
        return "".join(one.text for one in self.characters)


@dataclass
class UnitText:
    """A unit with its drop-ins: the words of its last ExecStart and its environment."""

    fragment: str = ""
    files: dict[str, str] = field(default_factory=dict)  # path -> text
    words: list[Word] = field(default_factory=list)
    environment: dict[str, tuple[Character, ...]] = field(default_factory=dict)


def split_words(text: str, file: str, offset: int) -> list[Word]:
    """Split a command line as systemd does: quotes, backslashes, a line that goes on in the next one."""
    words: list[Word] = []
    characters: list[Character] = []
    start = -1
    quote = ""
    index = 0
    while index < len(text):
        one = text[index]
        if one == "\\" and text[index + 1 : index + 2] == "\n":
            # goes on in the next line, for systemd a blank
            one, width = " ", 2
        else:
            width = 1
        if one in " \t\r\n" and not quote:
            if start >= 0:
                words.append(Word(tuple(characters), file, offset + start, offset + index))
                characters, start = [], -1
            index += width
            continue
        start = index if start < 0 else start
        if one == quote:
            quote = ""
        elif one in "'\"" and not quote:
            quote = one
        elif one == "\\" and index + 1 < len(text):
            escaped = text[index + 1]
            characters.append(Character(_ESCAPES.get(escaped, escaped), file, offset + index, 2))
            width = 2
        else:
            characters.append(Character(one, file, offset + index))
        index += width
    if start >= 0:
        words.append(Word(tuple(characters), file, offset + start, offset + len(text)))
    return words


def assignments(text: str) -> list[tuple[str, str, int]]:
    """Name, value and the value's offset of each assignment of a unit file; a value may go on over several lines."""
    found = []
    for match in _ASSIGNMENT.finditer(text):
        # not inside a value that goes on
        before = text[: match.start()].rstrip("\n")
        if match.start() and before.endswith("\\") and text[match.start() - 1] == "\n":
            continue
        end = match.end()
        while True:
            stop = text.find("\n", end)
            stop = len(text) if stop < 0 else stop
            if stop == len(text) or text[stop - 1] != "\\":
                break
            end = stop + 1
        found.append((match["name"], text[match.end() : stop], match.end()))
    return found


def read_environment_file(text: str, file: str) -> dict[str, tuple[Character, ...]]:
    """The variables of an environment file; a value may be quoted."""
    found = {}
    for match in re.finditer(r"(?m)^[ \t]*(?:export[ \t]+)?(?P<name>\w+)=(?P<value>.*)$", text):
        value, offset = match["value"].rstrip(), match.start("value")
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
            value, offset = value[1:-1], offset + 1
        found[match["name"]] = tuple(Character(one, file, offset + index) for index, one in enumerate(value))
    return found


def _expand(word: Word, environment: dict[str, tuple[Character, ...]]) -> list[Word]:
    """Put variables in as systemd does: `$NAME` alone becomes several words, `${NAME}` a part of one."""
    alone = re.fullmatch(r"\$(\w+)", word.text)
    if alone:
        value = environment.get(alone[1], ())
        pieces: list[list[Character]] = [[]]
        for one in value:
            if one.text.isspace():
                pieces.append([])
            else:
                pieces[-1].append(one)
        return [Word(tuple(piece), piece[0].file, piece[0].offset, piece[-1].offset + 1) for piece in pieces if piece]
    characters: list[Character] = []
    index = 0
    for match in _VARIABLE.finditer(word.text):
        if match["braced"] is None:
            continue
        characters += word.characters[index : match.start()]
        characters += environment.get(match["braced"], ())
        index = match.end()
    characters += word.characters[index:]
    return [Word(tuple(characters), word.file, word.start, word.end)]


def read_text(path: Path) -> str:
    """A file's text, line ends as they are; empty when it cannot be read. Bytes that are no UTF-8 survive a rewrite."""
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError:
        return ""


def unit_files(root: Path, name: str) -> list[Path]:
    """The unit's file, then its drop-ins in the order of their names."""
    folders = [root / folder for folder in UNIT_FOLDERS]
    fragment = next((folder / name for folder in folders if (folder / name).is_file()), None)
    drop_ins: dict[str, Path] = {}
    for folder in reversed(folders):
        drop_ins.update({path.name: path for path in (folder / f"{name}.d").glob("*.conf")})
    return ([fragment] if fragment else []) + [drop_ins[key] for key in sorted(drop_ins)]


def _environment_paths(value: str, name: str) -> Iterable[str]:
    for word in value.split():
        yield word.lstrip("-").replace("%N", name.removesuffix(".service")).replace("%n", name)


def read_unit(root: Path, name: str = "k3s.service") -> UnitText:
    """Read the unit of k3s below `root`. Never raises; without a unit there are no words."""
    unit = UnitText()
    command = (0, "", "")
    for path in unit_files(root, name):
        shown = "/" + str(path.relative_to(root))
        text = read_text(path)
        unit.files[shown] = text
        unit.fragment = unit.fragment or shown
        for key, value, offset in assignments(text):
            if key == "ExecStart" and value.strip():
                command = (offset, value, shown)
            elif key == "Environment":
                for word in split_words(value, shown, offset):
                    variable, _equals, rest = word.text.partition("=")
                    unit.environment[variable] = word.characters[len(word.text) - len(rest) :]
            elif key == "EnvironmentFile":
                for file in _environment_paths(value, name):
                    content = read_text(root / file.lstrip("/"))
                    unit.files[file] = content
                    unit.environment.update(read_environment_file(content, file))
    offset, value, shown = command
    unit.words = [new for word in split_words(value, shown, offset) for new in _expand(word, unit.environment)]
    return unit
