"""Images are resolved once, pulled by digest, and an error names the cure."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.integr8scode_docker import EngineUnavailableError
from ansible.modules import container_images
from docker.errors import APIError, ImageNotFound

DIGEST = f"sha256:{'a' * 64}"
BACKEND = "registry.example/integr8scode/backend:2026.2.20"
MONGO = "docker.io/library/mongo:8.0.20"


class Api:
    """The part of docker-py's low-level client that the module uses."""

    def __init__(self, local: set[str], error: str | None = None) -> None:
        self.local = local
        self.error = error
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.pulled: list[tuple[str, str]] = []

    def inspect_distribution(self, reference: str, auth_config: dict[str, str]) -> dict[str, Any]:
        self.asked.append((reference, auth_config))
        if self.error:
            raise APIError(self.error, explanation=self.error)
        return {"Descriptor": {"digest": DIGEST}}

    def inspect_image(self, name: str) -> None:
        if name not in self.local:
            raise ImageNotFound(name)

    def pull(self, repository: str, tag: str, **_: Any) -> list[dict[str, str]]:
        self.pulled.append((repository, tag))
        return [{"status": "done"}]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(**arguments: Any) -> Api:
        api = Api(arguments.pop("local", set()), **arguments)
        client = type("Client", (), {"api": api, "info": staticmethod(lambda: {"DockerRootDir": "/"})})
        monkeypatch.setattr(container_images, "connect", lambda timeout: client)
        return api

    return make


def test_resolves_and_pulls_by_digest_with_the_login(engine: Any, run_module: Any) -> None:
    api = engine()
    login = {"registry": "registry.example", "username": "ops", "password": "a-password-for-tests"}
    arguments = {"services": {"backend": BACKEND, "coordinator": BACKEND}, "credentials": [login]}
    answer = run_module("container_images", arguments)
    assert answer["changed"]
    assert answer["services"] == dict.fromkeys(("backend", "coordinator"), f"{BACKEND}@{DIGEST}")
    assert api.asked == [(BACKEND, {"username": "ops", "password": "a-password-for-tests"})]
    assert api.pulled == [("registry.example/integr8scode/backend", DIGEST)]
    assert "a-password-for-tests" not in str(answer)


def test_what_is_locked_and_local_asks_nobody(engine: Any, run_module: Any) -> None:
    api = engine(local={f"docker.io/library/mongo@{DIGEST}"})
    answer = run_module("container_images", {"services": {"mongo": MONGO}, "locked": {MONGO: DIGEST}})
    assert not answer["changed"]
    assert (api.asked, api.pulled) == ([], [])


def test_a_look_names_what_is_missing_and_asks_whether_it_can_be_had(engine: Any, run_module: Any) -> None:
    api = engine(local={f"registry.example/integr8scode/backend@{DIGEST}"})
    arguments = {"services": {"backend": BACKEND, "mongo": MONGO}, "locked": {MONGO: DIGEST}, "pull": False}
    answer = run_module("container_images", arguments)
    assert not answer["changed"]
    assert (answer["missing"], answer["pulled"], api.pulled) == ([MONGO], [], [])
    assert [asked for asked, _ in api.asked] == [BACKEND, f"docker.io/library/mongo@{DIGEST}"]


def test_an_image_of_a_release_that_is_gone_everywhere_is_named(engine: Any, run_module: Any) -> None:
    engine(error="manifest unknown")
    answer = run_module("container_images", {"services": {"mongo": MONGO}, "locked": {MONGO: DIGEST}, "pull": False})
    assert answer["msg"].startswith(f"Nothing was changed. {MONGO}@{DIGEST} does not exist")


def test_a_full_disk_is_told_before_it_is_full(engine: Any, run_module: Any) -> None:
    api = engine()
    answer = run_module("container_images", {"services": {"mongo": MONGO}, "min_free_mb": 2**40})
    assert answer["failed"]
    assert f"{MONGO} is not pulled: / has " in answer["msg"]
    assert f"and {2**40} are the least" in answer["msg"]
    assert api.pulled == []


def test_an_engine_that_goes_away_is_told(engine: Any, run_module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: Any) -> None:
        raise ConnectionError("reset by peer")

    engine()
    monkeypatch.setattr(Api, "inspect_image", gone)
    answer = run_module("container_images", {"services": {"backend": BACKEND}})
    assert answer["failed"]
    assert "does not say whether it is here (reset by peer). See `systemctl status docker`" in answer["msg"]


def test_an_empty_password_masks_nothing(engine: Any, run_module: Any) -> None:
    engine()
    login = {"registry": "registry.example", "username": "ops", "password": ""}
    answer = run_module("container_images", {"services": {"backend": BACKEND}, "credentials": [login]})
    assert answer["services"] == {"backend": f"{BACKEND}@{DIGEST}"}


def test_check_mode_pulls_nothing(engine: Any, run_module: Any) -> None:
    api = engine()
    answer = run_module("container_images", {"services": {"mongo": MONGO}}, check=True)
    assert answer["changed"]
    assert answer["pulled"] == [MONGO]
    assert api.pulled == []


def test_check_mode_on_a_server_without_docker(run_module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_engine(timeout: int) -> None:
        raise EngineUnavailableError("python3-docker is missing")

    monkeypatch.setattr(container_images, "connect", no_engine)
    assert run_module("container_images", {"services": {"mongo": MONGO}}, check=True)["digests"] == {MONGO: None}
    assert run_module("container_images", {"services": {"mongo": MONGO}})["failed"]


@pytest.mark.parametrize(
    ("error", "cure"),
    [
        (
            "unauthorized: authentication required",
            "integr8scode_registry_password, which is vault_registry_password in",
        ),
        ("denied: requested access to the resource is denied", "integr8scode_registry_username"),
        ("toomanyrequests: You have reached your unauthenticated pull rate limit.", "docker_registry_mirrors"),
        ("received unexpected HTTP status: 429 Too Many Requests", "docker_registry_mirrors"),
        ("manifest unknown: manifest unknown", "Check the tag"),
        ("tls: failed to verify certificate: x509: unknown authority", "docker_registry_ca_certificates"),
        ("dial tcp 192.0.2.1:443: connect: connection refused", "cannot be reached"),
        ("dial tcp: lookup registry.example: no such host", "cannot be reached"),
    ],
)
def test_an_error_names_the_cure(engine: Any, run_module: Any, error: str, cure: str) -> None:
    engine(error=error)
    answer = run_module("container_images", {"services": {"backend": BACKEND}})
    assert answer["failed"]
    assert cure in answer["msg"]
    assert BACKEND in answer["msg"]
    # which is refused unless somebody allows it
    assert "latest" not in answer["msg"].replace(BACKEND, "")
    assert "Nothing was changed" in answer["msg"]


@pytest.mark.parametrize(
    ("reference", "registry", "repository"),
    [
        ("mongo:8", "docker.io", "mongo"),
        ("library/mongo", "docker.io", "library/mongo"),
        ("localhost/x:1", "localhost", "localhost/x"),
        ("registry.example:5000/a/b", "registry.example:5000", "registry.example:5000/a/b"),
        (BACKEND, "registry.example", "registry.example/integr8scode/backend"),
    ],
)
def test_references_are_taken_apart(reference: str, registry: str, repository: str) -> None:
    assert container_images.registry_of(reference) == registry
    assert container_images.repository_of(reference) == repository
