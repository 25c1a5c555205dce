"""Canary secrets in every form that programs write them in; none may be left, and harmless text stays."""

from __future__ import annotations

import base64
import html
import json
import shlex
import string
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
import tomli_w
import yaml
from ansible.module_utils.compose_dotenv import dotenv
from ansible.module_utils.diagnostics.masking import MASK, Masker, environment, forms, is_harmless, without_environment
from ansible.module_utils.diagnostics.secrets import collect, of_containers
from hypothesis import given
from hypothesis import strategies as st

CANARIES = [
    "Kanarienvogel",
    "lab mongo $pa\"ss'word\\ #@:/%!?{}é;",
    "c4n4ry-with-dashes_and_underscores.0123456789",
    "K10aabbcc::server:tiefesGeheimnis",
    "päßwörter/mit+allem=&<>",
]


def written(secret: str) -> dict[str, str]:
    """The secret as other programs' own encoders write it."""
    return {
        "raw": secret,
        "url": quote(secret, safe=""),
        "url path": quote(secret),
        "url form": quote_plus(secret),
        "url lower": "".join(
            part.lower() if part.startswith("%") else part
            for part in [quote(char, safe="") if char not in string.ascii_letters else char for char in secret]
        ),
        "mongodb url": f"mongodb://root:{quote(secret, safe='')}@mongo:27017/x?authSource=admin",
        "json": json.dumps({"x": secret}),
        "json utf-8": json.dumps({"x": secret}, ensure_ascii=False),
        "json in json": json.dumps({"log": json.dumps({"x": secret})}),
        "json line of a log": json.dumps({"log": f"password is {secret}\n"}),
        "toml": tomli_w.dumps({"x": secret}),
        "yaml": yaml.safe_dump({"x": secret}, allow_unicode=True, width=1000),
        "yaml ascii": yaml.safe_dump({"x": secret}, width=1000, default_style='"'),
        "python": repr([secret]),
        "ascii": ascii([secret]),
        "html": html.escape(secret),
        "shell": shlex.quote(secret),
        "dotenv": dotenv({"X": secret}),
        "compose": secret.replace("$", "$$"),
        "base64": base64.b64encode(secret.encode()).decode(),
        "base64 of a login": base64.b64encode(f"integr8scode:{secret}".encode()).decode(),
        "base64 in the middle": base64.b64encode(f"xy{secret}z, and more".encode()).decode(),
        "base64 for urls": base64.urlsafe_b64encode(f"a{secret}".encode()).decode(),
        "base64 of json": base64.b64encode(json.dumps({"p": secret}).encode()).decode(),
        "hex": secret.encode().hex(),
    }


def readable(text: str, secret: str) -> bool:
    """Whether somebody gets the secret out of the text with the usual decoders."""
    candidates = [text]
    for _ in range(2):
        for one in list(candidates):
            for word in one.replace('"', " ").replace("'", " ").split():
                for pad in ("", "=", "=="):
                    try:
                        candidates.append(base64.b64decode(word + pad, altchars=b"-_", validate=True).decode())
                    except ValueError:
                        continue
    return any(secret in one for one in candidates)


@pytest.mark.parametrize("secret", CANARIES)
@pytest.mark.parametrize("form", list(written("x" * 9)))
def test_no_form_of_a_known_secret_is_left(secret: str, form: str) -> None:
    text = written(secret)[form]
    masker = Masker([secret])
    masked = masker.text(f"before {text} after")
    assert masker.masked >= 1, masked
    assert masked.startswith("before ")
    assert masked.endswith(" after")
    assert not readable(masked, secret)
    # nothing longer than a few characters of it is left either
    plain = [part for part in secret.replace("\\", " ").replace("'", " ").replace('"', " ").split() if len(part) > 6]
    assert not [part for part in plain if part in masked], masked


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=6, max_size=24))
def test_any_secret_is_masked_in_the_forms_that_matter(secret: str) -> None:
    if len(secret.strip()) < 6:
        return
    text = "\n".join(
        [secret, quote(secret, safe=""), json.dumps(secret), base64.b64encode(f"u:{secret}".encode()).decode()]
    )
    masked = Masker([secret]).text(text)
    for form in (secret, quote(secret, safe=""), json.dumps(secret)[1:-1]):
        assert form not in masked
    assert not readable(masked, secret)


def test_part_of_a_password_that_a_parser_shows() -> None:
    """pymongo prints what stands before a raw slash in a password."""
    masked = Masker(["firsthalf-of-it/secondhalf"]).text(
        "Port must be an integer between 0 and 65535: 'firsthalf-of-it'"
    )
    assert "firsthalf" not in masked


@given(st.integers(0, 40), st.integers(0, 40), st.sampled_from(CANARIES))
def test_a_secret_is_found_wherever_it_stands(before: int, after: int, secret: str) -> None:
    """At every offset to the blocks that the search looks at, beside line breaks too."""
    text = "x" * before + secret + "\n" + "y" * after + secret + "\n\n"
    masked = Masker([secret]).text(text)
    assert masked == "x" * before + MASK + "\n" + "y" * after + MASK + "\n\n"


@pytest.mark.parametrize("secret", ["sechs6", "sieben7", "elfzeichen1"])
def test_short_ones_too(secret: str) -> None:
    assert Masker([secret]).text(f"a{secret}{secret}b\n{secret}") == f"a{MASK}{MASK}b\n{MASK}"


def test_a_secret_of_several_lines() -> None:
    masked = Masker(["first-line-of-it\nsecond-line-of-it"]).text("a first-line-of-it\nsecond-line-of-it b\n")
    assert masked == f"a {MASK}\n{MASK} b\n"
    assert "first" not in Masker(["first-line-of-it\nsecond-line-of-it"]).text(
        '{"x": "first-line-of-it\\nsecond-line-of-it"}'
    )


def test_megabytes_are_searched_in_seconds() -> None:
    """Some hundred secrets, a few MiB: what a server has."""
    secrets = [f"{number}-{'q' * (number % 60)}-geheim-{number * 7919}" for number in range(150)]
    masker = Masker(secrets)
    line = (
        'level=info msg="GET /api/v1/executions 200" token_count=5 url=https://example.org/ digest=sha256:ab12cd34ef\n'
    )
    began = time.process_time()
    masker.text(line * 20000 + secrets[7])
    # 2 MiB; one search for each of the forms by a regular expression took five times as long
    assert time.process_time() - began < 3
    assert masker.masked == 1


def test_many_secrets_at_once_and_the_longer_one_wins() -> None:
    secrets = [f"geheimnis-{number:03}" for number in range(400)] + ["geheimnis", "geheimnis-399-lang"]
    masked = Masker(secrets).text("geheimnis-399-lang geheimnis-017 geheimnis ungeheim")
    assert masked == f"{MASK} {MASK} {MASK} ungeheim"


def test_short_secrets_are_counted_not_masked() -> None:
    masker = Masker(["root", "abc", "long enough"])
    assert masker.text("root abc long enough") == f"root abc {MASK}"
    assert masker.too_short == 2


PEM = """-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIEexampleexampleexampleexampleexampleexampleoAoGCCqGSM49
AwEHoUQDQgAEexampleexample==
-----END EC PRIVATE KEY-----"""


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        (PEM, "MHcCAQEE"),
        (PEM.replace("\n", "\\n"), "MHcCAQEE"),
        (PEM.partition("\n-----END")[0], "AwEHoUQD"),
        ("Authorization: Bearer abcdefghijkl", "abcdefghijkl"),
        ("authorization: Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
        ("token eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0xyz.c2lnbmF0dXJl", "eyJzdWIi"),
        ("https://user:hunter2hunter2@example.org/x", "hunter2"),
        ("mongodb://root:with@at@mongo:27017", "with@at"),
        ("GET /x?access_token=abcdef123&y=1", "abcdef123"),
        ("password=swordfish rest", "swordfish"),
        ('"password": "swordfish"', "swordfish"),
        ('{\\"password\\": \\"swordfish\\"}', "swordfish"),
        ("MYSQL_PASSWORD: swordfish", "swordfish"),
        ("K10" + "a" * 64 + "::server:deadbeef", "deadbeef"),
        ("ghp_0123456789abcdefghijABCDEFGHIJ", "0123456789abcdefghij"),
        ("AGE-SECRET-KEY-1QQQQQQQ", "QQQQ"),
        ("PrivateKey = aGVsbG8gd29ybGQ=", "aGVsbG8"),
        ("client-key-data: LS0tLS1CRUdJTg==", "LS0tLS1"),
        ('"auth": "dXNlcjpwYXNz"', "dXNlcjpwYXNz"),
        ("auth:\n  password: swordfish", "swordfish"),
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str, gone: str) -> None:
    masked = Masker([]).text(f"before {text}\nafter")
    assert gone not in masked
    assert masked.startswith("before ")
    # a key without an end takes the words behind it with it
    assert masked.endswith("after") or ("BEGIN" in text and "END" not in text)


@pytest.mark.parametrize(
    "text",
    [
        "token-file: /etc/rancher/k3s/token",
        "MONGO_INITDB_ROOT_PASSWORD_FILE=/run/secrets/mongo_root_password",
        "password_must_fit: true",
        'level=info msg="Starting k3s v1.34.4+k3s1"',
        "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "https://registry.example:5000/v2/",
        "author: ops, authority: ca.crt",
        "tokens: 3",
        "2026-05-28T10:00:00Z GET /api/v1/health/live 200",
    ],
)
def test_harmless_text_stays(text: str) -> None:
    assert Masker(["Kanarienvogel"]).text(text) == text


def test_values_are_masked_wherever_they_are() -> None:
    value = {"Kanarienvogel": ["x", {"y": "a Kanarienvogel b", "n": 5, "z": None}]}
    assert Masker(["Kanarienvogel"]).value(value) == {MASK: ["x", {"y": f"a {MASK} b", "n": 5, "z": None}]}


def test_environments_show_harmless_values_only() -> None:
    shown = environment(
        ["PATH=/bin", "CLUSTER_ID=abc", "SMTP=x:y", "KAFKA_SASL_JAAS_CONFIG=user=x", "EMPTY=", "NOVALUE"]
    )
    assert shown == [
        "PATH=/bin",
        "CLUSTER_ID=abc",
        f"SMTP={MASK}",
        f"KAFKA_SASL_JAAS_CONFIG={MASK}",
        "EMPTY=",
        "NOVALUE",
    ]
    assert is_harmless("MONGO_INITDB_ROOT_PASSWORD_FILE")
    assert not is_harmless("GF_SECURITY_ADMIN_PASSWORD")
    assert not is_harmless("KAFKA_SSL_KEY_PASSWORD")


def test_environments_within_inspected_objects() -> None:
    docker = {"Config": {"Env": ["SECRET_KEY=geheim", "TZ=UTC"]}}
    assert without_environment(docker) == {"Config": {"Env": [f"SECRET_KEY={MASK}", "TZ=UTC"]}}
    pod = {"spec": {"containers": [{"env": [{"name": "X", "value": "geheim"}, {"name": "Y", "valueFrom": {}}]}]}}
    found = without_environment(pod)["spec"]["containers"][0]["env"]
    assert found == [{"name": "X", "value": MASK}, {"name": "Y", "valueFrom": {}}]


def test_forms_are_long_enough_to_be_searched_for() -> None:
    assert min(len(one) for one in forms("sechs6")) >= 6


# -- what lies on a server


@pytest.fixture
def planted(tmp_path: Path) -> tuple[Path, Path, dict[str, str]]:
    """A server's root, its base, and a secret by the place where it lies."""
    root, base = tmp_path, tmp_path / "opt/integr8scode"
    secrets = {
        place: f"canary-{number:02}-geheim"
        for number, place in enumerate(
            [
                "mongo",
                "key",
                "user",
                "seed",
                "token",
                "node",
                "docker",
                "kubeconfig",
                "wire",
                "env",
                "registry",
                "old",
                "passwd",
                "proxy",
                "user_of_a_proxy",
            ]
        )
    }
    key = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJzdHV2"
    login = base64.b64encode(f"robot:{secrets['docker']}".encode()).decode()
    url = f"mongodb://root:{quote(secrets['mongo'] + '/@', safe='')}@mongo:27017/a_long_database?authSource=admin"
    files = {
        base / "secrets/aa/secrets.toml": tomli_w.dumps({"SECRET_KEY": secrets["key"], "MONGODB_URL": url}),
        base / "secrets/bb/user_passwords.json": json.dumps({"DEFAULT_USER_PASSWORD": secrets["user"]}),
        base / "secrets/cc/mongo_root_username": "root",
        base / "secrets/dd/mongo_root_password": secrets["seed"] + "\n",
        base / "secrets/ee/mongo_root_password": secrets["old"],
        base / "secrets/current.yaml": "services: {backend: {}}",
        base / "kubeconfig/k8s-worker.yaml": f"users:\n- user:\n    token: {secrets['kubeconfig']}\n",
        base / "tls/public/server.key": f"-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n",
        root / "etc/rancher/k3s/token": f"K10aa::server:{secrets['token']}",
        root / "etc/rancher/node/password": secrets["node"],
        root / "var/lib/rancher/k3s/server/cred/passwd": f"{secrets['passwd']},server,server,k3s:server\n",
        root / "root/.docker/config.json": json.dumps({"auths": {"ghcr.io": {"auth": login}}}),
        root / "etc/wireguard/wg0.conf": f"[Interface]\nPrivateKey = {secrets['wire']}\n",
        root / "etc/systemd/system/k3s.service.env": f"K3S_TOKEN='{secrets['env']}'\n",
        root / "etc/rancher/k3s/registries.yaml": f"configs:\n  x:\n    auth:\n      password: {secrets['registry']}\n",
        root / "etc/docker/daemon.json": json.dumps(
            {"proxies": {"http-proxy": f"http://me:{secrets['proxy']}@proxy.example.org:3128"}}
        ),
        root / "etc/environment": f"http_proxy=http://{secrets['user_of_a_proxy']}@proxy.example.org:3128\n",
        root / "etc/rancher/k3s/config.yaml": "token-file: /etc/rancher/k3s/token\nnode-ip: 192.0.2.1\n",
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (base / "secrets/.key").write_bytes(bytes(range(200, 232)))
    return root, base, {**secrets, "pem": key}


def test_every_secret_that_lies_on_a_server_is_found(planted: tuple[Path, Path, dict[str, str]]) -> None:
    root, base, secrets = planted
    masker = Masker(collect(base, root=root))
    for place, secret in secrets.items():
        assert masker.text(f"x {secret} y") == f"x {MASK} y", place
    # the password is what the URL decodes to as well
    assert masker.text(f"{secrets['mongo']}/@") == MASK
    assert bytes(range(200, 232)).hex() not in masker.text(bytes(range(200, 232)).hex())
    # names, paths and addresses stay, those in the URL of the database and in the registry's login too
    for text in (
        "root /etc/rancher/k3s/token 192.0.2.1 SECRET_KEY",
        "/opt/integr8scode/current integr8scode-backend-1 clientId=integr8scode-backend",
        "a robot-account of ghcr.io writes to a_long_database with authSource=admin",
        "the server, system:masters, k3s:server",
    ):
        assert masker.text(text) == text


def test_a_server_without_any(tmp_path: Path) -> None:
    assert collect(tmp_path / "none", root=tmp_path) == set()


def test_files_that_cannot_be_read_do_not_matter(planted: tuple[Path, Path, dict[str, str]]) -> None:
    root, base, secrets = planted
    (root / "etc/rancher/k3s/token").unlink()
    (root / "etc/rancher/k3s/token").mkdir()
    (root / "root/.docker/config.json").write_text("{")
    assert secrets["user"] in collect(base, root=root)


def test_values_of_containers_environments() -> None:
    entries = ["GF_SECURITY_ADMIN_PASSWORD=canary-env", "PATH=/bin", "URL=https://u:canary%2Furl@x", "N=5", "F=/run/x"]
    inspected: list[dict[str, Any]] = [{"Config": {"Env": entries}}, {"Config": {"Env": None}}]
    assert set(of_containers(inspected)) == {
        "canary-env", "https://u:canary%2Furl@x", "canary%2Furl", "canary/url"
    }  # fmt: skip
