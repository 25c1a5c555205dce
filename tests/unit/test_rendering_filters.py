"""Any printable character survives TOML, the MongoDB URL and Compose's .env; what cannot survive is refused by name."""

from __future__ import annotations

import io
import tomllib
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from ansible.errors import AnsibleFilterError
from ansible.module_utils.compose_dotenv import dotenv
from ansible.plugins.filter import rendering
from dotenv import dotenv_values
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.unit.support import compose_dotenv
from tests.unit.support.passwords import ASCII, EVERYTHING, passwords


@settings(max_examples=1000)
@given(passwords)
@example(EVERYTHING)
@example(" x ")
def test_toml_gives_back_every_password(value: str) -> None:
    document = {"SECRET_KEY": value, "MONGODB_URL": "mongodb://x", "nested": {value: [value, 1, True, 0.5]}}
    assert tomllib.loads(rendering.integr8scode_toml(document)) == document


@given(st.text(max_size=20).filter(lambda text: "\r" not in text or "\r\n" not in text))
def test_toml_escapes_control_characters_too(value: str) -> None:
    assert tomllib.loads(rendering.integr8scode_toml({"key": value})) == {"key": value}


def test_toml_keeps_the_order_and_types() -> None:
    text = rendering.integr8scode_toml({"B": 1, "A": 60.0, "LIST": ["x"], "FLAG": False})
    assert text == 'B = 1\nA = 60.0\nLIST = [\n    "x",\n]\nFLAG = false\n'


@pytest.mark.parametrize(
    ("document", "names"),
    [
        ({"A": {"B": None}}, "document.A.B has no value"),
        ({"A": [1, {2: "x"}]}, "document.A[1] has a key that is not text (2)"),
        ({"A": float("nan")}, "document.A is not a finite number"),
        ({"A": b"hidden"}, "document.A is a bytes"),
        ({"A": "hidden\ud800"}, "document.A is not valid Unicode"),
        (["A"], "needs a dictionary, not a list"),
    ],
)
def test_toml_names_what_it_cannot_hold(document: Any, names: str) -> None:
    with pytest.raises(AnsibleFilterError) as error:
        rendering.integr8scode_toml(document)
    assert names in str(error.value)
    assert "hidden" not in str(error.value)


@settings(max_examples=1000)
@given(passwords, passwords)
@example("root", EVERYTHING)
def test_mongodb_url_gives_back_user_and_password(user: str, secret: str) -> None:
    url = rendering.integr8scode_mongodb_url(user, secret, "mongo:27017", "integr8scode")
    parts = urlsplit(url)
    assert (parts.hostname, parts.port, parts.path, parts.query) == (
        "mongo",
        27017,
        "/integr8scode",
        "authSource=admin",
    )
    assert (unquote(parts.username or ""), unquote(parts.password or "")) == (user, secret)
    # pymongo refuses or misreads any of these outside their places
    credentials = url.removeprefix("mongodb://").rpartition("@")[0]
    assert not set(credentials.replace(":", "", 1)) & set("@:/?#[]$ \"'\\{}")


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("", "x", "mongo", "db"), "user for MongoDB is empty"),
        (("root", "", "mongo", "db"), "password for MongoDB is empty"),
        (("root", 12345, "mongo", "db"), "password for MongoDB is empty or not text"),
        (("root", "x\ud800", "mongo", "db"), "password for MongoDB is not valid Unicode"),
        (("root", "x", "mongo/other", "db"), "'mongo/other' is not a host"),
        (("root", "x", "a,b", "db"), "'a,b' is not a host"),
        (("root", "x", "mongo", "db?tls=false"), "is not a name for a MongoDB database"),
        (("root", "x", "mongo", ""), "is not a name for a MongoDB database"),
    ],
)
def test_mongodb_url_refuses(arguments: tuple[Any, ...], names: str) -> None:
    with pytest.raises(AnsibleFilterError) as error:
        rendering.integr8scode_mongodb_url(*arguments)
    assert names in str(error.value)


@settings(max_examples=1000)
@given(passwords, passwords)
@example(EVERYTHING, "odd \\")
@example("\\'", "\\\\'\\")
@example("\u0085x\u00a0", " # no comment")
def test_dotenv_is_read_back_by_compose(first: str, second: str) -> None:
    values = {"FIRST": first, "SECOND": second, "AFTER": "x"}
    assert compose_dotenv.parse(dotenv(values)) == values


@given(st.text(ASCII + "é😀", max_size=64).filter(lambda text: "\\" not in text and "$" not in text))
def test_dotenv_is_read_back_by_python_dotenv(value: str) -> None:
    """Another parser agrees, where it has the same rules: its backslashes and `$` differ from Compose's."""
    text = dotenv({"FIRST": value, "AFTER": "x"})
    assert dotenv_values(stream=io.StringIO(text), interpolate=False) == {"FIRST": value, "AFTER": "x"}


def test_dotenv_quotes_only_where_it_must() -> None:
    values = {
        "IMAGE_TAG": "2026.2.20",
        "COMPOSE_FILE": "/opt/a.yaml:/opt/b.yaml",
        "PORT": 443,
        "ON": True,
        "EMPTY": "",
        "SPACE": "a b",
        "DOLLAR": "$x",
        "QUOTE": "it's",
        "ODD": "\\'$",
    }
    assert dotenv(values).splitlines() == [
        "IMAGE_TAG=2026.2.20",
        "COMPOSE_FILE=/opt/a.yaml:/opt/b.yaml",
        "PORT=443",
        "ON=true",
        "EMPTY=",
        "SPACE='a b'",
        "DOLLAR='$x'",
        "QUOTE='it\\'s'",
        'ODD="\\\\\'$$"',
    ]


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({"A": "x\ny"}, "A holds a line break"),
        ({"A": "x\0y"}, "A holds a line break or a NUL"),
        ({"A B": "x"}, "'A B' is not a name"),
        ({"1A": "x"}, "'1A' is not a name"),
        ({"A\n": "x"}, "is not a name"),
        ({"A": ["x"]}, "A is a list"),
        ({"A": None}, "A is a NoneType"),
    ],
)
def test_dotenv_refuses(values: Any, names: str) -> None:
    with pytest.raises((TypeError, ValueError)) as error:
        dotenv(values)
    assert names in str(error.value)


def test_filters_are_found_by_ansible() -> None:
    names = set(rendering.FilterModule().filters())
    assert names == {"integr8scode_toml", "integr8scode_mongodb_url"}
