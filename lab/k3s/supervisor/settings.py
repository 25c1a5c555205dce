"""Reads k3s' configuration: config.yaml, its drop-ins, the environment and the command line.

As k3s' `pkg/configfilearg` does: config.yaml first, then config.yaml.d/*.yaml and *.yml in alphabetical order; the last
value wins, `key+` in a later file adds to a list. Unknown keys in a file are skipped with a warning (seen in
k3s-io/k3s#4510 and #6756), an unknown option on the command line is fatal.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from . import logs
from .flags import FLAGS, Effect, Flag, Kind
from .logs import FatalError

DEFAULT_CONFIG = Path("/etc/rancher/k3s/config.yaml")
DEFAULT_DATA_DIR = Path("/var/lib/rancher/k3s")
DEFAULT_KUBECONFIG = Path("/etc/rancher/k3s/k3s.yaml")

_TRUE = {"1", "t", "T", "TRUE", "true", "True", ""}
_FALSE = {"0", "f", "F", "FALSE", "false", "False"}


@dataclass
class Settings:
    """Option name -> its values in the order given; an option that was not given is not there."""

    values: dict[str, list[str]] = field(default_factory=dict)

    def text(self, name: str, default: str = "") -> str:
        """Return the value that wins for a single-valued option."""
        given = self.values.get(name)
        return given[-1] if given else default

    def number(self, name: str, default: int) -> int:
        """Return the value that wins for a number."""
        return int(self.text(name) or default)

    def switch(self, name: str) -> bool:
        """Return whether a switch is on; off unless given."""
        return name in self.values and self.text(name) in _TRUE

    def items(self, name: str) -> list[str]:
        """Return the values of a list option; one value may hold several, separated by commas."""
        return [item.strip() for value in self.values.get(name, []) for item in value.split(",") if item.strip()]

    def arguments(self, name: str) -> list[str]:
        """Return the values of a `…-arg` option, which may hold commas themselves."""
        return list(self.values.get(name, []))

    def with_effect(self, effect: Effect) -> list[str]:
        """Return the names of the given options that have this effect."""
        return sorted(name for name in self.values if FLAGS[name].effect is effect)

    @property
    def data_dir(self) -> Path:
        """Where k3s keeps its state: /var/lib/rancher/k3s unless `data-dir` says otherwise."""
        return Path(self.text("data-dir") or DEFAULT_DATA_DIR)


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _parse_yaml(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text())
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise FatalError(f"yaml: line {line}: {error.problem or error.context} ({path})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FatalError(f"yaml: {error} ({path})") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise FatalError(f"yaml: unmarshal errors: cannot unmarshal {type(data).__name__} into a map ({path})")
    return {str(key): value for key, value in data.items()}


def _file_values(files: Iterable[Path]) -> dict[str, list[str]]:
    merged: dict[str, list[str]] = {}
    for path in files:
        for raw_key, value in _parse_yaml(path).items():
            key = raw_key.removesuffix("+")
            texts = [_as_text(item) for item in value] if isinstance(value, list) else [_as_text(value)]
            merged[key] = merged.get(key, []) + texts if raw_key.endswith("+") else texts
    return merged


def config_files(config: Path, *, required: bool) -> list[Path]:
    """Return config.yaml and its drop-ins in the order in which they are read.

    Raises:
        FatalError: `required`, and the file does not exist.
    """
    files = []
    if config.exists():
        files.append(config)
    elif required:
        raise FatalError(f"open {config}: no such file or directory")
    drop_ins = config.with_name(config.name + ".d")
    if drop_ins.is_dir():
        files += sorted(path for path in drop_ins.iterdir() if path.suffix in {".yaml", ".yml"})
    return files


def _parse_arguments(arguments: list[str]) -> list[tuple[Flag, str]]:
    given = []
    queue = list(arguments)
    while queue:
        word = queue.pop(0)
        match = re.fullmatch(r"--?([a-zA-Z][\w-]*)(?:=(.*))?", word, re.DOTALL)
        if match is None:
            raise FatalError(f"Error: unexpected argument {word!r} for k3s server")
        name, value = match.groups()
        flag = FLAGS.get(name)
        if flag is None:
            raise FatalError(f"Error: flag provided but not defined: -{name}")
        if value is None and flag.kind is not Kind.SWITCH:
            if not queue:
                raise FatalError(f"Error: flag needs an argument: -{name}")
            value = queue.pop(0)
        given.append((flag, "true" if value is None else value))
    return given


def _check(flag: Flag, values: list[str]) -> None:
    for value in values:
        if flag.kind is Kind.SWITCH and value not in _TRUE | _FALSE:
            raise FatalError(f'Error: invalid value "{value}" for flag -{flag.name}: parse error')
        if flag.kind is Kind.NUMBER and not re.fullmatch(r"-?\d+", value):
            raise FatalError(f'Error: invalid value "{value}" for flag -{flag.name}: parse error')


def configured_data_dir(environment: Mapping[str, str]) -> Path:
    """Return the data-dir for a command other than `server`: what the files say, or the default."""
    config = Path(environment.get("K3S_CONFIG_FILE") or DEFAULT_CONFIG)
    try:
        found = _file_values(config_files(config, required=False)).get("data-dir")
    except (FatalError, PermissionError):
        found = None
    return Path(environment.get("K3S_DATA_DIR") or (found or [""])[-1] or DEFAULT_DATA_DIR)


def load(arguments: list[str], environment: Mapping[str, str]) -> Settings:
    """Read every source for `k3s server`.

    Args:
        arguments: the words after `server`.
        environment: the process' environment (K3S_TOKEN, K3S_CONFIG_FILE, …).

    Raises:
        FatalError: a file that is not YAML, an unknown option on the command line, a value of the wrong type.
    """
    command_line = _parse_arguments(arguments)
    named = [value for flag, value in command_line if flag.name == "config"]
    if environment.get("K3S_CONFIG_FILE"):
        named = [environment["K3S_CONFIG_FILE"]]
    config = Path(named[-1]) if named else DEFAULT_CONFIG

    settings = Settings()
    for flag in {flag.name: flag for flag in FLAGS.values()}.values():
        if flag.environment and environment.get(flag.environment) and flag.name != "config":
            settings.values[flag.name] = [environment[flag.environment]]
    for key, values in _file_values(config_files(config, required=bool(named))).items():
        flag_for_key = FLAGS.get(key)
        if flag_for_key is None:
            logs.warning(f"Unknown flag --{key} found in config.yaml, skipping\n")
            continue
        _check(flag_for_key, values)
        settings.values[flag_for_key.name] = values
    from_command_line: dict[str, list[str]] = {}
    for flag, value in command_line:
        _check(flag, [value])
        from_command_line.setdefault(flag.name, []).append(value)
    for name, values in from_command_line.items():
        before = settings.values.get(name, []) if FLAGS[name].kind is Kind.LIST else []
        settings.values[name] = before + values
    return settings
