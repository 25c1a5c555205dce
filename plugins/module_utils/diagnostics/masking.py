"""Takes secrets out of text: the known ones in every form that a program writes them in, and what looks like one."""

from __future__ import annotations

import base64
import bisect
import html
import itertools
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, quote_plus

MASK = "***MASKED***"
# shorter ones would take half of every text with them; the project refuses such passwords
SHORTEST = 6
_PIECE = 8
# words that stand everywhere on such a server, in files of secrets too: no secrets, and nobody could read what is left
# without them
ORDINARY = frozenset({
    "integr8scode", "hardmax71", "server", "backend", "frontend", "coordinator", "k8s-worker", "pod-monitor",
    "result-processor", "saga-orchestrator", "event-replay", "dlq-processor", "registry", "default", "localhost",
})  # fmt: skip

# an occurrence of a form of 2 * GRAM - 1 characters holds a whole block of the text's blocks of GRAM characters
GRAM = 6

# keys and their frames go over lines
_KEYS = re.compile(
    # a frame that a log has cut off ends where the text is no base64 any more
    r"(?P<keep>-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----)"
    r"(?:.{0,8000}?-----END [A-Z0-9 ]*PRIVATE KEY-----|[A-Za-z0-9+/=\s\\]+)",
    re.DOTALL,
)
# what looks like a secret in a line, whoever's it is: words of which the line (in lower case) has one, and the pattern,
# whose group `keep` stays
_PATTERNS = (
    (("private key-----",), re.compile(r"(?P<keep>)[A-Za-z0-9+/=\\]{16,}(?=\\n-----END [A-Z ]*PRIVATE KEY-----)")),
    (("://",), re.compile(r"(?P<keep>[A-Za-z][A-Za-z0-9+.-]*://[^\s:@/'\"]*:)[^\s'\"]+(?=@)")),
    (("bearer", "basic"), re.compile(r"(?P<keep>\b(?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE)),
    (("eyj",), re.compile(r"(?P<keep>)\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?")),
    (("k10",), re.compile(r"(?P<keep>)\bK10[0-9a-f]{40,}::[^\s\"']+")),
    (("gh", "github_pat_"), re.compile(r"(?P<keep>)\b(?:gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{20,})")),
    (("age-secret-key-1",), re.compile(r"(?P<keep>)AGE-SECRET-KEY-1[A-Z0-9]+")),
    (
        ("client-key-data", "privatekey", "presharedkey", "identitytoken"),
        re.compile(
            r"(?P<keep>\b(?:client-key-data|PrivateKey|PresharedKey|identitytoken)\\*[\"']?[ \t]*[:=]"
            r"[ \t]*\\*[\"']?)[^\s\"',}\\]+"
        ),
    ),
    # pymongo's own words about a password that was not encoded
    (("must be an integer",), re.compile(r"(?P<keep>Port must be an integer[^:\n]*:\s*)\S+")),
    (
        ("pass", "pwd", "secret", "key", "token", "auth", "credential"),
        re.compile(
            r"(?P<keep>(?:passw(?:or)?d|passphrase|pwd|secret(?:[_-]?key)?|api[_-]?key|access[_-]?key|token|auth"
            r"|credentials?)\\*[\"']?[ \t]*[=:][ \t]*(?:\\*[\"'])?)"
            r"(?!\s|\\*[\"']|\*\*\*|(?:true|false|none|null|yes|no|ok|\d{1,6})\b|[/{\[(])[^\s\"',;&}\\]+",
            re.IGNORECASE,
        ),
    ),
)


def _base64_forms(data: bytes) -> set[str]:
    """How `data` looks inside a base64 text, whatever stands before and after it, in both alphabets."""
    forms = set()
    for before in range(3):
        text = base64.b64encode(b"\0" * before + data).decode()
        # characters that also hold bits of the neighbours go
        start = (before * 8 + 5) // 6
        whole = (before + len(data)) * 8 // 6
        part = text[start:whole]
        forms |= {part, part.replace("+", "-").replace("/", "_")}
    return {one for one in forms if len(one) >= SHORTEST + 1}


def _yaml(text: str) -> str:
    """Between double quotes in YAML."""
    inner = json.dumps(text, ensure_ascii=False)[1:-1]
    return re.sub(
        r"[^ -~]", lambda one: f"\\x{ord(one[0]):02X}" if one[0] <= "\xff" else f"\\u{ord(one[0]):04X}", inner
    )


def forms(secret: str) -> set[str]:
    """Every form in which a program may write a secret."""
    inner = json.dumps(secret)[1:-1]
    texts = {
        secret,
        inner,
        json.dumps(secret, ensure_ascii=False)[1:-1],
        json.dumps(inner)[1:-1],  # a log line of JSON within JSON
        json.dumps(json.dumps(secret, ensure_ascii=False)[1:-1], ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
        ascii(secret)[1:-1],
        quote(secret, safe=""),
        quote(secret),
        quote_plus(secret),
        quote(quote(secret, safe=""), safe=""),
        re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), quote(secret, safe="")),
        html.escape(secret),
        shlex.quote(secret),
        secret.replace("'", "''"),
        secret.replace("$", "$$"),
        secret.replace("'", "\\'"),
        secret.replace("\\", "\\\\").replace("'", "\\'"),
        secret.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$"),
        _yaml(secret),
        secret.encode().hex(),
    }
    for text in (secret, quote(secret, safe=""), inner):
        texts |= _base64_forms(text.encode())
    return {one for one in texts if len(one) >= SHORTEST}


def pieces(secret: str) -> set[str]:
    """Parts of a secret that a parser shows when it stumbles over a character that is no part of a word.

    Not of a URL: what is secret in that is known by itself, and the rest are names of hosts and databases.
    """
    if "://" in secret:
        return set()
    parts = re.split(r"[/@:%?#]", secret)
    return {one for one in parts if len(one) >= _PIECE} if len(parts) > 1 else set()


def _alternatives(words: Sequence[str]) -> str:
    """One pattern for all words, in which what they begin with alike is looked at once; longer ones win."""
    # words are sorted: what the first and the last begin with alike, all do
    first, last = words[0], words[-1]
    same = [a == b for a, b in zip(first, last, strict=False)]
    prefix = first[: [*same, False].index(False)]
    groups: dict[str, list[str]] = {}
    for word in words:
        rest = word[len(prefix) :]
        groups.setdefault(rest[:1], []).append(rest)
    tail = groups.pop("", None)
    if not groups:
        return re.escape(prefix)
    inner = "|".join(_alternatives(group) for group in groups.values())
    return f"{re.escape(prefix)}(?:{inner}){'?' if tail else ''}"


class Masker:
    """Masks texts. `secrets` are the known ones; those shorter than `SHORTEST` are only counted in `too_short`."""

    def __init__(self, secrets: Iterable[str]) -> None:
        known = {line for one in secrets for line in (one, one.strip(), *one.strip().splitlines()) if line.strip()}
        self.too_short = sum(len(one) < SHORTEST for one in known)
        words: set[str] = set()
        for one in known:
            if len(one) >= SHORTEST:
                words |= forms(one) | pieces(one)
        self.known = len(known) - self.too_short
        self.masked = 0
        # a secret of several lines is masked line by line
        words = {one for one in words if "\n" not in one and one not in ORDINARY}
        self._pattern = re.compile(_alternatives(sorted(words))) if words else None
        self._short = [one for one in words if len(one) < 2 * GRAM - 1]
        long = words.difference(self._short)
        self._grams = {one[at : at + GRAM] for one in long for at in range(len(one) - GRAM + 1)}

    def _count(self, _match: re.Match[str]) -> str:
        self.masked += 1
        return MASK

    def _keep(self, match: re.Match[str]) -> str:
        self.masked += 1
        return f"{match['keep']}{MASK}"

    def _places(self, text: str) -> Iterator[int]:
        """Where something may be that is known; looking everywhere for everything would take minutes."""
        for at in range(0, len(text), GRAM):
            if text[at : at + GRAM] in self._grams:
                yield at
        for word in self._short:
            at = text.find(word)
            while at >= 0:
                yield at
                at = text.find(word, at + 1)

    def _suspects(self, text: str, lines: list[str]) -> set[int]:
        """Numbers of the lines in which something may be that is known."""
        starts = [0, *itertools.accumulate(len(line) + 1 for line in lines)]
        return {bisect.bisect_right(starts, at) - 1 for at in self._places(text)}

    def text(self, text: str) -> str:
        """The text without secrets."""
        text = _KEYS.sub(self._keep, text)
        lines = text.split("\n")
        if self._pattern is not None:
            for number in self._suspects(text, lines):
                lines[number] = self._pattern.sub(self._count, lines[number])
        return "\n".join(map(self._line, lines))

    def _line(self, line: str) -> str:
        lower = line.lower()
        for words, pattern in _PATTERNS:
            if any(word in lower for word in words):
                line = pattern.sub(self._keep, line)
        return line

    def value(self, value: Any) -> Any:
        """The same for everything that JSON can hold; keys too."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(key)): self.value(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(one) for one in value]
        return value


_HARMLESS = re.compile(
    r"(?:PATH|HOME|HOSTNAME|LANG|LC_\w+|TZ|TERM|PWD|USER|SHLVL|CLUSTER_ID|COMPONENT|WEB_\w+|BACKEND_URL|LOG_LEVEL"
    r"|MONGO_INITDB_DATABASE|KAFKA_\w+|JAVA_\w+|PYTHON\w*|GPG_KEY|UV_\w+|VIRTUAL_ENV|\w+_VERSION|\w+_FILE|\w+_PORT"
    r"|\w+_HOST|IMAGE_TAG|COLLECTOR_OTLP_ENABLED)"
)
_SUSPECT = re.compile(r"PASS|SECRET|TOKEN|CREDENTIAL|PRIVATE|API_?KEY|AUTH|JAAS|SASL", re.IGNORECASE)


def is_harmless(name: str) -> bool:
    """Whether a variable of an environment may be shown, by its name."""
    if _SUSPECT.search(name) and not name.endswith("_FILE"):
        return False
    return _HARMLESS.fullmatch(name) is not None


def environment(entries: Iterable[str]) -> list[str]:
    """`NAME=value` lines; values that are not known to be harmless are masked."""
    shown = []
    for entry in entries:
        name, equals, value = entry.partition("=")
        shown.append(f"{name}{equals}{value if is_harmless(name) or not value else MASK}")
    return shown


def without_environment(value: Any) -> Any:
    """What `docker inspect` or the Kubernetes API tell, with the values of environments masked."""
    if isinstance(value, Mapping):
        result = {}
        for key, one in value.items():
            if key in ("Env", "env") and isinstance(one, list):
                result[key] = [
                    environment([item])[0] if isinstance(item, str) else _kubernetes_variable(item) for item in one
                ]
            else:
                result[key] = without_environment(one)
        return result
    if isinstance(value, list):
        return [without_environment(one) for one in value]
    return value


def _kubernetes_variable(item: Any) -> Any:
    if isinstance(item, Mapping) and "value" in item and not is_harmless(str(item.get("name", ""))):
        return {**item, "value": MASK}
    return item
