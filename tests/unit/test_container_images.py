"""Images are resolved once, pulled by digest, and an error names the cure."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils import container_images as library
from ansible.module_utils.integr8scode_docker import EngineUnavailableError
from ansible.module_utils.server_state import images as look
from ansible.modules import container_images
from docker.errors import APIError, ImageNotFound

DIGEST = f"sha256:{'a' * 64}"
BACKEND = "registry.example/integr8scode/backend:2026.2.20"
MONGO = "docker.io/library/mongo:8.0.20"


class Api:
    """The part of docker-py's low-level client that the module uses."""

    timeout = 15

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
        for module in (container_images, look):
            monkeypatch.setattr(module, "connect", lambda timeout: client)
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
    assert library.registry_of(reference) == registry
    assert library.repository_of(reference) == repository


LOGIN = {"registry": "registry.example", "username": "ops", "password": "a-password-for-tests"}
ASKED = {"services": {"backend": BACKEND, "mongo": MONGO}, "renewed": "registry.example/integr8scode"}


def test_the_look_at_a_server_asks_for_the_applications_images_alone(engine: Any) -> None:
    other = f"sha256:{'b' * 64}"
    api = engine(local={f"docker.io/library/mongo@{other}"})
    # both run; the tag of the first may have moved
    found = look.described(ASKED, [LOGIN], {BACKEND: other, MONGO: other})["images"]
    assert [asked for asked, _ in api.asked] == [BACKEND]
    assert found["digests"] == {BACKEND: DIGEST, MONGO: other}
    assert found["services"]["backend"] == f"{BACKEND}@{DIGEST}"
    assert (found["missing"], api.pulled) == ([BACKEND], [])
    assert api.timeout == 60


def test_another_registry_whose_name_begins_alike_is_not_the_applications(engine: Any) -> None:
    api = engine(local={f"registry.example/integr8scode-tools/x@{DIGEST}"})
    alike = "registry.example/integr8scode-tools/x:1"
    look.described({**ASKED, "services": {"x": alike}}, [], {alike: DIGEST})
    assert api.asked == []


def test_the_look_tells_why_an_image_cannot_be_had_and_no_password(engine: Any) -> None:
    engine(error="unauthorized: a-password-for-tests")
    asked = {**ASKED, "services": {"backend": BACKEND}}
    (problem,) = look.described(asked, [LOGIN], {})["images"].values()
    assert "registry.example refuses the login of 'ops'" in problem
    assert "a-password-for-tests" not in problem


def test_a_look_without_an_engine_or_a_tag_says_nothing_of_images(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_engine(timeout: int) -> Any:
        raise EngineUnavailableError("no engine")

    monkeypatch.setattr(look, "connect", no_engine)
    assert look.described(ASKED, [LOGIN], {}) == {}
    assert look.described(None, [LOGIN], {}) == {}
