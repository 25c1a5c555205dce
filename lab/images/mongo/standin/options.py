"""mongod's command line, as far as the lab uses it."""

from __future__ import annotations

from dataclasses import dataclass, field

EXIT_BAD_OPTIONS = 2

# Options of the real mongod that this stand-in knows by name only.
_REAL_ONLY = {
    "--config", "-f", "--replSet", "--keyFile", "--tlsMode", "--tlsCertificateKeyFile", "--tlsCAFile", "--shardsvr",
    "--configsvr", "--fork", "--logpath", "--logappend", "--pidfilepath", "--syslog", "--shutdown", "--noauth",
    "--directoryperdb", "--setParameter", "--storageEngine", "--oplogSize", "--ipv6", "--maxConns", "--profile",
    "--slowms", "--timeZoneInfo", "--unixSocketPrefix", "--nounixsocket", "--transitionToAuth", "--verbose", "-v",
    "--quiet", "--version", "--help", "-h",
}  # fmt: skip


class OptionError(Exception):
    """The command line is refused; the text is what goes to standard error."""


@dataclass
class Options:
    """What mongod was told.

    Attributes:
        auth: clients must log in.
        bind: addresses to listen on (mongod's own default is localhost only).
        port: TCP port.
        dbpath: directory of the data.
        cache_gigabytes: size of WiredTiger's cache, or None; accepted and checked, there is no such cache here.
        given: options in the order and form they were given, for the log.
    """

    auth: bool = False
    bind: list[str] = field(default_factory=lambda: ["127.0.0.1"])
    port: int = 27017
    dbpath: str = "/data/db"
    cache_gigabytes: float | None = None
    given: list[str] = field(default_factory=list)


def _number(name: str, text: str, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError:
        raise OptionError(
            f"Error parsing command line: the argument ('{text}') for option '--{name}' is invalid"
        ) from None
    if not low <= value <= high:
        raise OptionError(f"Error: {name} must be between {low:g} and {high:g}, is {text}")
    return value


def parse(arguments: list[str]) -> Options:
    """Read a command line without the program's name.

    Raises:
        OptionError: an unknown option, a missing or bad value, or one that only the real mongod has.
    """
    options = Options(given=list(arguments))
    rest = list(arguments)
    seen: set[str] = set()
    while rest:
        name, separator, value = rest.pop(0).partition("=")
        if name in seen:
            raise OptionError(
                f'Error parsing command line: Multiple occurrences of option "{name}"\n'
                "try 'mongod --help' for more information"
            )
        seen.add(name)
        if name == "--auth":
            options.auth = True
            continue
        if name == "--bind_ip_all":
            options.bind = ["0.0.0.0"]
            continue
        if name not in {"--bind_ip", "--port", "--dbpath", "--wiredTigerCacheSizeGB"}:
            if name in _REAL_ONLY:
                raise OptionError(f"mongod option '{name}': not supported by the lab's stand-in for mongo")
            raise OptionError(
                f"Error parsing command line: unrecognised option '{name}'\ntry 'mongod --help' for more information"
            )
        if not separator:
            if not rest:
                raise OptionError(
                    f"Error parsing command line: the required argument for option '{name}' is missing\n"
                    "try 'mongod --help' for more information"
                )
            value = rest.pop(0)
        if name == "--bind_ip":
            options.bind = ["127.0.0.1" if host == "localhost" else host for host in value.split(",")]
        elif name == "--port":
            options.port = int(_number("port", value, 1, 65535))
        elif name == "--dbpath":
            options.dbpath = value
        else:
            options.cache_gigabytes = _number(name.removeprefix("--"), value, 0.25, 10000)
    return options
