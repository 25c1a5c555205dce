"""The registry and the file server refuse what the real ones refuse, and serve what servers come for."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest
import requests

from lab import images, k3s_files
from lab.registry import Registry
from lab.settings import REGISTRY_HOST, Settings

SETTINGS = Settings.from_environment()
REDIS = images.load()["redis"]
RELEASES = "hardmax71/integr8scode/backend"


@pytest.fixture(scope="module")
def registry() -> Registry:
    found = Registry.of(SETTINGS)
    if not found.ca.exists():
        pytest.fail(f"{found.ca} is missing: run `make lab-prepare`")
    return found


def with_login(registry: Registry, user: str, password: str) -> Registry:
    return Registry(registry.port, registry.ca, user, password)


@pytest.mark.parametrize("path", ["", "_catalog", f"{REDIS.repository}/manifests/{REDIS.builds[0].tags[0]}"])
def test_nothing_without_a_login(registry: Registry, path: str) -> None:
    answer = with_login(registry, "", "").get(path)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith(f'Basic realm="{REGISTRY_HOST}"')
    assert answer.json()["errors"][0]["code"] == "UNAUTHORIZED"


@pytest.mark.parametrize(
    ("user", "password"), [("integr8scode", "wrong"), ("nobody", "lab-registry-password-not-a-secret")]
)
def test_a_wrong_login_is_refused(registry: Registry, user: str, password: str) -> None:
    assert with_login(registry, user, password).get("").status_code == 401


def test_the_right_login_is_accepted(registry: Registry) -> None:
    assert registry.get("").status_code == 200


@pytest.mark.parametrize("path", [f"{RELEASES}/manifests/9999.1.1", "library/no-such-image/manifests/latest"])
def test_an_unknown_tag_is_not_found(registry: Registry, path: str) -> None:
    answer = registry.get(path)
    assert answer.status_code == 404
    assert answer.json()["errors"][0]["code"] == "MANIFEST_UNKNOWN"


def test_its_certificate_needs_the_labs_ca(registry: Registry) -> None:
    with requests.Session() as session:
        session.trust_env = False
        with pytest.raises(requests.exceptions.SSLError):
            session.get(f"https://{registry.address}/v2/", timeout=10)


def test_its_certificate_is_of_its_name(registry: Registry) -> None:
    """A server reaches it by that name; here its port is asked for it."""
    command = ["openssl", "s_client", "-connect", registry.address, "-servername", REGISTRY_HOST]
    command += ["-verify_return_error", "-verify_hostname", REGISTRY_HOST, "-CAfile", str(registry.ca)]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert "Verify return code: 0 (ok)" in done.stdout, done.stdout + done.stderr


def test_every_image_of_the_catalogue_is_there(registry: Registry) -> None:
    for image in images.load().values():
        for build in image.builds if image.repository else ():
            digests = {registry.digest(image.repository, tag) for tag in build.tags}
            assert len(digests) == 1, f"{image.repository}: {build.tags} are not one image"
            assert digests.pop().startswith("sha256:"), f"{image.repository}:{build.tags[0]} is missing"


def test_releases_are_different_images_and_latest_is_the_newest(registry: Registry) -> None:
    for repository in (RELEASES, "hardmax71/integr8scode/frontend"):
        digests = {tag: registry.digest(repository, tag) for tag in ("2026.2.19", "2026.2.20", "sha-95389b4", "latest")}
        assert digests["latest"] == digests["sha-95389b4"]
        assert len(set(digests.values())) == 3


def test_a_copy_in_another_repository_is_the_same_image_with_its_layers(registry: Registry) -> None:
    """As servers with another registry prefix pull it; the registry takes no manifest whose layers it lacks there."""
    tag, to = REDIS.builds[0].tags[0], "copies/of-a-test/redis"
    assert (
        registry.copy(REDIS.repository, tag, to) == registry.digest(REDIS.repository, tag) == registry.digest(to, tag)
    )
    assert registry.labels(to, tag)
    assert registry.labels(to, tag) == registry.labels(REDIS.repository, tag)
    layers = registry.get(f"{to}/manifests/{tag}").json()["layers"]
    assert all(registry.get(f"{to}/blobs/{one['digest']}", "HEAD", "*/*").ok for one in layers)


@pytest.fixture(scope="module")
def release() -> str:
    version, _ = k3s_files.pinned()
    return f"http://127.0.0.1:{SETTINGS.files_port}/k3s-io/k3s/releases/download/{version}"


def fetch(url: str, headers: dict[str, str] | None = None) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.get(url, headers=headers, timeout=60)


@pytest.mark.parametrize("plus", ["+", "%2B"])
def test_the_vendors_layout_with_its_plus_written_either_way(release: str, plus: str) -> None:
    answer = fetch(f"{release.replace('+', plus)}/sha256sum-amd64.txt")
    assert answer.status_code == 200
    assert answer.text.split()[1] == "k3s"


def test_the_checksum_list_is_of_the_file_that_is_served(release: str) -> None:
    wanted = fetch(f"{release}/sha256sum-amd64.txt").text.split()[0]
    digest, size = hashlib.sha256(), 0
    with requests.Session() as session:
        session.trust_env = False
        with session.get(f"{release}/k3s", stream=True, timeout=60) as answer:
            assert answer.status_code == 200
            assert answer.headers["Content-Type"] == "application/octet-stream"
            for chunk in answer.iter_content(1 << 20):
                digest.update(chunk)
                size += len(chunk)
    assert digest.hexdigest() == wanted
    assert size > 10_000_000


def test_a_download_can_be_resumed(release: str) -> None:
    answer = fetch(f"{release}/k3s", {"Range": "bytes=0-15"})
    assert answer.status_code == 206
    assert len(answer.content) == 16


@pytest.mark.parametrize("path", ["k3s-none", "", "../v0.0.0+k3s1/k3s"])
def test_what_is_not_there_is_not_found_and_nothing_is_listed(release: str, path: str) -> None:
    assert fetch(f"{release}/{path}").status_code in (403, 404)


def test_the_cache_belongs_to_who_runs_the_lab(registry: Registry) -> None:
    owner = Path(SETTINGS.cache).stat().st_uid
    assert (SETTINGS.cache / "registry" / "docker").stat().st_uid == owner
