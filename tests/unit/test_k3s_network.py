"""Where the role k3s gets images from, and through which proxy: registries.yaml, archives, the controller's files."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible.plugins.action import ActionBase
from ansible.plugins.filter import k3s_network as network

from tests.unit.support.templating import evaluate, role_variables

files_module = importlib.import_module("ansible.modules.k3s_files")
images_module = importlib.import_module("ansible.modules.k3s_images")

PASSWORD = "not-a-password-of-anybody"
TOKEN = "0123456789abcdef0123"
PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
REGISTRIES = {
    "mirrors": {"docker.io": {"endpoint": ["https://registry.example.org"], "rewrite": {"^(.*)$": "hub/$1"}}},
    "configs": {"registry.example.org": {"auth": {"username": "puller", "password": PASSWORD}}},
}
NOTHING: dict[str, Any] = {
    "registries": {},
    "authorities": {},
    "images": [],
    "checksums": {},
    "http_proxy": "",
    "https_proxy": "",
    "no_proxy": [],
}


def problems(**wanted: Any) -> list[str]:
    found = network.k3s_network_problems({**NOTHING, **wanted})
    assert PASSWORD not in str(found)
    return found


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# -- registries.yaml


def test_registries_are_as_k3s_reads_them() -> None:
    text = network.k3s_registries_yaml(REGISTRIES, {"registry.example.org": PEM, "other.example.org:5000": PEM})
    assert text.startswith(network.MARK)
    found = yaml.safe_load(text)
    assert found["mirrors"] == REGISTRIES["mirrors"]
    assert found["configs"]["registry.example.org"] == {
        "auth": {"username": "puller", "password": PASSWORD},
        "tls": {"ca_file": "/etc/rancher/k3s/registry-ca/registry.example.org.crt"},
    }
    assert found["configs"]["other.example.org:5000"]["tls"] == {
        "ca_file": "/etc/rancher/k3s/registry-ca/other.example.org:5000.crt"
    }
    # what was given is not changed by that
    assert "tls" not in REGISTRIES["configs"]["registry.example.org"]


def test_without_registries_there_is_no_file() -> None:
    assert network.k3s_registries_yaml({}, {}) == ""


def test_authorities_become_files() -> None:
    (found,) = network.k3s_authority_files({"registry.example.org": PEM.strip()})
    assert found == {"path": "/etc/rancher/k3s/registry-ca/registry.example.org.crt", "content": PEM, "mode": "0644"}


def test_what_is_right_is_not_refused(tmp_path: Path) -> None:
    archive = tmp_path / "own.tar"
    archive.touch()
    assert problems() == []
    assert (
        problems(
            registries={
                **REGISTRIES,
                "mirrors": {**REGISTRIES["mirrors"], "*": {"endpoint": ["http://10.0.0.9:5000/v2"]}},
            },
            authorities={"registry.example.org": PEM},
            images=[
                str(archive),
                "https://mirror.example.org/k3s/v1/k3s-airgap-images-amd64.tar.zst",
                "http://m/a.tgz",
            ],
            checksums={"a.tgz": "A" * 64},
            http_proxy=f"http://me:{PASSWORD}@proxy.example.org:3128",
            https_proxy="socks5://10.0.0.1:1080",
            no_proxy=[".example.org", "10.0.0.0/8", "fd00::/8"],
        )
        == []
    )


@pytest.mark.parametrize(
    ("registries", "message"),
    [
        ({"mirror": {}}, "has mirror, which k3s would skip in silence; it knows configs, mirrors"),
        ({"mirrors": ["docker.io"]}, "mirrors must be a dict"),
        ({"mirrors": {"docker.io": {"endpoints": ["https://a"]}}}, "has endpoints, which k3s would skip"),
        ({"mirrors": {"docker.io": {}}}, "has no endpoint"),
        ({"mirrors": {"docker.io": {"endpoint": "https://a"}}}, "has no endpoint. Write a list"),
        ({"mirrors": {"docker.io": {"endpoint": ["registry.example.org"]}}}, "'registry.example.org' is no URL"),
        ({"mirrors": {"docker.io": {"endpoint": [f"https://me:{PASSWORD}@a"]}}}, "has a login in an endpoint's URL"),
        ({"mirrors": {"https://docker.io": {"endpoint": ["https://a"]}}}, "is no registry. Write the host"),
        ({"configs": {"https://a": {}}}, "without https://"),
        ({"configs": {"a": {"auth": {"user": "x", "password": PASSWORD}}}}, "auth has user, which k3s would skip"),
        ({"configs": {"a": {"auth": {"password": PASSWORD}}}}, "has one of username and password"),
        ({"configs": {"a": {"auth": {"username": "x", "password": 123}}}}, "password must be text. Write it in quotes"),
        ({"configs": {"a": {"tls": {"ca": "x"}}}}, "tls has ca, which k3s would skip"),
        ({"configs": {"b": {"tls": {"ca_file": "/ca"}}}}, "has that registry, too. Remove one"),
    ],
)
def test_registries_that_k3s_could_not_use(registries: dict[str, Any], message: str) -> None:
    (found,) = problems(registries=registries, authorities={"b": PEM})
    assert message in found


@pytest.mark.parametrize("pem", ["", "/etc/ssl/ca.crt", f"{PEM}-----BEGIN PRIVATE KEY-----\n{PASSWORD}"])
def test_what_is_no_certificate(pem: str) -> None:
    (found,) = problems(authorities={"a": pem})
    assert "is no certificate in PEM form" in found


# -- the proxy


def lines(text: str) -> dict[str, str]:
    """Variables of an EnvironmentFile."""
    return {name: value.strip('"') for name, _, value in (one.partition("=") for one in text.splitlines()[1:])}


def test_the_clusters_own_traffic_does_not_go_to_the_proxy() -> None:
    found = lines(network.k3s_environment("http://p:3128", "", ["a.example.org", "10.42.0.0/16"], ["10.0.0.5", ""], {}))
    assert found == {
        "HTTP_PROXY": "http://p:3128",
        "NO_PROXY": "localhost,127.0.0.1,127.0.0.0/8,::1,10.0.0.5,10.42.0.0/16,10.43.0.0/16,.svc,.cluster.local,"
        "a.example.org",
    }
    config = {"cluster-cidr": "10.9.0.0/16,fd00::/56", "service-cidr": "10.8.0.0/16", "cluster-domain": "x.test"}
    other = lines(network.k3s_environment("", "http://p:3128", "a, b", [], config))
    assert other["NO_PROXY"] == "localhost,127.0.0.1,127.0.0.0/8,::1,10.9.0.0/16,fd00::/56,10.8.0.0/16,.svc,.x.test,a,b"


def test_without_a_proxy_there_is_no_environment() -> None:
    assert network.k3s_environment("", "", ["a"], ["10.0.0.5"], {}) == ""


@pytest.mark.parametrize(
    "url",
    [
        "proxy.example.org:3128",
        f"http://me:{PASSWORD}@with@proxy:3128",
        f'http://me:{PASSWORD}"@proxy:3128',
        f"http://me:{PASSWORD}%@proxy:3128",
        f"http://me:{PASSWORD} x@proxy:3128",
        f"http://me:{PASSWORD}@proxy:port",
        "http://proxy:3128/path",
        "ftp://proxy:3128",
    ],
)
def test_what_is_no_proxy(url: str) -> None:
    (found,) = problems(https_proxy=url)
    assert found.startswith("k3s_https_proxy is no proxy's address")


def test_hosts_that_are_none() -> None:
    (found,) = problems(no_proxy=["a b", 'c"'])
    assert "cannot be hosts" in found


# -- archives: what is named


def test_archives_by_name_and_place() -> None:
    found = network.k3s_images(["/srv/own.tar", "https://m/v1.34.4%2Bk3s1/a%2Bb.tar.zst?x=1"], {"own.tar": "a" * 64})
    assert found == [
        {"name": "own.tar", "file": "/srv/own.tar", "sha256": "a" * 64},
        {"name": "a+b.tar.zst", "url": "https://m/v1.34.4%2Bk3s1/a%2Bb.tar.zst?x=1", "sha256": ""},
    ]
    assert network.k3s_image_file("own.tar", "/images") == {"path": "/images/own.tar", "mode": "0644"}


@pytest.mark.parametrize(
    ("images", "checksums", "message"),
    [
        (["images.zip"], {}, "would be skipped by k3s in silence"),
        (["own.tar"], {}, "neither a URL nor a path from the root"),
        (["/nowhere/own.tar"], {}, "is no file on the machine that runs Ansible"),
        (["ftp://m/own.tar"], {}, "neither http, https nor file"),
        (["http://m/own.tar"], {}, "over plain http, where a list of checksums proves nothing"),
        ([f"https://me:{PASSWORD}@m/own.tar"], {}, "has a URL with a login"),
        (["https://m/own.tar", "https://n/own.tar"], {}, "names own.tar twice"),
        (["https://m/own.tar"], {"own.tar": "abc"}, "is no sha256"),
        (["https://m/own.tar"], {"other.tar": "a" * 64}, "has other.tar, which k3s_airgap_images does not"),
    ],
)
def test_archives_that_could_not_be_used(images: list[str], checksums: dict[str, str], message: str) -> None:
    assert any(message in one for one in problems(images=images, checksums=checksums))


# -- files on the server


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the server; the tests need not run as root."""
    for module in (files_module, images_module):
        monkeypatch.setattr(module, "PENDING", str(tmp_path / "pending"))
    monkeypatch.setattr(files_module.os, "fchown", lambda *_arguments: None)
    original = files_module.state
    monkeypatch.setattr(files_module, "state", lambda path: (*original(path)[:2], (0, 0)))
    return tmp_path


def file_arguments(server: Path, **more: Any) -> dict[str, Any]:
    places = {"token": "token", "registries": "registries.yaml", "environment": "k3s.service.env"}
    paths = {f"{name}_path": str(server / "etc" / place) for name, place in places.items()}
    return {"apply_kernel": False, "files": [], "token": TOKEN, **paths, **more}


def test_logins_are_for_root_alone_and_in_no_output(server: Path, run_module: Any) -> None:
    text = network.k3s_registries_yaml(REGISTRIES, {})
    proxy = network.k3s_environment(f"http://me:{PASSWORD}@p:3128", "", [], [], {})
    args = file_arguments(server, registries=text, environment=proxy)
    results = [run_module("k3s_files", args, diff=True, check=True), run_module("k3s_files", args, diff=True)]
    for name, content in (("registries.yaml", text), ("k3s.service.env", proxy)):
        path = server / "etc" / name
        assert path.read_text() == content
        assert path.stat().st_mode & 0o777 == 0o600
    assert (server / "pending").exists()
    (server / "pending").unlink()
    assert run_module("k3s_files", args)["changed"] is False
    other = {**args, "registries": text.replace(PASSWORD, "another-fake")}
    results.append(run_module("k3s_files", other, diff=True))
    assert results[-1]["written"] == [str(server / "etc/registries.yaml")]
    assert (server / "pending").exists()
    assert PASSWORD not in str(results)
    assert "another-fake" not in str(results)


def test_what_is_not_wanted_any_more_goes_and_k3s_restarts(server: Path, run_module: Any) -> None:
    folder = str(server / "etc/registry-ca")
    authority = {"path": f"{folder}/a.crt", "content": PEM, "mode": "0644"}
    text = network.k3s_registries_yaml(REGISTRIES, {})
    run_module("k3s_files", file_arguments(server, registries=text, files=[authority], folders=[folder]))
    (server / "pending").unlink()
    gone = file_arguments(server, folders=[folder])
    would = run_module("k3s_files", gone, check=True, diff=True)
    assert would["removed"] == [str(server / "etc/registries.yaml"), authority["path"]]
    assert (server / "etc/registries.yaml").exists()
    assert PASSWORD not in str(would)
    assert run_module("k3s_files", gone)["changed"]
    assert sorted(os.listdir(server / "etc")) == ["token"]
    assert (server / "pending").exists()
    assert run_module("k3s_files", gone)["changed"] is False


def test_files_made_by_hand_stay(server: Path, run_module: Any) -> None:
    (server / "etc").mkdir()
    for name in ("registries.yaml", "k3s.service.env"):
        (server / "etc" / name).write_text("# mine\n")
    assert run_module("k3s_files", file_arguments(server))["removed"] == []
    assert (server / "etc/registries.yaml").read_text() == "# mine\n"


# -- archives on the server


ARCHIVE = b"layers of images"


def image_arguments(server: Path, *images: dict[str, str], **more: Any) -> dict[str, Any]:
    return {
        "images": list(images),
        "architecture": "amd64",
        "folder": str(server / "images"),
        "record": str(server / "etc/airgap-images.json"),
        **more,
    }


@pytest.fixture
def mirror(server: Path) -> Path:
    """A folder of a release, as on a mirror."""
    folder = server / "mirror"
    folder.mkdir()
    (folder / "k3s-images.tar.zst").write_bytes(ARCHIVE)
    (folder / "sha256sum-amd64.txt").write_text(f"{sha256(ARCHIVE)}  k3s-images.tar.zst\n")
    return folder


def test_an_archive_is_laid_down_once_and_removed_with_its_name(server: Path, mirror: Path, run_module: Any) -> None:
    image = {"name": "k3s-images.tar.zst", "url": f"file://{mirror}/k3s-images.tar.zst"}
    args = image_arguments(server, image)
    predicted = run_module("k3s_images", args, check=True)
    assert (predicted["installed"], predicted["restart"]) == ([image["name"]], True)
    assert not (server / "images").exists()
    assert run_module("k3s_images", args)["changed"]
    assert (server / "images/k3s-images.tar.zst").read_bytes() == ARCHIVE
    assert json.loads((server / "etc/airgap-images.json").read_text()) == {image["name"]: sha256(ARCHIVE)}
    assert (server / "pending").exists()
    (server / "pending").unlink()
    assert run_module("k3s_images", args)["changed"] is False
    # somebody else's stays
    (server / "images/mine.tar").write_bytes(b"mine")
    none = image_arguments(server)
    predicted = run_module("k3s_images", none, check=True)
    assert (predicted["removed"], predicted["restart"]) == ([image["name"]], False)
    assert run_module("k3s_images", none)["removed"] == [image["name"]]
    assert os.listdir(server / "images") == ["mine.tar"]
    assert not (server / "etc/airgap-images.json").exists()
    # what was imported stays imported: no restart for a removal
    assert not (server / "pending").exists()
    assert run_module("k3s_images", none)["changed"] is False


def test_a_damaged_archive_is_laid_down_again(server: Path, mirror: Path, run_module: Any) -> None:
    args = image_arguments(server, {"name": "k3s-images.tar.zst", "url": f"file://{mirror}/k3s-images.tar.zst"})
    run_module("k3s_images", args)
    (server / "images/k3s-images.tar.zst").write_bytes(b"half")
    assert run_module("k3s_images", args)["changed"]
    assert (server / "images/k3s-images.tar.zst").read_bytes() == ARCHIVE


def test_an_archive_with_another_checksum_is_refused(server: Path, mirror: Path, run_module: Any) -> None:
    image = {"name": "k3s-images.tar.zst", "url": f"file://{mirror}/k3s-images.tar.zst", "sha256": "0" * 64}
    result = run_module("k3s_images", image_arguments(server, image))
    assert result["failed"]
    assert f"has the sha256 {sha256(ARCHIVE)}, expected was {'0' * 64}" in result["msg"]
    assert os.listdir(server / "images") == []
    assert not (server / "etc/airgap-images.json").exists()


def test_an_interrupted_run_is_made_up_for(server: Path, mirror: Path, run_module: Any) -> None:
    args = image_arguments(server, {"name": "k3s-images.tar.zst", "url": f"file://{mirror}/k3s-images.tar.zst"})
    run_module("k3s_images", args)
    (server / "pending").unlink()
    # as if it had ended between the archive and its record
    (server / "etc/airgap-images.json").unlink()
    assert run_module("k3s_images", args)["changed"]
    assert (server / "pending").exists()


def test_a_list_over_plain_http_proves_nothing(server: Path, run_module: Any) -> None:
    image = {"name": "a.tar", "url": "http://127.0.0.1:9/a.tar"}
    result = run_module("k3s_images", image_arguments(server, image))
    assert "k3s_airgap_checksums has no entry for a.tar" in result["msg"]


def test_a_proxy_of_the_environment_is_used(
    server: Path, mirror: Path, run_module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.setenv(name, "")
    text = network.k3s_environment("", f"http://me:{PASSWORD}@127.0.0.1:9", [], [], {})
    image = {"name": "a.tar", "url": "https://mirror.example.org/a.tar", "sha256": "0" * 64}
    result = run_module("k3s_images", image_arguments(server, image, environment=text))
    assert result["failed"]
    assert "cannot be downloaded" in result["msg"]
    assert os.environ["HTTPS_PROXY"].endswith("@127.0.0.1:9")
    assert PASSWORD not in str(result)


# -- what the controller brings


class Carried:
    """An action whose server is a folder of this machine."""

    def __init__(self, name: str, run_module: Any, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.calls: list[dict[str, Any]] = []
        self.sent: list[str] = []
        self.present = ""
        self._run, self._folder = run_module, folder
        plugin = importlib.import_module(f"ansible.plugins.action.{name}").ActionModule
        self.plugin = plugin.__new__(plugin)
        monkeypatch.setattr(ActionBase, "run", lambda *_arguments: {})
        self.plugin._connection = SimpleNamespace(_shell=SimpleNamespace(join_path=os.path.join))
        self.plugin._execute_module = self._module
        self.plugin._execute_remote_stat = lambda *_, **__: {"checksum": self.present}
        self.plugin._make_tmp_path = self._temporary
        self.plugin._remove_tmp_path = shutil.rmtree
        self.plugin._transfer_file = self._transfer

    def _temporary(self) -> str:
        self._folder.mkdir()
        return f"{self._folder}/"

    def _transfer(self, source: str, target: str) -> str:
        self.sent.append(source)
        return str(shutil.copy(source, target))

    def _module(self, name: str, module_args: dict[str, Any], **_more: Any) -> dict[str, Any]:
        self.calls.append(module_args)
        found: dict[str, Any] = self._run(name, module_args, check=self.plugin._task.check_mode)
        return found

    def __call__(self, arguments: dict[str, Any], *, check: bool = False) -> dict[str, Any]:
        self.plugin._task = SimpleNamespace(args=arguments, check_mode=check)
        self.calls, self.sent = [], []
        answer: dict[str, Any] = self.plugin.run()
        assert not self._folder.exists(), "a temporary folder was left"
        return answer


def test_an_archive_of_the_controller_is_brought_once(
    server: Path, mirror: Path, run_module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    act = Carried("k3s_images", run_module, monkeypatch, server / "tmp")
    own = mirror / "own.tar"
    own.write_bytes(b"executors")
    names = ["own.tar", "k3s-images.tar.zst"]
    args = image_arguments(server, *network.k3s_images([str(mirror / name) for name in names], {}))
    assert act(args, check=True)["missing"] == names
    assert act.sent == []
    assert act(args)["changed"]
    assert act.sent == [str(mirror / name) for name in names]
    assert sorted(os.listdir(server / "images")) == sorted(names)
    assert act(args)["changed"] is False
    assert (len(act.calls), act.sent) == (1, [])
    own.write_bytes(b"newer executors")
    assert act(args)["installed"] == ["own.tar"]
    assert act.sent == [str(own)]
    assert (server / "images/own.tar").read_bytes() == b"newer executors"


def test_a_damaged_archive_does_not_leave_the_controller(
    server: Path, mirror: Path, run_module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    act = Carried("k3s_images", run_module, monkeypatch, server / "tmp")
    (mirror / "k3s-images.tar.zst").write_bytes(b"half of it")
    result = act(image_arguments(server, *network.k3s_images([str(mirror / "k3s-images.tar.zst")], {})))
    assert result["failed"]
    assert f"expected by {mirror}/sha256sum-amd64.txt was {sha256(ARCHIVE)}" in result["msg"]
    assert act.calls == []
    pinned = {"k3s-images.tar.zst": "0" * 64}
    result = act(image_arguments(server, *network.k3s_images([str(mirror / "k3s-images.tar.zst")], pinned)))
    assert "expected by its pinned checksum" in result["msg"]


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A folder of releases on the controller, and a server that has no k3s."""
    module = importlib.import_module("ansible.modules.k3s_binary")
    (tmp_path / "bin").mkdir()
    for name, value in {"BINARY": "bin/k3s", "KUBECTL": "bin/kubectl", "PENDING": "pending"}.items():
        monkeypatch.setattr(module, name, str(tmp_path / value))
    folder = tmp_path / "releases/v1.34.4+k3s1"
    folder.mkdir(parents=True)
    (folder / "k3s").write_bytes(b"a k3s binary")
    (folder / "sha256sum-amd64.txt").write_text(f"{sha256(b'a k3s binary')}  k3s\n")
    return {
        "version": "v1.34.4+k3s1",
        "architecture": "amd64",
        "release_url": str(tmp_path / "releases"),
        "checksum": "",
    }


def test_the_binary_is_brought_from_a_folder_of_the_controller(
    release: dict[str, Any], tmp_path: Path, run_module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    act = Carried("k3s_binary", run_module, monkeypatch, tmp_path / "tmp")
    assert act(release, check=True)["changed"]
    assert (act.sent, os.listdir(tmp_path / "bin")) == ([], [])
    assert act(release)["changed"]
    assert (tmp_path / "bin/k3s").read_bytes() == b"a k3s binary"
    act.present = hashlib.sha1(b"a k3s binary").hexdigest()  # noqa: S324  (what Ansible compares by)
    assert act(release)["changed"] is False
    assert act.sent == []


def test_a_binary_that_nobody_stands_for_stays_on_the_controller(
    release: dict[str, Any], tmp_path: Path, run_module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    act = Carried("k3s_binary", run_module, monkeypatch, tmp_path / "tmp")
    (Path(release["release_url"]) / "v1.34.4+k3s1/sha256sum-amd64.txt").unlink()
    result = act(release)
    assert "Carry that list, too" in result["msg"]
    assert not act({**release, "checksum": sha256(b"a k3s binary")}).get("failed")
    result = act({**release, "checksum": "0" * 64})
    assert "expected by its pinned checksum" in result["msg"]
    result = act({**release, "version": "v1.34.5+k3s1"})
    assert "There is no file" in result["msg"]


def test_a_url_is_left_to_the_module(
    release: dict[str, Any], tmp_path: Path, run_module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    act = Carried("k3s_binary", run_module, monkeypatch, tmp_path / "tmp")
    assert act({**release, "release_url": f"file://{release['release_url']}"})["changed"]
    assert act.sent == []


# -- the role


def owned(**variables: Any) -> dict[str, dict[str, Any]]:
    """The files that the role says it owns, by path."""
    known = role_variables("k3s") | variables
    return {one["path"]: one for one in evaluate(known["__k3s_owned"], known)["files"]}


def test_the_role_owns_what_it_writes_and_nothing_else() -> None:
    paths = {
        "/etc/rancher/k3s/registries.yaml",
        "/etc/systemd/system/k3s.service.env",
        "/etc/rancher/k3s/registry-ca/registry.example.org.crt",
        "/etc/rancher/k3s/airgap-images.json",
        "/data/agent/images/a.tar",
    }
    assert paths & set(owned()) == set()
    found = owned(
        k3s_registries=REGISTRIES,
        k3s_registry_ca_certificates={"registry.example.org": PEM},
        k3s_airgap_images=["https://m/a.tar"],
        k3s_http_proxy=f"http://me:{PASSWORD}@p:3128",
        k3s_node_ip="10.0.0.5",
        k3s_config={"data-dir": "/data"},
    )
    assert paths <= set(found)
    for path in ("/etc/rancher/k3s/registries.yaml", "/etc/systemd/system/k3s.service.env"):
        # `secret` leaves the controller as a keyed hash only
        assert (set(found[path]), found[path]["mode"]) == ({"path", "secret", "mode"}, "0600")
        assert PASSWORD in found[path]["secret"]
    assert "10.0.0.5,10.42.0.0/16" in found["/etc/systemd/system/k3s.service.env"]["secret"]


def test_the_role_tells_every_problem_at_once() -> None:
    known = role_variables("k3s") | {
        "k3s_registries": {"mirror": {}},
        "k3s_http_proxy": "proxy",
        "k3s_airgap_images": ["a"],
    }
    assert len(evaluate(known["__k3s_network_problems"], known)) == 4


def test_the_preflight_of_the_whole_run_tells_them_too() -> None:
    known = role_variables("k3s") | role_variables("integr8scode")
    known |= {"__integr8scode_whole": True, "k3s_registries": {"mirror": {}}, "k3s_release_url": "/srv/carry"}
    (problem,) = evaluate("{{ __integr8scode_k3s_problems }}", known)
    assert "has mirror, which k3s would skip in silence" in problem
    assert evaluate("{{ __integr8scode_k3s_problems }}", known | {"k3s_registries": {}}) == []
    # a folder of the controller is no name that the server has to find
    assert evaluate("{{ __integr8scode_k3s_host }}", known) == ""
