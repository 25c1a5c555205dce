"""Any password: what the roles render of it, as Ansible renders it, is read back by each format's own parser.

A thousand of them for each way. What no format could carry is refused before anything changes, named and not shown.
Kafka takes no login in this stack, so nothing of it holds a secret.
"""

from __future__ import annotations

import base64
import json
import shlex
import ssl
import string
import subprocess
import sys
import tomllib
import urllib.parse
from pathlib import Path
from typing import Any

import bson.json_util  # noqa: F401  (pymongo's parts below import each other in this order)
import pytest
import yaml
from ansible.errors import AnsibleError
from ansible.module_utils import secret_files as store
from ansible.module_utils.backups import mongo
from ansible.module_utils.drift.registry import Registry
from ansible.module_utils.kubeconfig_file import Wanted, render
from ansible.module_utils.releases import verify
from ansible.module_utils.saslprep import saslprep
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import FileVaultSecret
from ansible.plugins.filter.integr8scode_checks import secret_problems
from hypothesis import Phase, assume, example, given, settings
from hypothesis import strategies as st
from pymongo.saslprep import saslprep as drivers
from pymongo.uri_parser import parse_uri

from tests.unit.support import compose_dotenv
from tests.unit.support.passwords import ASCII, EVERYTHING, LONGEST, mongo_passwords, passwords
from tests.unit.support.templating import evaluate, load, role_variables

NAMES = ("secret_key", "mongo_root_password", "user_password", "admin_password")
thousand = settings(max_examples=1000)
# five passwords in each: Ansible's templating is slow
several = settings(max_examples=200)


def task(path: str, module: str) -> Any:
    """The arguments of the first task of a file that runs a module."""
    return next(one[module] for one in load(path) if module in one)


@pytest.fixture(scope="module")
def written() -> Any:
    """What the role has the module release_files write, as bytes by file name, for some secrets."""
    files = task("roles/integr8scode/tasks/release.yml", "release_files")["secrets"]["files"]
    contents = [{"name": one["name"], "content": one["content"]} for one in files]
    known = role_variables("integr8scode")

    def made(**secrets: str) -> dict[str, bytes]:
        variables = known | {f"integr8scode_{name}": value for name, value in secrets.items()}
        rest = {"owner": 0, "group": 0, "mode": "0400", "fixed": "", "services": []}
        return {
            file.name: file.content
            for file in store.wanted_files([{**one, **rest} for one in evaluate(contents, variables)])
        }

    return made


# -- what containers read


@several
@given(passwords, mongo_passwords, mongo_passwords, passwords, passwords)
@example(EVERYTHING, " root ", EVERYTHING.replace("😀", ""), EVERYTHING, EVERYTHING)
@example("{{ 1 + 1 }}", "{{ 1 + 1 }}", "{# gone #}", "{% raw %}", "$$")
def test_secret_files_hold_every_password(
    written: Any, key: str, root: str, password: str, user: str, admin: str
) -> None:
    found = written(
        secret_key=key,
        mongo_root_username=root,
        mongo_root_password=password,
        user_password=user,
        admin_password=admin,
    )
    settings_file = tomllib.loads(found["secrets.toml"].decode())
    assert settings_file["SECRET_KEY"] == key
    url = parse_uri(settings_file["MONGODB_URL"])
    assert (url["username"], url["password"]) == (root, password)
    assert (url["nodelist"], url["database"], dict(url["options"])) == (
        [("mongo", 27017)],
        "integr8scode",
        {"authSource": "admin"},
    )
    assert found["mongo_root_username"] == root.encode()
    assert found["mongo_root_password"] == password.encode()
    assert json.loads(found["user_passwords.json"]) == {"DEFAULT_USER_PASSWORD": user, "ADMIN_USER_PASSWORD": admin}


@settings(max_examples=20)
@given(st.lists(passwords, min_size=50, max_size=50))
def test_mongos_image_reads_a_password_from_its_file(
    tmp_path_factory: pytest.TempPathFactory, given_ones: list[str]
) -> None:
    """Its entrypoint is bash and takes `$(< file)`."""
    folder = tmp_path_factory.mktemp("passwords")
    for number, password in enumerate(given_ones):
        (folder / str(number)).write_bytes(password.encode())
    script = 'for name in $(seq 0 49); do value="$(< "$name")"; printf "%s\\0" "$value"; done'
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == given_ones


@settings(max_examples=10)
@given(st.lists(st.tuples(passwords, passwords), min_size=5, max_size=5))
def test_the_seed_gets_the_passwords_as_variables(
    tmp_path_factory: pytest.TempPathFactory, written: Any, given_ones: list[tuple[str, str]]
) -> None:
    """By the command of the compose file, with its paths and the last program replaced."""
    command = load("docker-compose.yaml")["services"]["user-seed"]["command"]
    assert command[:2] == ["python", "-c"]
    folder = tmp_path_factory.mktemp("seed")
    same = {"secret_key": "k", "mongo_root_username": "root", "mongo_root_password": "p"}
    for number, (user, admin) in enumerate(given_ones):
        content = written(**same, user_password=user, admin_password=admin)["user_passwords.json"]
        (folder / f"{number}.json").write_bytes(content)
    code = command[2].replace("$$", "$")
    before, ran = code.rsplit("runpy.run_module", 1)
    assert ran == "('scripts.seed_users', run_name='__main__')"
    once = before.replace("'/run/secrets/user_passwords.json'", "path")
    assert once != before
    told = "print(json.dumps([os.environ['DEFAULT_USER_PASSWORD'], os.environ['ADMIN_USER_PASSWORD']]))"
    program = (
        f"import sys, json, os, runpy\nfor number in range({len(given_ones)}):\n"
        f"    path = f'{{sys.argv[1]}}/{{number}}.json'\n    {once}\n    {told}\n"
    )
    done = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", program, str(folder)], capture_output=True, check=True, text=True
    )
    assert [tuple(json.loads(line)) for line in done.stdout.splitlines()] == given_ones


# -- Mongo


@thousand
@given(mongo_passwords)
def test_driver_and_doctor_prepare_a_password_alike(password: str) -> None:
    assume(not mongo_problem(password))
    assert saslprep(password) == drivers(password)


def mongo_problem(password: str) -> list[str]:
    problems = secret_problems({"integr8scode_mongo_root_password": password}, allow_fake=True)
    return [one for one in problems if "MongoDB takes" in one]


@thousand
@given(passwords | mongo_passwords | st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1))
@example("0123456789😀abc")
@example("mixed אבג directions")
@example("\u00ad" * 12)
@example("\ue000private-use")
def test_what_the_driver_would_refuse_is_refused_before(password: str) -> None:
    """pymongo raises for some characters, when it logs in: too late, and mongod makes no user with them."""
    try:
        refused = not drivers(password)
    except (ValueError, IndexError):  # nothing is left of it: pymongo looks at its first character all the same
        refused = True
    assert bool(mongo_problem(password)) == refused


@settings(max_examples=500)
@given(mongo_passwords, mongo_passwords)
@example("ro'ot", EVERYTHING)
def test_dumps_log_in_by_a_line_of_yaml_that_the_shell_hands_on(tool: Path, root: str, password: str) -> None:
    server = mongo.MongoServer("c0ffee", "mongo:8", root, password)
    words = mongo.command_line(server, str(tool), [])
    assert password not in words or len(password) < 9
    done = subprocess.run(words[4:], input=mongo.login_line(password) + b"archive", capture_output=True, check=True)
    username, login, rest = done.stdout.split(b"\0")
    assert username.decode() == f"--username={root}"
    assert yaml.safe_load(login) == {"password": password}
    assert rest == b"archive"


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In place of mongodump: tells its user, its configuration file, and what it reads."""
    path = tmp_path_factory.mktemp("tool") / "mongodump"
    # without a program of its own for each of them: there are a thousand
    path.write_text(
        '#!/bin/sh\nprintf "%s\\0" "$1"\n'
        'IFS= read -r login < "${4#--config=}"\nprintf "%s\\0" "$login"\n'
        'IFS= read -r rest\nprintf "%s" "$rest"\n'
    )
    path.chmod(0o755)
    return path


# -- Compose, YAML, forms, headers


@thousand
@given(st.text(ASCII.replace("/", "") + "é😀", min_size=1, max_size=LONGEST))
@example("${A:-x} $$ $B")
def test_compose_mounts_secrets_from_any_folder(folder: str) -> None:
    """The one compose file that is written about secrets holds paths, and Compose interpolates them."""
    mounts = {"mongo": {"/run/secrets/a $b": f"/opt/{folder}/a"}}
    text = store.override_text(mounts).decode()
    (volume,) = yaml.safe_load(text)["services"]["mongo"]["volumes"]
    # Compose's own rules, and the same ones in Python's library, which raises for a dollar that stands alone
    for read in (lambda value: compose_dotenv.substitute(value, {}), lambda value: string.Template(value).substitute()):
        assert {read(volume["target"]): read(volume["source"])} == mounts["mongo"]


@thousand
@given(passwords)
@example(EVERYTHING)
def test_kubeconfigs_hold_every_token(token: str) -> None:
    text = render(Wanted("https://k:6443", "ca", "integr8scode", "k8s-worker", ""), token, "2026-03-01")
    assert yaml.safe_load(text)["users"] == [{"name": "k8s-worker", "user": {"token": token}}]


@several
@given(st.lists(passwords, min_size=5, max_size=5))
@example([EVERYTHING])
def test_k3s_settings_hold_every_text(values: list[str]) -> None:
    known = role_variables("k3s")
    content = next(one for one in known["__k3s_files"] if one["path"].endswith("/config.yaml"))["content"]
    found = yaml.safe_load(evaluate(content, known | {"k3s_config": {"node-label": values, "node-name": values[0]}}))
    assert (found["node-label"], found["node-name"]) == (values, values[0])


@thousand
@given(passwords, passwords)
@example(EVERYTHING, "user")
def test_the_login_after_a_deploy_sends_every_password(password: str, username: str) -> None:
    sent: dict[str, Any] = {}

    class Connection:
        def __init__(self, *_: Any) -> None: ...

        def request(self, *_: Any, body: str, headers: dict[str, str]) -> None:
            sent.update(body=body, **headers)

        def getresponse(self) -> Any:
            return type("Answer", (), {"status": 200, "headers": {}})

        def close(self) -> None: ...

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify, "EdgeConnection", Connection)
        patch.setattr(ssl, "create_default_context", lambda **_: None)
        outside = verify.Outside(443, 5001, "name", Path("/ca"), "user", None)
        request = verify.Request(443, "POST", "/login", {"username": username, "password": password})
        assert request.send(outside).status == 200
    assert password not in repr(request) or len(password) < 9
    parsed = urllib.parse.parse_qsl(sent["body"], keep_blank_values=True, strict_parsing=True)
    assert parsed == [("username", username), ("password", password)]


@thousand
@given(passwords)
@example(EVERYTHING)
def test_the_registry_is_sent_every_password(password: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        # which takes a while
        patch.setattr(ssl, "create_default_context", lambda *_, **__: None)
        login = Registry("registry.example", "ops", password, 1)._login
    # RFC 7617: the first colon ends the user's name
    assert base64.b64decode(login).decode().partition(":") == ("ops", ":", password)


@several
@given(st.lists(passwords, min_size=5, max_size=5))
def test_the_timers_credentials_hold_every_password(
    tmp_path_factory: pytest.TempPathFactory, given_ones: list[str]
) -> None:
    """Each as Ansible reads a file of the vault's password: white space around it counts nowhere."""
    settings_tasks = load("roles/drift_schedule/tasks/settings.yml")
    copy = next(one for one in settings_tasks if "__drift_schedule_secrets" in str(one.get("loop")))[
        "ansible.builtin.copy"
    ]
    path = tmp_path_factory.mktemp("credential") / "vault-password"
    for password in filter(str.strip, given_ones):
        content = evaluate(copy["content"], {"item": {"key": "vault-password", "value": password}})
        assert content == f"{password}\n"
        path.write_text(content, encoding="utf-8")
        secret = FileVaultSecret(filename=str(path), loader=DataLoader())
        secret.load()
        assert secret.bytes.decode() == password.encode().strip().decode()


@settings(max_examples=20)
@given(st.lists(passwords, min_size=50, max_size=50))
def test_words_of_commands_are_quoted_for_the_shell(given_ones: list[str]) -> None:
    done = subprocess.run(["sh", "-c", f"printf '%s\\0' {shlex.join(given_ones)}"], capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == given_ones


# -- what an inventory holds


class _Unsafe(str):
    """A text that is written with the tag !unsafe."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(_Unsafe, lambda dumper, value: dumper.represent_scalar("!unsafe", str(value), style='"'))


@settings(max_examples=20, phases=[Phase.generate])
@given(st.lists(passwords, min_size=50, max_size=50))
def test_passwords_marked_as_unsafe_come_out_of_the_vault_as_they_are(
    tmp_path_factory: pytest.TempPathFactory, given_ones: list[str]
) -> None:
    # a tag does not keep Ansible from reading what is a number or a word of YAML as a whole: no password begins so here
    given_ones = [f"p{password}" for password in given_ones]
    path = tmp_path_factory.mktemp("inventory") / "vault.yml"
    secrets = {f"vault_{number}": _Unsafe(password) for number, password in enumerate(given_ones)}
    path.write_text(yaml.dump(secrets, Dumper=_Dumper, allow_unicode=True), encoding="utf-8")
    variables = DataLoader().load_from_file(str(path), trusted_as_template=True)
    assert [evaluate(f"{{{{ vault_{number} }}}}", variables) for number in range(50)] == given_ones
    assert templates(variables, *variables) == []


def templates(variables: dict[str, Any], *names: str) -> list[str]:
    listed = ", ".join(f"'{name}'" for name in names)
    found: list[str] = evaluate(f"{{{{ lookup('secret_templates', {listed}, wantlist=true) }}}}", variables)
    return found


def inventory(tmp_path: Path, text: str) -> dict[str, Any]:
    """The variables of an inventory's file, as Ansible reads it."""
    (tmp_path / "main.yml").write_text(text, encoding="utf-8")
    found: dict[str, Any] = DataLoader().load_from_file(str(tmp_path / "main.yml"), trusted_as_template=True)
    return found


@pytest.mark.parametrize(
    "value", ["hidden{{ 1 + 1 }}", "{{ 1 }}{{ 2 }}hidden", "hidden{# x #}", "{%hidden", "hidden{{"]
)
def test_a_password_that_would_be_a_template_is_refused_by_name(tmp_path: Path, value: str) -> None:
    variables = inventory(tmp_path, f"secret: '{{{{ vault_secret }}}}'\nvault_secret: '{value}'\nplain: abc{{\n")
    (problem,) = templates(variables, "secret", "plain", "missing")
    assert problem.startswith("secret would be taken for a template")
    assert "vault_secret: !unsafe" in problem
    assert "hidden" not in problem


@pytest.mark.parametrize("value", ["{{ vault_key }}", "{{ vault_key | trim }}"])
def test_a_variable_of_the_vault_that_no_file_sets_is_named(tmp_path: Path, value: str) -> None:
    """Writing !unsafe before it, the cure of a template, would make the name itself the secret."""
    variables = inventory(tmp_path, f"secret: '{value}'\nother: '{{{{ secret }}}}'\nvault_kye: x\n")
    by_name, by_another = templates(variables, "secret", "other")
    assert by_name == (
        "secret names vault_key, which no file of the inventory sets. Put it into group_vars/all/vault.yml "
        "(ansible-vault edit), or correct the name in main.yml."
    )
    assert by_another.startswith("other names vault_key by way of secret, which no file of the inventory sets.")


def test_a_value_that_may_be_a_name_or_a_password_is_not_shown(tmp_path: Path) -> None:
    (problem,) = templates(inventory(tmp_path, "secret: '{{ hidden }}'\n"), "secret")
    assert problem.startswith("secret names a variable that no file of the inventory sets.")
    assert "secret: !unsafe" in problem
    assert "hidden" not in problem


@pytest.mark.parametrize(
    "value",
    [
        "{{ other }}",
        "{{ vault_missing | default('') }}",
        "{{ missing | default('') }}",
        "{{ lookup('ansible.builtin.env', 'X') }}",
        "{{ other if other else secret }}",
        "plain",
        "with } }} %} {",
    ],
)
def test_templates_that_are_meant_pass(tmp_path: Path, value: str) -> None:
    assert templates(inventory(tmp_path, f'secret: "{value}"\nother: x\nnumber: 1\n'), "secret", "number") == []


# -- refusals


@pytest.fixture(scope="module")
def refusal() -> Any:
    """What a run would stop with for its secrets' sake, evaluated as the role does; [] where it lets a run go on."""
    known = role_variables("integr8scode")
    good = {"integr8scode_secret_key": "k" * 40, **{f"integr8scode_{name}": "g" * 20 for name in NAMES[1:]}}

    def said(**secrets: Any) -> list[str]:
        found: list[str] = evaluate("{{ __integr8scode_secret_problems }}", known | good | secrets)
        return found

    return said


def test_good_secrets_are_not_refused(refusal: Any) -> None:
    assert refusal() == []
    assert refusal(integr8scode_mongo_root_password="p$\"' \\#@:/%!{}é; ") == []


@thousand
@given(st.text(ASCII + "é", min_size=12, max_size=LONGEST).filter(lambda text: not text.isdigit()))
@example(" " * 6 + "{{ x }}" + "é" * 6 + " ")
def test_no_printable_password_is_refused(password: str) -> None:
    assume(len(password.encode()) <= 72)
    named = {f"integr8scode_{name}": password for name in NAMES[1:]}
    assert secret_problems(named, allow_fake=True) == []


@thousand
@given(
    st.sampled_from([f"integr8scode_{name}" for name in (*NAMES, "mongo_root_username")]),
    st.text(ASCII, min_size=20, max_size=30),
    st.sampled_from([*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0)), "\u2028", "\u2029"]),
    st.text(ASCII, min_size=20, max_size=30),
)
def test_control_characters_are_refused_everywhere(name: str, before: str, char: str, after: str) -> None:
    (problem,) = secret_problems({name: before + char + after}, allow_fake=True)
    assert problem.startswith(f"{name} holds a line break or another control character")
    assert ("openssl rand" in problem) is not name.endswith("username")
    assert before not in problem
    assert after not in problem


@given(st.sampled_from(["user_password", "admin_password"]), st.text(ASCII + "é", min_size=73, max_size=200))
def test_users_passwords_beyond_bcrypts_bytes_are_refused(name: str, password: str) -> None:
    (problem,) = secret_problems({f"integr8scode_{name}": password}, allow_fake=True)
    assert problem.startswith(f"integr8scode_{name} has {len(password.encode())} bytes")
    assert "Shorten it" in problem
    assert password not in problem


@pytest.mark.parametrize("size", [71, 72, 73])
def test_bcrypts_limit_is_one_of_bytes(size: int) -> None:
    assert bool(secret_problems({"integr8scode_user_password": "é" + "a" * (size - 2)})) == (size > 72)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("integr8scode_user_password", 123456789012, "is no text: YAML reads it as int. Put it into quotes"),
        ("integr8scode_secret_key", 1.5, "YAML reads it as float"),
        ("integr8scode_admin_password", True, "YAML reads it as bool"),
        ("integr8scode_mongo_root_password", "hidden-hidden\ud800", "is not valid Unicode"),
        ("integr8scode_mongo_root_username", "", "is missing"),
        ("integr8scode_mongo_root_username", "ro\not", "holds a line break"),
        ("integr8scode_mongo_root_password", "hidden-hidden-\ue000", "MongoDB takes in no password"),
    ],
)
def test_what_no_file_could_hold_is_refused_before_anything_changes(
    refusal: Any, name: str, value: Any, says: str
) -> None:
    (problem,) = refusal(**{name: value})
    assert problem.startswith(f"{name} ")
    assert says in problem
    assert "hidden" not in problem


def test_all_problems_are_told_at_once(refusal: Any) -> None:
    said = refusal(integr8scode_user_password="x\n", integr8scode_admin_password="é" * 40)
    assert [one.split()[0] for one in said] == ["integr8scode_user_password", "integr8scode_admin_password"]


def test_a_secret_that_is_a_template_hides_none_of_the_others(tmp_path: Path, refusal: Any) -> None:
    """Nor is it evaluated: that would end the run with an error of Ansible."""
    written = inventory(tmp_path, "integr8scode_admin_password: 'hidden{{ nothing }}'\nk3s_token: 'a{% b'\n")
    said = refusal(**written, integr8scode_user_password="x\n", integr8scode_registry_username="ro\not")
    assert [one.split()[0] for one in said] == [
        "integr8scode_admin_password", "k3s_token", "integr8scode_user_password", "integr8scode_registry_username",
        "integr8scode_registry_password",
    ]  # fmt: skip
    assert "hidden" not in "".join(said)
    assert [one.split()[0] for one in refusal(k3s_token="short")] == ["k3s_token"]


def test_a_secret_in_k3s_settings_is_refused_and_not_sent_to_the_server() -> None:
    known = role_variables("k3s") | role_variables("integr8scode") | {"__integr8scode_whole": True}
    known["k3s_config"] = {"token": "hidden-hidden-hidden", "node-name": "app1"}
    assert evaluate("{{ __integr8scode_asked_of_server.k3s.config }}", known) == {"node-name": "app1"}
    (problem,) = evaluate("{{ __integr8scode_k3s_problems }}", known)
    assert problem.startswith("k3s_config must not hold token")
    assert evaluate("{{ __integr8scode_k3s_problems }}", known | {"k3s_config": {"node-name": "app1"}}) == []
    assert evaluate("{{ __integr8scode_k3s_problems }}", known | {"__integr8scode_whole": False}) == []


def test_secrets_are_judged_before_anything_is_changed() -> None:
    """With the server, by the first tasks of everything that writes secrets."""
    first = load("roles/integr8scode/tasks/refuse.yml")[0]
    assert first["ansible.builtin.import_tasks"] == "refuse_server.yml"
    assert "__integr8scode_judge_secrets" not in first["vars"]
    assert load("roles/integr8scode/tasks/main.yml")[0]["ansible.builtin.include_tasks"] == "refuse.yml"
    site = load("playbooks/site.yml")[0]
    assert site["pre_tasks"][0]["ansible.builtin.include_role"]["tasks_from"] == "preflight.yml"
    (preflight,) = load("roles/integr8scode/tasks/preflight.yml")
    assert preflight["ansible.builtin.import_tasks"] == "refuse_server.yml"
    look = load("roles/integr8scode/tasks/refuse_server.yml")[-1]
    assert "__integr8scode_secret_problems" in look["integr8scode_preflight"]["secrets"]


def test_refusing_is_no_error_of_ansible(tmp_path: Path) -> None:
    """The reason for the lookup: a password like this one ends the run with whatever Ansible makes of it."""
    variables = inventory(tmp_path, "secret: 'a{{ hidden }}'\nother: 'a{# gone #}b'\n")
    with pytest.raises(AnsibleError):
        evaluate("{{ secret }}", variables)
    assert evaluate("{{ other }}", variables) == "ab"
