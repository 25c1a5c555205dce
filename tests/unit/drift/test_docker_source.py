"""A server with Docker from its makers' repository and proxies: what is expected of it, and what is found changed."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from ansible.module_utils.drift import docker_settings
from ansible.module_utils.drift.collect import complete
from ansible.module_utils.drift.reading import keyed
from ansible.plugins.filter.drift_expected import drift_docker

from tests.unit.drift.clean_server import KEY, answers, compare, expected
from tests.unit.test_docker_daemon_packages import PINNED, WRITTEN

vendor = importlib.import_module("ansible.module_utils.docker_daemon_vendor")
BOOKWORM = 'ID=debian\nVERSION_ID="12"\n'
PROXY = "http://me:fake-password@proxy.test:3128"
PINS = {"docker-ce": "28.5.2", "docker-ce-cli": "28.5.2", "docker-compose-plugin": "2.40.3", "docker-buildx-plugin": ""}
SOURCE = {"url": "https://mirror.test/docker/", "key_fingerprint": PINNED, "versions": PINS}


def wanted(**changes: Any) -> dict[str, Any]:
    """What is expected, before the server adds what it alone knows."""
    result = expected()
    result["owned"] = {"files": [], "folders": [], "units": [], "packages": []}
    result["docker"] |= {"source": "vendor", "vendor": SOURCE, **changes}
    return result


def test_names_pins_and_files_of_the_vendor() -> None:
    found = complete(wanted(), BOOKWORM)
    pins = {one["name"]: one["pin"] for one in found["packages"]["packages"]}
    assert pins["docker-ce"] == "28.5.2"
    assert "docker-buildx-plugin" not in pins
    assert pins["python3-docker"] == ""
    assert "docker.io" in found["packages"]["foreign_packages"]
    files = {one["path"]: one for one in found["files"]["files"]}
    assert "URIs: https://mirror.test/docker/debian\nSuites: bookworm\n" in files[vendor.SOURCE_FILE]["content"]
    assert files[vendor.KEY_FILE]["mode"] == "0644"
    assert "content" not in files[vendor.KEY_FILE]


def test_a_system_without_a_repository_has_nothing_of_it() -> None:
    found = complete(wanted(), "ID=fedora\nVERSION_ID=42\n")
    assert found["packages"]["packages"] == []
    assert vendor.SOURCE_FILE not in {one["path"] for one in found["files"]["files"]}


def test_the_distribution_has_no_repository() -> None:
    found = complete(wanted(source="distribution"), 'ID=debian\nVERSION_ID="13"\n')
    assert "docker-ce" in found["packages"]["foreign_packages"]
    assert vendor.SOURCE_FILE not in {one["path"] for one in found["files"]["files"]}


def clean() -> tuple[dict[str, Any], dict[str, Any]]:
    """Answers and expectation of a server with Docker from its makers, behind a proxy, where all is well."""
    found, asked = answers(), expected()
    asked["docker"] |= {
        "source": "vendor",
        "vendor": SOURCE,
        "proxies": {"http-proxy": "", "https-proxy": keyed(PROXY.encode(), KEY), "no-proxy": ""},
    }
    for one in asked["packages"]["packages"]:
        one["name"] = {"docker.io": "docker-ce", "docker-cli": "docker-ce-cli"}.get(one["name"], one["name"])
        if one["name"].startswith("docker-ce"):
            one["pin"] = "26.1.5"
    asked["packages"]["foreign_packages"] = ["docker.io"]
    packages = found["packages"]["value"]
    for old, new in (("docker.io", "docker-ce"), ("docker-cli", "docker-ce-cli")):
        del packages[old]
        packages[new] = {"version": "5:26.1.5-1~debian.13~trixie", "want": "hold"}
    found["settings"]["value"]["repository_key"] = WRITTEN
    found["settings"]["value"]["config"]["proxies"] = {"https-proxy": PROXY}
    return found, asked


def test_all_is_well() -> None:
    found, asked = clean()
    assert compare(found, asked)["findings"] == []


@pytest.mark.parametrize(
    ("place", "value", "finding"),
    [
        ("packages|docker-ce|version", "5:26.1.6-1~debian.13~trixie", "packages:docker-ce#version"),
        ("packages|docker-ce-cli|want", "install", "packages:docker-ce-cli#hold"),
        ("packages|docker.io", {"version": "26.1.5", "want": "install"}, "packages:docker.io#unknown"),
        ("settings|repository_key", f"{WRITTEN}more", f"docker:{vendor.KEY_FILE}#key"),
        (
            "settings|config|proxies",
            {"https-proxy": PROXY.replace("fake", "other")},
            f"docker:{docker_settings.CONFIG}#proxies.https-proxy",
        ),
        ("settings|config|proxies", {}, f"docker:{docker_settings.CONFIG}#proxies.https-proxy"),
        (
            "settings|config|proxies",
            {"https-proxy": PROXY, "no-proxy": "a.test"},
            f"docker:{docker_settings.CONFIG}#proxies.no-proxy",
        ),
    ],
)
def test_a_change_is_found_with_its_cure(place: str, value: Any, finding: str) -> None:
    found, asked = clean()
    first, *path, last = place.split("|")
    at = found[first]["value"]
    for name in path:
        at = at[name]
    at[last] = value
    # an engine that is not the installed one is told as well
    findings = [one for one in compare(found, asked)["findings"] if one["id"] != "docker:engine#restart"]
    assert [one["id"] for one in findings] == [finding]
    assert findings[0]["cure"]
    assert "password" not in str(findings)


def test_an_engine_that_was_not_restarted() -> None:
    found, asked = clean()
    found["engine"]["value"]["version"] = "26.1.4"
    assert [one["id"] for one in compare(found, asked)["findings"]] == ["docker:engine#restart"]


def test_a_proxys_password_leaves_the_controller_as_a_hash() -> None:
    owned = {"proxies": {"http-proxy": "", "https-proxy": PROXY, "no-proxy": "a.test"}, "source": "distribution"}
    handed = drift_docker(owned, KEY.hex())
    assert "fake-password" not in str(handed)
    assert handed["proxies"]["https-proxy"] == keyed(PROXY.encode(), KEY)
    assert handed["proxies"]["http-proxy"] == ""
    assert handed["source"] == "distribution"
