"""k3s' settings with the place of each (config.yaml, drop-ins, the unit's command line), and edits that correct them.

As k3s reads them (`pkg/configfilearg`): the environment, then config.yaml, then config.yaml.d/*.yaml and *.yml in
alphabetical order, where the last one wins and `key+` adds, then the command line, which wins and adds to lists.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ansible.module_utils.atomic_files import Access, ensure_folder, write_file
from ansible.module_utils.k3s_common import CONFIG_FOLDER
from ansible.module_utils.k3s_recovery import yaml_places
from ansible.module_utils.k3s_recovery.unit_words import Character, Word, read_text, read_unit

DEFAULT_CONFIG = f"{CONFIG_FOLDER}/config.yaml"
# Options that may be given several times, or several values with commas between.
LISTS = frozenset({"node-ip", "node-external-ip", "tls-san", "cluster-cidr", "service-cidr"})
SINGLE = frozenset({
    "bind-address", "advertise-address", "flannel-iface", "flannel-backend", "data-dir", "node-name", "cluster-init",
    "server", "datastore-endpoint", "token", "token-file", "disable-network-policy", "https-listen-port", "config",
    "write-kubeconfig", "vpn-auth", "vpn-auth-file", "etcd-snapshot-dir",
    "with-node-id", "kubelet-arg",
})  # fmt: skip
SECRETS = frozenset({"token", "vpn-auth"})
HIDDEN = SECRETS | {"datastore-endpoint"}  # no text that holds their value is kept
ALIASES = {"i": "node-ip", "t": "token", "s": "server", "d": "data-dir", "c": "config", "o": "write-kubeconfig"}
SWITCHES = frozenset({"cluster-init", "disable-network-policy", "with-node-id"})
ENVIRONMENT = {
    "K3S_CONFIG_FILE": "config", "K3S_TOKEN": "token", "K3S_TOKEN_FILE": "token-file", "K3S_URL": "server",
    "K3S_NODE_NAME": "node-name", "K3S_DATA_DIR": "data-dir", "K3S_CLUSTER_INIT": "cluster-init",
    "K3S_DATASTORE_ENDPOINT": "datastore-endpoint", "K3S_KUBECONFIG_OUTPUT": "write-kubeconfig",
    "K3S_VPN_AUTH": "vpn-auth", "K3S_VPN_AUTH_FILE": "vpn-auth-file",
}  # fmt: skip
_FLAG = re.compile(r"--?(?P<name>[A-Za-z][\w-]*)(?P<equals>=)?")


class ConfigurationError(Exception):
    """An edit cannot be made; the text says where and why."""


@dataclass(frozen=True)
class Setting:
    """One value of one option, and where it stands. A list option has one of these for each value.

    `value` is empty for secrets; of datastore-endpoint only its kind is kept, of kubelet-arg only a node-ip. `start`
    and `end` are the value's characters in the file, also a secret's, without the quotes round it; -1 where they cannot
    be told. `whole` is the text, at `whole_start`, that goes when the option is removed; empty where it holds a secret
    or more than the option.
    """

    key: str
    value: str
    file: str
    line: int
    source: str  # yaml, unit (a unit file's ExecStart) or environment (a file that the unit reads)
    start: int
    whole_start: int = -1
    whole: str = ""
    end: int = -1

    @property
    def place(self) -> str:
        """Where it stands, as `file:line`."""
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Edit:
    """Replaces the characters `before` at `offset` of `file` by `after`; `before` is empty for an addition at the end.

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

    config: str = DEFAULT_CONFIG
    files: list[str] = field(default_factory=list)  # config.yaml and drop-ins in k3s' order, those that are there
    settings: list[Setting] = field(default_factory=list)  # all, in the order in which k3s sees them
    effective: dict[str, list[Setting]] = field(default_factory=dict)  # option -> what k3s uses
    problems: list[str] = field(default_factory=list)  # files that k3s refuses, as file:line and why
    certain: bool = True  # False where `problems` are the opinion of the simple reader
    command: str = ""  # server or agent; empty without a unit
    fragment: str = ""  # the unit's file
    tail: tuple[int, str] = (0, "")  # where an addition to config.yaml goes, and what comes before it

    def items(self, key: str) -> list[Setting]:
        """The settings of `key` that count."""
        return self.effective.get(key, [])

    def values(self, key: str) -> list[str]:
        """Their values."""
        return [one.value for one in self.items(key) if one.value]

    def text(self, key: str, default: str = "") -> str:
        """The value of an option that has one value."""
        found = self.items(key)
        return (found[-1].value if found else "") or default

    def switch(self, key: str) -> bool:
        """Whether a switch is on."""
        return self.text(key).lower() in {"true", "1", "t"}


def _shown(key: str, value: str) -> str:
    if key in SECRETS:
        return ""
    # of the kubelet's arguments only this one matters here
    if key == "kubelet-arg":
        return value if value.lstrip("-").startswith("node-ip=") else ""
    # an endpoint holds a password
    return value.partition(":")[0] if key == "datastore-endpoint" else value


def _parts(key: str, value: str) -> Iterable[tuple[int, str]]:
    """The values in a value, with the offset of each: options that are lists take several with commas between."""
    if key not in LISTS:
        yield 0, value
        return
    for match in re.finditer(r"[^,]+", value):
        part = match.group()
        yield match.start() + len(part) - len(part.lstrip()), part.strip()


def _of_entry(entry: yaml_places.Entry, key: str, file: str, text: str) -> list[Setting]:
    found = []
    for value in entry.values:
        for offset, part in _parts(key, value.text):
            start = value.start + offset if value.start >= 0 else -1
            end = start + len(part) if start >= 0 else -1
            whole = text[entry.start : entry.end] if key not in HIDDEN else ""
            found.append(Setting(key, _shown(key, part), file, value.line, "yaml", start, entry.start, whole, end))
    return found


def _of_characters(key: str, characters: Sequence[Character], source: str, texts: dict[str, str]) -> list[Setting]:
    value = "".join(one.text for one in characters)
    found = []
    for offset, part in _parts(key, value):
        own = characters[offset : offset + len(part)]
        first = own[0] if own else (characters[0] if characters else None)
        if first is None:
            continue
        straight = all(one.file == first.file and one.offset == first.offset + n for n, one in enumerate(own))
        line = texts.get(first.file, "").count("\n", 0, first.offset) + 1
        start = first.offset if straight else -1
        end = (own[-1].offset + own[-1].written if own else start) if straight else -1
        found.append(Setting(key, _shown(key, part), first.file, line, source, start, end=end))
    return found


def _of_words(words: Sequence[Word], texts: dict[str, str], environment_files: set[str]) -> list[Setting]:
    """The settings on the command line behind `server` or `agent`."""
    found = []
    index = 0
    while index < len(words):
        word = words[index]
        index += 1
        match = _FLAG.match(word.text)
        key = ALIASES.get(match["name"], match["name"]) if match else ""
        if match is None or key not in LISTS | SINGLE:
            continue
        last = word
        if match["equals"]:
            characters: Sequence[Character] = word.characters[match.end() :]
        elif key in SWITCHES:
            found.append(
                Setting(key, "true", word.file, texts.get(word.file, "").count("\n", 0, word.start) + 1, "unit", -1)
            )
            continue
        elif index < len(words):
            last = words[index]
            characters = last.characters
            index += 1
        else:
            continue
        settings = _of_characters(key, characters, "unit", texts)
        whole = texts.get(word.file, "")[word.start : last.end] if word.file == last.file and key not in HIDDEN else ""
        for one in settings:
            source = "environment" if one.file in environment_files else "unit"
            # what comes out of a variable cannot be removed from the command line without knowing the rest of it
            removable = whole if source == "unit" and one.file == word.file else ""
            found.append(replace(one, source=source, whole_start=word.start, whole=removable))
    return found


def config_files(root: Path, config: str) -> list[str]:
    """config.yaml and its drop-ins, those that are there, in k3s' order."""
    path = root / config.lstrip("/")
    folder = path.with_name(path.name + ".d")
    drop_ins = [one for one in folder.iterdir() if one.suffix in {".yaml", ".yml"}] if folder.is_dir() else []
    return [config] * path.is_file() + [f"{config}.d/{one.name}" for one in sorted(drop_ins)]


def _tail(text: str) -> tuple[int, str]:
    """Where an addition to a file goes and what it begins with: a missing line break, the file's indent."""
    entries = yaml_places.parse(text).entries
    indent = ""
    if entries:
        first = text[entries[0].start : entries[0].end]
        indent = first[: len(first) - len(first.lstrip(" "))]
    return len(text), ("" if not text or text.endswith("\n") else "\n") + indent


def settings_with_places(root: Path = Path("/"), unit_name: str = "k3s.service") -> Configuration:
    """Read the configuration of this server below `root`. Never raises: what k3s would refuse is in `problems`."""
    unit = read_unit(root, unit_name)
    texts = dict(unit.files)
    environment_files = {one.file for value in unit.environment.values() for one in value}
    named = [number for number, word in enumerate(unit.words) if word.text in {"server", "agent"}]
    on_line = _of_words(unit.words[named[0] + 1 :], texts, environment_files) if named else []
    from_environment = [
        setting
        for name, key in ENVIRONMENT.items()
        if name in unit.environment
        for setting in _of_characters(key, unit.environment[name], "environment", texts)
    ]
    configs = [one.value for one in from_environment + on_line if one.key == "config" and one.value]
    config = configs[0] if configs else DEFAULT_CONFIG

    effective: dict[str, list[Setting]] = {}
    for one in from_environment:
        effective[one.key] = [one]
    files = config_files(root, config)
    in_files, problems, certain = _from_files(root, files, effective)
    for key in dict.fromkeys(one.key for one in on_line):
        given = [one for one in on_line if one.key == key]
        effective[key] = (effective.get(key, []) if key in LISTS else []) + given
    return Configuration(
        config=config,
        files=files,
        settings=from_environment + in_files + on_line,
        effective=effective,
        problems=problems,
        certain=certain,
        command=unit.words[named[0]].text if named else "",
        fragment=unit.fragment,
        tail=_tail(read_text(root / config.lstrip("/"))),
    )


def _from_files(
    root: Path, files: list[str], effective: dict[str, list[Setting]]
) -> tuple[list[Setting], list[str], bool]:
    """Read the files into `effective`; all settings, what k3s refuses, and whether that is certain."""
    every: list[Setting] = []
    problems = []
    certain = True
    seen: set[str] = set()
    for file in files:
        text = read_text(root / file.lstrip("/"))
        document = yaml_places.parse(text)
        if document.problem:
            problems.append(f"{file}:{document.problem_line}: {document.problem}")
            certain = certain and document.certain
        for entry in document.entries:
            name = entry.key.removesuffix("+")
            key = ALIASES.get(name, name)
            if key not in LISTS | SINGLE:
                continue
            settings = _of_entry(entry, key, file, text)
            every += settings
            adds = entry.key.endswith("+") and key in seen
            effective[key] = effective.get(key, []) + settings if adds else settings
            seen.add(key)
    return every, problems, certain


def _removal(configuration: Configuration, one: Setting, gone: Collection[str]) -> tuple[int, str, str] | None:
    """What goes with the values `gone`: where, its text, the values; None where that cannot be told.

    The option as it stands there when no other value of it stays, else this value with its comma or its line.
    """
    same = [
        other
        for other in configuration.settings
        if (other.file, other.whole_start, other.key) == (one.file, one.whole_start, one.key)
    ]
    staying = [other for other in same if other.value not in gone]
    if not one.whole or any(other.start < 0 for other in staying):
        return None
    if not staying:
        return one.whole_start, one.whole, ", ".join(other.value for other in same)
    later = any(other.start > one.start for other in staying)
    place = yaml_places.item(one.whole, one.start - one.whole_start, one.end - one.whole_start, later=later)
    return (one.whole_start + place[0], one.whole[slice(*place)], one.value) if place else None


def edits(configuration: Configuration, key: str, old: str, new: str, *, gone: Collection[str] = ()) -> list[Edit]:
    """The edits that replace the value `old` of `key` by `new` in every file, also where another one wins over it.

    An empty `new` removes the value there, and the option where it has no other but those that are `gone` as well; an
    empty `old` adds it to config.yaml. Places that cannot be edited safely are left out; `unreachable` tells them. None
    for a secret: what an edit holds is shown and kept.
    """
    if key in HIDDEN:
        return []
    if not old:
        offset, before = configuration.tail
        text = f"{before}{key}: {new}\n"
        return [Edit(configuration.config, 0, offset, "", text, f"add {key}: {new} to {configuration.config}")]
    found = []
    for one in configuration.settings:
        if one.key != key or one.value != old or one.start < 0:
            continue
        if new:
            sentence = f"{one.place}: {key} {old} becomes {new}"
            found.append(Edit(one.file, one.line, one.start, old, new, sentence, one.source))
            continue
        removal = _removal(configuration, one, {old, *gone})
        if removal is not None and all((other.file, other.offset) != (one.file, removal[0]) for other in found):
            offset, text, values = removal
            sentence = f"{one.place}: {key} {values} is removed"
            found.append(Edit(one.file, one.line, offset, text, "", sentence, one.source))
    return found


def unreachable(
    configuration: Configuration, key: str, old: str, *, remove: bool = False, gone: Collection[str] = ()
) -> list[str]:
    """The places of the value `old` that `edits` leaves out, as file:line."""
    return [
        one.place
        for one in configuration.settings
        if one.key == key
        and one.value == old
        and (one.start < 0 or (remove and _removal(configuration, one, {old, *gone}) is None))
    ]


def _replace(text: str, changes: list[Edit]) -> str | None:
    """`text` with the changes made; None where it is not the text that they were made for."""
    for one in sorted(changes, key=lambda change: change.offset, reverse=True):
        end = one.offset + len(one.before)
        if text[one.offset : end] != one.before or (not one.before and one.offset != len(text)):
            return None
        text = text[: one.offset] + one.after + text[end:]
    return text


def _already(text: str, changes: list[Edit]) -> bool:
    """Whether `text` is what the changes have made."""
    shift = 0
    for one in sorted(changes, key=lambda change: change.offset):
        start = one.offset + shift
        # of what was removed nothing shows but that it is not there
        if text[start : start + len(one.after)] != one.after or (not one.after and one.before in text):
            return False
        shift += len(one.after) - len(one.before)
    return True


def apply(changes: Sequence[Edit], root: Path = Path("/")) -> list[str]:
    """Write the edits, each file at once with its mode and owner; the paths of the files that were changed.

    Edits that are already there are left alone. Raises ConfigurationError, before anything is written, where a file has
    changed since the edit was made or would not be readable afterwards; OSError where writing fails.
    """
    results: dict[str, str] = {}
    for file in dict.fromkeys(one.file for one in changes):
        # two causes may ask for the same
        own = list({(one.offset, one.before, one.after): one for one in changes if one.file == file}.values())
        text = read_text(root / file.lstrip("/"))
        new = _replace(text, own)
        if new is None:
            if _already(text, own):
                continue
            raise ConfigurationError(
                f"{file} has changed since it was looked at. Nothing has been changed; run it again"
            )
        before, after = yaml_places.parse(text), yaml_places.parse(new)
        if own[0].source == "yaml" and after.problem and not before.problem:
            raise ConfigurationError(f"{file} cannot be edited safely ({after.problem}). Correct it by hand")
        results[file] = new
    for file, text in results.items():
        # a link stays one: what it points to is written
        path = (root / file.lstrip("/")).resolve()
        access = Access.of(path)
        if access is None:
            parent = Access.of(path.parent)
            if parent is None:
                ensure_folder(path.parent, Access(0, 0, 0o755))
        write_file(path, text.encode("utf-8", "surrogateescape"), access or Access(0, 0, 0o600))
    return list(results)
