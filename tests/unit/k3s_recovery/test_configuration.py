"""k3s' settings: what counts, where it stands, and edits that change nothing else."""

from __future__ import annotations

import importlib
import stat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

configuration = importlib.import_module("ansible.module_utils.k3s_recovery.configuration")
facts = importlib.import_module("ansible.module_utils.k3s_recovery.facts")
places = importlib.import_module("ansible.module_utils.k3s_recovery.yaml_places")
words = importlib.import_module("ansible.module_utils.k3s_recovery.unit_words")

UNIT = "/etc/systemd/system/k3s.service"
# as the vendor's install script writes it
VENDOR_UNIT = """\
[Service]
Type=notify
EnvironmentFile=-/etc/default/%N
EnvironmentFile=-/etc/systemd/system/k3s.service.env
ExecStartPre=-/sbin/modprobe overlay
ExecStart=/usr/local/bin/k3s \\
    server \\
\t'--token' \\
\t'a-secret-that-is-long' \\
\t'--node-ip' \\
\t'10.0.0.1' \\
\t'--bind-address=10.0.0.1' \\
\t'--flannel-iface' \\
\t'eth7' \\

"""


def server(root: Path, files: dict[str, str]) -> Any:
    """The configuration of a server that has these files."""
    for name, text in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    return configuration.settings_with_places(root)


def correct(root: Path, found: Any, key: str, old: str, new: str) -> list[str]:
    changed: list[str] = configuration.apply(configuration.edits(found, key, old, new), root)
    return changed


@pytest.fixture(params=["with PyYAML", "without"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both readers, for tests where they have to agree."""
    monkeypatch.setattr(places, "HAS_YAML", request.param == "with PyYAML")


CONFIG = "/etc/rancher/k3s/config.yaml"
DROP_IN = "/etc/rancher/k3s/config.yaml.d/50-own.yaml"


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("node-ip: 10.0.0.1\n", ["10.0.0.1"]),
        ("node-ip: '10.0.0.1'   # mine\n", ["10.0.0.1"]),
        ('"node-ip": "10.0.0.1"\n', ["10.0.0.1"]),
        ("node-ip: 10.0.0.1,fd00::1\n", ["10.0.0.1", "fd00::1"]),
        ("node-ip: '10.0.0.1, fd00::1'\n", ["10.0.0.1", "fd00::1"]),
        ("node-ip: [10.0.0.1, 'fd00::1']\ndebug: true\n", ["10.0.0.1", "fd00::1"]),
        ("node-ip:\n- 10.0.0.1\n- fd00::1\n", ["10.0.0.1", "fd00::1"]),
        ('node-ip:\n  # first\n  - 10.0.0.1 # one\n\n  - "fd00::1"\ndebug: true\n', ["10.0.0.1", "fd00::1"]),
        ("---\n# a comment\n\nnode-ip:\n  10.0.0.1\n", ["10.0.0.1"]),
        ("  node-ip: 10.0.0.1\n  debug: true\n", ["10.0.0.1"]),
        ("node-ip: 10.0.0.9\nnode-ip: 10.0.0.1\n", ["10.0.0.1"]),
        ("node-ip: 10.0.0.1", ["10.0.0.1"]),
        ("node-ip: 10.0.0.1\r\ndebug: true\r\n", ["10.0.0.1"]),
        ("node-ip: >-\n  10.0.0.1\n", ["10.0.0.1"]),
        ("debug: true\nnode-label:\n  - node-ip=10.0.0.3\n", []),
        ("node-ip:\n", []),
        ("node-ip: []\n", []),
        ("# node-ip: 10.0.0.1\n", []),
        ("", []),
        ("node-ip: 10.0.0.1\n---\nnode-ip: 10.0.0.2\n", ["10.0.0.1"]),
    ],
)
@pytest.mark.usefixtures("reader")
def test_node_ip_as_it_may_be_written(tmp_path: Path, text: str, values: list[str]) -> None:
    found = server(tmp_path, {CONFIG: text})
    assert found.values("node-ip") == values
    assert found.problems == []
    for one in found.items("node-ip"):
        if one.start >= 0 and one.value:
            assert text[one.start :].startswith(one.value)
            assert one.value in text.splitlines()[one.line - 1]


@pytest.mark.parametrize(
    "text", ["node-ip 10.0.0.1\n", "node-ip:10.0.0.1\n", "- 10.0.0.1\n", "debug: true\n node-ip: [10.0.0.1\n"]
)
@pytest.mark.usefixtures("reader")
def test_what_k3s_refuses_is_a_problem_with_its_line(tmp_path: Path, text: str) -> None:
    found = server(tmp_path, {CONFIG: text})
    assert found.problems
    assert found.problems[0].startswith(f"{CONFIG}:")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["node-ip", "debug", "tls-san", "node-ip+", "bind-address"]),
            st.lists(st.sampled_from(["10.0.0.1", "fd00::1", "a", "'b c'", '"d"']), min_size=1, max_size=3),
            st.sampled_from(["scalar", "block", "indented", "flow"]),
            st.sampled_from(["", "  # comment", "   "]),
        ),
        max_size=5,
    )
)
def test_the_simple_reader_agrees_with_pyyaml(entries: list[tuple[str, list[str], str, str]]) -> None:
    text = ""
    for key, values, style, comment in entries:
        if style == "scalar":
            text += f"{key}: {values[0]}{comment}\n"
        elif style == "flow":
            text += f"{key}: [{', '.join(values)}]{comment}\n"
        else:
            indent = "  " if style == "indented" else ""
            text += f"{key}:{comment}\n" + "".join(f"{indent}- {value}\n" for value in values)
    exact, plain = places.parse(text), places.parse_plainly(text)
    assert [(one.key, one.values, one.line, one.start) for one in plain.entries] == [
        (one.key, one.values, one.line, one.start) for one in exact.entries
    ]
    assert [text[one.start : one.end] for one in plain.entries] == [text[one.start : one.end] for one in exact.entries]


def test_the_order_of_k3s(tmp_path: Path) -> None:
    found = server(
        tmp_path,
        {
            CONFIG: "node-ip: 10.0.0.1\ntls-san: [a]\nbind-address: 10.0.0.1\nadvertise-address: 10.0.0.1\n",
            f"{CONFIG}.d/10-a.yml": "node-ip: 10.0.0.2\ntls-san+: [b]\nadvertise-address: 10.0.0.2\n",
            "/etc/rancher/k3s/config.yaml.d/20-b.yaml": "node-ip: 10.0.0.3\n",
            "/etc/rancher/k3s/config.yaml.d/30-c.txt": "node-ip: 10.0.0.4\n",
            "/etc/systemd/system/k3s.service": "[Service]\nExecStart=/k3s server --tls-san c --bind-address 10.0.0.5\n",
        },
    )
    assert found.values("node-ip") == ["10.0.0.3"]
    assert found.items("node-ip")[0].place == "/etc/rancher/k3s/config.yaml.d/20-b.yaml:1"
    assert found.values("tls-san") == ["a", "b", "c"]
    assert found.text("bind-address") == "10.0.0.5"
    assert found.text("advertise-address") == "10.0.0.2"
    assert found.command == "server"
    assert found.files == [
        CONFIG,
        "/etc/rancher/k3s/config.yaml.d/10-a.yml",
        "/etc/rancher/k3s/config.yaml.d/20-b.yaml",
    ]


def test_the_vendors_unit(tmp_path: Path) -> None:
    found = server(tmp_path, {"/etc/systemd/system/k3s.service": VENDOR_UNIT})
    assert found.values("node-ip") == ["10.0.0.1"]
    assert found.items("node-ip")[0].place == "/etc/systemd/system/k3s.service:11"
    assert found.text("flannel-iface") == "eth7"
    assert "a-secret" not in repr(found)

    for key, old, new in (("node-ip", "10.0.0.1", "10.0.0.2"), ("bind-address", "10.0.0.1", "10.0.0.2")):
        assert correct(tmp_path, configuration.settings_with_places(tmp_path), key, old, new)
    text = (tmp_path / "etc/systemd/system/k3s.service").read_text()
    assert text == VENDOR_UNIT.replace("10.0.0.1", "10.0.0.2")

    correct(tmp_path, configuration.settings_with_places(tmp_path), "flannel-iface", "eth7", "")
    after = configuration.settings_with_places(tmp_path)
    assert after.items("flannel-iface") == []
    assert after.values("node-ip") == ["10.0.0.2"]
    assert len([one.text for one in words.read_unit(tmp_path).words]) == 7


def test_a_drop_in_of_the_unit_and_its_environment(tmp_path: Path) -> None:
    found = server(
        tmp_path,
        {
            "/etc/systemd/system/k3s.service": VENDOR_UNIT,
            "/etc/systemd/system/k3s.service.d/own.conf": (
                "[Service]\nEnvironmentFile=/etc/k3s.env\nExecStart=\n"
                'ExecStart=/usr/local/bin/k3s server $EXTRA --node-ip=${NODE_IP} -d "/srv/k 3s"\n'
            ),
            "/etc/k3s.env": 'EXTRA="--bind-address 10.0.0.7 --cluster-init"\nNODE_IP=10.0.0.8\nK3S_TOKEN=hidden-token',
        },
    )
    assert found.values("node-ip") == ["10.0.0.8"]
    assert found.items("node-ip")[0].place == "/etc/k3s.env:2"
    assert found.text("bind-address") == "10.0.0.7"
    assert found.text("data-dir") == "/srv/k 3s"
    assert found.switch("cluster-init")
    assert "hidden-token" not in repr(found)
    correct(tmp_path, found, "node-ip", "10.0.0.8", "10.0.0.9")
    assert "NODE_IP=10.0.0.9\n" in (tmp_path / "etc/k3s.env").read_text()


def test_an_endpoint_shows_no_password(tmp_path: Path) -> None:
    found = server(
        tmp_path, {CONFIG: "datastore-endpoint: mysql://k3s:pass@tcp(10.0.0.2:3306)/k3s\ntoken: hidden-token\n"}
    )
    assert found.text("datastore-endpoint") == "mysql"
    assert "pass" not in repr(found)
    assert "hidden-token" not in repr(found)


@pytest.mark.usefixtures("reader")
def test_an_edit_keeps_everything_else(tmp_path: Path) -> None:
    text = "# keep 10.0.0.1 here\r\ndebug: true\n\nnode-ip: '10.0.0.1,fd00::1'  # old\ntls-san: [10.0.0.1, x]\n"
    found = server(tmp_path, {CONFIG: text, DROP_IN: '---\nnode-ip:\n  - "10.0.0.1" # here too\n'})
    path = tmp_path / CONFIG.lstrip("/")
    path.chmod(0o640)
    changes = configuration.edits(found, "node-ip", "10.0.0.1", "10.0.0.2")
    assert configuration.apply(changes, tmp_path) == [CONFIG, DROP_IN]
    assert path.read_bytes().decode() == text.replace("'10.0.0.1,", "'10.0.0.2,")
    assert (tmp_path / DROP_IN.lstrip("/")).read_text() == '---\nnode-ip:\n  - "10.0.0.2" # here too\n'
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert configuration.apply(changes, tmp_path) == []


@pytest.mark.usefixtures("reader")
def test_a_removed_option_goes_with_its_lines(tmp_path: Path) -> None:
    text = "debug: true\nbind-address:\n  10.0.0.1 # gone\n# next\nnode-name: a\n"
    found = server(tmp_path, {CONFIG: text})
    changes = configuration.edits(found, "bind-address", "10.0.0.1", "")
    configuration.apply(changes, tmp_path)
    assert (tmp_path / CONFIG.lstrip("/")).read_text() == "debug: true\n# next\nnode-name: a\n"
    assert configuration.apply(changes, tmp_path) == []


@pytest.mark.parametrize("text", ["", "debug: true", "  debug: true\n  node-name: a\n", "# only a comment\n"])
def test_an_added_option(tmp_path: Path, text: str) -> None:
    found = server(tmp_path, {CONFIG: text})
    changes = configuration.edits(found, "node-ip", "", "10.0.0.2")
    assert configuration.apply(changes, tmp_path) == [CONFIG]
    after = configuration.settings_with_places(tmp_path)
    assert (after.values("node-ip"), after.problems) == (["10.0.0.2"], [])
    assert (tmp_path / CONFIG.lstrip("/")).read_text().startswith(text)
    assert configuration.apply(changes, tmp_path) == []


def test_a_file_that_changed_meanwhile_is_not_touched(tmp_path: Path) -> None:
    found = server(tmp_path, {CONFIG: "node-ip: 10.0.0.1\n", DROP_IN: "node-ip: 10.0.0.1\n"})
    changes = configuration.edits(found, "node-ip", "10.0.0.1", "10.0.0.2")
    (tmp_path / DROP_IN.lstrip("/")).write_text("debug: true\nnode-ip: 10.0.0.1\n")
    with pytest.raises(configuration.ConfigurationError, match="has changed since"):
        configuration.apply(changes, tmp_path)
    assert (tmp_path / CONFIG.lstrip("/")).read_text() == "node-ip: 10.0.0.1\n"


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    found = server(tmp_path, {"/srv/config.yaml": "node-ip: 10.0.0.1\n"})
    path = tmp_path / CONFIG.lstrip("/")
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "srv/config.yaml")
    found = configuration.settings_with_places(tmp_path)
    correct(tmp_path, found, "node-ip", "10.0.0.1", "10.0.0.2")
    assert path.is_symlink()
    assert (tmp_path / "srv/config.yaml").read_text() == "node-ip: 10.0.0.2\n"


def test_a_value_in_several_lines_is_not_edited(tmp_path: Path) -> None:
    found = server(tmp_path, {CONFIG: 'bind-address: "10.0.\\\n  0.1"\n'})
    assert found.text("bind-address") == "10.0.0.1"
    assert configuration.edits(found, "bind-address", "10.0.0.1", "10.0.0.2") == []
    assert configuration.unreachable(found, "bind-address", "10.0.0.1") == [f"{CONFIG}:1"]


TOKEN = "a-secret-that-is-long"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (CONFIG, f"debug: true\ntoken: {TOKEN}\n"),
        (CONFIG, f"token: '{TOKEN}'  # ours\n"),
        (CONFIG, f'token:\n  "{TOKEN}"\n'),
        ("/etc/systemd/system/k3s.service", VENDOR_UNIT),
        ("/etc/systemd/system/k3s.service", f"[Service]\nExecStart=/usr/local/bin/k3s server --token={TOKEN}\n"),
        ("/etc/systemd/system/k3s.service", f'[Service]\nExecStart=/usr/local/bin/k3s server -t "{TOKEN}"\n'),
        ("/etc/systemd/system/k3s.service", f'[Service]\nEnvironment="K3S_TOKEN={TOKEN}"\nExecStart=/k3s server\n'),
        ("/etc/systemd/system/k3s.service.env", f"K3S_TOKEN='{TOKEN}'\n"),
    ],
)
@pytest.mark.usefixtures("reader")
def test_the_place_of_a_token_is_known_and_its_text_is_not_kept(tmp_path: Path, file: str, text: str) -> None:
    found = server(tmp_path, {"/etc/systemd/system/k3s.service": VENDOR_UNIT.partition("'--token'")[0], file: text})
    (one,) = found.items("token")
    assert (one.file, one.value, one.whole) == (file, "", "")
    assert text[one.start : one.end] == TOKEN
    assert TOKEN not in repr(found)
    assert list(facts.written_tokens(tmp_path, found)) == [TOKEN]
    assert configuration.edits(found, "token", "", TOKEN) == []


def test_the_token_that_counts_is_the_first(tmp_path: Path) -> None:
    found = server(tmp_path, {CONFIG: "token: first-in-order\n", DROP_IN: "token: wins-over-it\n"})
    assert list(facts.written_tokens(tmp_path, found)) == ["wins-over-it", "first-in-order"]


def test_an_endpoint_on_the_command_line_shows_no_password(tmp_path: Path) -> None:
    unit = "[Service]\nExecStart=/k3s server --datastore-endpoint=mysql://k3s:pass@tcp(10.0.0.2:3306)/k3s\n"
    found = server(tmp_path, {"/etc/systemd/system/k3s.service": unit})
    assert (found.text("datastore-endpoint"), "pass" in repr(found)) == ("mysql", False)


def test_where_snapshots_are(tmp_path: Path) -> None:
    assert server(tmp_path, {CONFIG: "etcd-snapshot-dir: /srv/s\n"}).text("etcd-snapshot-dir") == "/srv/s"


def test_one_line_of_json_loses_nothing(tmp_path: Path) -> None:
    text = f'{{"token":"{TOKEN}","data-dir":"/data/k3s","flannel-iface":"wg0"}}'
    found = server(tmp_path, {CONFIG: text})
    assert TOKEN not in repr(found)
    assert configuration.edits(found, "flannel-iface", "wg0", "") == []
    assert configuration.unreachable(found, "flannel-iface", "wg0", remove=True) == [f"{CONFIG}:1"]
    correct(tmp_path, found, "flannel-iface", "wg0", "eth0")
    assert (tmp_path / CONFIG.lstrip("/")).read_text() == text.replace("wg0", "eth0")


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("node-ip: 10.0.0.9,10.0.0.2,fd00::9\n", "node-ip: 10.0.0.9,fd00::9\n"),
        ("node-ip: '10.0.0.2, fd00::9' # mine\n", "node-ip: 'fd00::9' # mine\n"),
        ("node-ip: 10.0.0.9 , 10.0.0.2\n", "node-ip: 10.0.0.9 \n"),
        ("node-ip: [10.0.0.9, \"10.0.0.2\", 'fd00::9']\n", "node-ip: [10.0.0.9, 'fd00::9']\n"),
        ("node-ip: [10.0.0.9,\n  '10.0.0.2']\n", "node-ip: [10.0.0.9]\n"),
        ("node-ip:\n  - 10.0.0.9\n  - 10.0.0.2 # old\n  - fd00::9\n", "node-ip:\n  - 10.0.0.9\n  - fd00::9\n"),
        ('node-ip:\n- "10.0.0.2"\n- 10.0.0.9\ndebug: true\n', "node-ip:\n- 10.0.0.9\ndebug: true\n"),
        ("node-ip:\n- 10.0.0.9\n- 10.0.0.2", "node-ip:\n- 10.0.0.9\n"),
        ("node-ip: [10.0.0.2]\ndebug: true\n", "debug: true\n"),
    ],
)
@pytest.mark.usefixtures("reader")
def test_a_value_is_removed_and_the_others_stay(tmp_path: Path, text: str, left: str) -> None:
    found = server(tmp_path, {CONFIG: text})
    assert configuration.unreachable(found, "node-ip", "10.0.0.2", remove=True) == []
    changes = configuration.edits(found, "node-ip", "10.0.0.2", "")
    configuration.apply(changes, tmp_path)
    assert (tmp_path / CONFIG.lstrip("/")).read_text() == left
    # a second time it is there already
    assert configuration.apply(changes, tmp_path) == []


@given(
    st.lists(st.booleans(), min_size=1, max_size=5),
    st.sampled_from(["{}", "'{}'", "[{}]", "lines"]),
    st.booleans(),
)
def test_any_values_go_together_and_the_others_stay(stays: list[bool], style: str, exact: bool) -> None:
    values = [f"10.0.0.{number}" for number in range(len(stays))]
    gone = [value for value, kept in zip(values, stays, strict=True) if not kept]
    many = "".join(f"\n- {value}" for value in values) if style == "lines" else style.format(", ".join(values))
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(places, "HAS_YAML", exact)
        found = server(Path(folder), {CONFIG: f"node-ip: {many}\n"})
        changes = [edit for value in gone for edit in configuration.edits(found, "node-ip", value, "", gone=gone)]
        configuration.apply(changes, Path(folder))
        after = configuration.settings_with_places(Path(folder))
    assert after.values("node-ip") == [value for value in values if value not in gone]


def test_a_value_of_the_units_command_line_is_removed(tmp_path: Path) -> None:
    unit = "[Service]\nExecStart=/usr/local/bin/k3s server --node-ip 10.0.0.9,10.0.0.2 --node-ip=10.0.0.2 --debug\n"
    found = server(tmp_path, {UNIT: unit})
    correct(tmp_path, found, "node-ip", "10.0.0.2", "")
    text = (tmp_path / UNIT.lstrip("/")).read_text()
    assert text == "[Service]\nExecStart=/usr/local/bin/k3s server --node-ip 10.0.0.9  --debug\n"


def test_a_removal_in_a_file_that_has_changed_is_not_done(tmp_path: Path) -> None:
    found = server(tmp_path, {CONFIG: "node-ip: 10.0.0.2\n"})
    changes = configuration.edits(found, "node-ip", "10.0.0.2", "")
    (tmp_path / CONFIG.lstrip("/")).write_text("# by hand\nnode-ip: 10.0.0.2\n")
    with pytest.raises(configuration.ConfigurationError, match="has changed"):
        configuration.apply(changes, tmp_path)
