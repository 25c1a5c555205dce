"""The module kubeconfig_renew against a Kubernetes API in this process: what is renewed, why, and what never shows."""

from __future__ import annotations

import base64
import functools
import json
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ansible.module_utils import kubeconfig_file as files
from ansible.module_utils.atomic_files import Access
from ansible.modules import kubeconfig_renew
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.support.fake_kubernetes import Authority, FakeKubernetes

if TYPE_CHECKING:
    from tests.unit.conftest import RunModule

DAY = 86400
SERVER = "https://host.docker.internal:6443"
WORKERS = ["k8s-worker", "pod-monitor"]


@pytest.fixture(autouse=True)
def owner(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of whoever runs the tests, instead of root's."""
    access = Access(os.geteuid(), os.getegid(), 0o400)
    monkeypatch.setattr(kubeconfig_renew, "Settings", functools.partial(kubeconfig_renew.Settings, access=access))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[FakeKubernetes]:
    with FakeKubernetes(tmp_path) as fake:
        for worker in WORKERS:
            add_account(fake, worker)
        yield fake


def add_account(cluster: FakeKubernetes, worker: str) -> None:
    body = {"kind": "ServiceAccount", "metadata": {"name": worker}}
    cluster.put_object(f"/api/v1/namespaces/integr8scode/serviceaccounts/{worker}", body)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "made" / "kubeconfig"


def arguments(cluster: FakeKubernetes, folder: Path, **changes: Any) -> dict[str, Any]:
    return {
        "workers": WORKERS,
        "namespace": "integr8scode",
        "server": SERVER,
        "directory": str(folder),
        "admin_kubeconfig": str(cluster.admin_path),
        "timeout": 1,
        **changes,
    }


def document(folder: Path, worker: str = "k8s-worker") -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((folder / f"{worker}.yaml").read_text())
    return loaded


def token_of(folder: Path, worker: str = "k8s-worker") -> str:
    return str(document(folder, worker)["users"][0]["user"]["token"])


def put_token(folder: Path, token: str, worker: str = "k8s-worker") -> None:
    """Writes the file as the module would have, with another token."""
    path = folder / f"{worker}.yaml"
    loaded = document(folder, worker)
    wanted = files.Wanted(
        loaded["clusters"][0]["cluster"]["server"],
        base64.b64decode(loaded["clusters"][0]["cluster"]["certificate-authority-data"]).decode(),
        "integr8scode",
        worker,
        "",
    )
    path.chmod(0o600)
    path.write_text(files.render(wanted, token, files.iso(files.read_claims(token).expires)))
    path.chmod(0o400)


def token_requests(cluster: FakeKubernetes) -> int:
    return sum(path.endswith("/token") for _, path in cluster.requests)


def test_the_first_run_writes_both_files_and_the_second_asks_for_no_token(
    run_module: RunModule, cluster: FakeKubernetes, folder: Path
) -> None:
    first = run_module("kubeconfig_renew", arguments(cluster, folder))
    second = run_module("kubeconfig_renew", arguments(cluster, folder))

    assert first["restart"] == WORKERS
    assert first["workers"]["k8s-worker"]["reasons"] == ["there is no file"]
    assert (second["changed"], second["restart"], token_requests(cluster)) == (False, [], 2)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for worker in WORKERS:
        path = folder / f"{worker}.yaml"
        assert stat.S_IMODE(path.stat().st_mode) == 0o400
        loaded = document(folder, worker)
        context = loaded["contexts"][0]
        assert loaded["current-context"] == context["name"]
        assert context["context"]["namespace"] == "integr8scode"
        assert loaded["clusters"][0]["cluster"]["server"] == SERVER
        ca = base64.b64decode(loaded["clusters"][0]["cluster"]["certificate-authority-data"]).decode()
        assert ca == cluster.authority.pem
        claims = files.read_claims(token_of(folder, worker))
        assert (claims.account, claims.lifetime) == (worker, 2592000)
        assert files.iso(claims.expires) == second["workers"][worker]["expires"]


def test_a_prediction_writes_nothing_asks_for_no_token_and_names_the_same_workers(
    run_module: RunModule, cluster: FakeKubernetes, folder: Path
) -> None:
    predicted = run_module("kubeconfig_renew", arguments(cluster, folder), check=True, diff=True)
    assert not folder.exists()
    assert cluster.writes() == []

    done = run_module("kubeconfig_renew", arguments(cluster, folder), diff=True)

    assert (predicted["changed"], predicted["restart"]) == (done["changed"], done["restart"]) == (True, WORKERS)
    for worker in WORKERS:
        assert predicted["workers"][worker]["reasons"] == done["workers"][worker]["reasons"]


def test_a_prediction_before_the_account_or_the_cluster_exists_renews(
    run_module: RunModule, cluster: FakeKubernetes, folder: Path, tmp_path: Path
) -> None:
    cluster.objects.clear()
    no_account = run_module("kubeconfig_renew", arguments(cluster, folder), check=True)
    real = run_module("kubeconfig_renew", arguments(cluster, folder))
    none = arguments(cluster, folder, admin_kubeconfig=str(tmp_path / "none"))
    no_cluster = run_module("kubeconfig_renew", none, check=True, diff=True)
    refused = run_module("kubeconfig_renew", none)

    assert no_account["restart"] == no_cluster["restart"] == WORKERS
    assert "service account integr8scode/k8s-worker does not exist" in real["msg"]
    assert "run the role k3s first" in refused["msg"]


def test_no_token_is_in_results_or_diffs(run_module: RunModule, cluster: FakeKubernetes, folder: Path) -> None:
    results = [run_module("kubeconfig_renew", arguments(cluster, folder), diff=True)]
    results.append(run_module("kubeconfig_renew", arguments(cluster, folder, force=True), diff=True))
    results.append(
        run_module("kubeconfig_renew", arguments(cluster, folder, server="https://other.example:1"), diff=True)
    )
    (folder / "k8s-worker.yaml").chmod(0o644)
    results.append(run_module("kubeconfig_renew", arguments(cluster, folder), check=True, diff=True))

    assert len(cluster.tokens) == 4
    for token in cluster.tokens:
        for part in token.split("."):
            assert all(part not in json.dumps(result) for result in results)
    assert "(not shown)" in results[0]["diff"][1]["after"]


def test_a_token_is_renewed_when_less_than_a_third_of_its_life_is_left(
    run_module: RunModule, cluster: FakeKubernetes, folder: Path
) -> None:
    run_module("kubeconfig_renew", arguments(cluster, folder))
    now = time.time()
    put_token(folder, cluster.issue_token("integr8scode", "k8s-worker", 30 * DAY, issued=now - 21 * DAY))
    put_token(
        folder, cluster.issue_token("integr8scode", "pod-monitor", 30 * DAY, issued=now - 19 * DAY), "pod-monitor"
    )

    result = run_module("kubeconfig_renew", arguments(cluster, folder))

    assert result["restart"] == ["k8s-worker"]
    assert "less than a third" in result["workers"]["k8s-worker"]["reasons"][0]


@pytest.mark.parametrize(
    ("age", "life", "reason"),
    [
        (2 * DAY, DAY, "the token expired at"),
        # the API still accepts it: it lets about 60 s pass
        (DAY + 1, DAY, "the token expired at"),
        (0, 60 * DAY, "longer than 2592000 s from now"),
    ],
)
def test_a_token_with_a_wrong_life_is_renewed(
    run_module: RunModule, cluster: FakeKubernetes, folder: Path, age: int, life: int, reason: str
) -> None:
    run_module("kubeconfig_renew", arguments(cluster, folder))
    put_token(folder, cluster.issue_token("integr8scode", "k8s-worker", life, issued=time.time() - age))

    result = run_module("kubeconfig_renew", arguments(cluster, folder))

    assert result["restart"] == ["k8s-worker"]
    assert reason in result["workers"]["k8s-worker"]["reasons"][0]


def test_a_token_that_the_api_does_not_accept_is_renewed(
    run_module: RunModule, cluster: FakeKubernetes, folder: Path
) -> None:
    run_module("kubeconfig_renew", arguments(cluster, folder))
    del cluster.tokens[token_of(folder, "pod-monitor")]

    predicted = run_module("kubeconfig_renew", arguments(cluster, folder), check=True)
    result = run_module("kubeconfig_renew", arguments(cluster, folder))

    assert predicted["restart"] == result["restart"] == ["pod-monitor"]
    assert result["workers"]["pod-monitor"]["reasons"] == ["the API does not accept the token (401)"]


def test_an_account_that_was_made_again_gets_a_new_token(
    run_module: RunModule, cluster: FakeKubernetes, folder: Path
) -> None:
    run_module("kubeconfig_renew", arguments(cluster, folder))
    # its old token is accepted for some seconds more
    add_account(cluster, "k8s-worker")

    result = run_module("kubeconfig_renew", arguments(cluster, folder))

    assert result["workers"]["k8s-worker"]["reasons"] == ["the service account was made again"]


def test_another_workers_token_is_not_good_enough(run_module: RunModule, cluster: FakeKubernetes, folder: Path) -> None:
    run_module("kubeconfig_renew", arguments(cluster, folder))
    put_token(folder, token_of(folder, "pod-monitor"))

    result = run_module("kubeconfig_renew", arguments(cluster, folder))

    assert "belongs to integr8scode/pod-monitor" in result["workers"]["k8s-worker"]["reasons"][0]


def test_another_server_rewrites_the_file_and_keeps_a_good_token(
    run_module: RunModule, cluster: FakeKubernetes, folder: Path
) -> None:
    run_module("kubeconfig_renew", arguments(cluster, folder, server="https://localhost:6443"))
    token = token_of(folder)

    result = run_module("kubeconfig_renew", arguments(cluster, folder))

    assert result["restart"] == WORKERS
    assert "the server changed from https://localhost:6443" in result["workers"]["k8s-worker"]["reasons"][0]
    assert not result["workers"]["k8s-worker"]["token_renewed"]
    assert token_of(folder) == token


def test_another_authority_rewrites_the_file(run_module: RunModule, cluster: FakeKubernetes, folder: Path) -> None:
    run_module("kubeconfig_renew", arguments(cluster, folder))
    path = folder / "k8s-worker.yaml"
    loaded = document(folder)
    loaded["clusters"][0]["cluster"]["certificate-authority-data"] = base64.b64encode(Authority().pem.encode()).decode()
    path.chmod(0o600)
    path.write_text(yaml.safe_dump(loaded))
    path.chmod(0o400)

    result = run_module("kubeconfig_renew", arguments(cluster, folder))

    assert result["workers"]["k8s-worker"]["reasons"] == ["the cluster's certificate authority changed"]
    assert result["restart"] == ["k8s-worker"]


def test_mode_and_owner_are_corrected_without_a_restart(
    run_module: RunModule, cluster: FakeKubernetes, folder: Path
) -> None:
    run_module("kubeconfig_renew", arguments(cluster, folder))
    path = folder / "k8s-worker.yaml"
    path.chmod(0o644)
    folder.chmod(0o755)

    predicted = run_module("kubeconfig_renew", arguments(cluster, folder), check=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    result = run_module("kubeconfig_renew", arguments(cluster, folder))

    assert predicted["workers"] == result["workers"]
    assert (result["changed"], result["restart"]) == (True, [])
    assert "0644" in result["workers"]["k8s-worker"]["reasons"][0]
    assert "0755" in result["directory"][0]
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_text_changed_by_hand_and_rubbish_are_replaced(
    run_module: RunModule, cluster: FakeKubernetes, folder: Path
) -> None:
    run_module("kubeconfig_renew", arguments(cluster, folder))
    for worker, text in (("k8s-worker", None), ("pod-monitor", "secret: [canary-rubbish\n")):
        path = folder / f"{worker}.yaml"
        path.chmod(0o600)
        path.write_text(text or path.read_text().replace("namespace: integr8scode", "namespace: default"))
        path.chmod(0o400)

    result = run_module("kubeconfig_renew", arguments(cluster, folder), diff=True)

    assert result["workers"]["k8s-worker"]["reasons"] == ["the text was changed"]
    assert result["workers"]["pod-monitor"]["reasons"] == ["the file cannot be used: it is not YAML"]
    assert "canary" not in json.dumps(result)


def test_a_folder_that_docker_made_is_replaced_and_one_with_content_refused(
    run_module: RunModule, cluster: FakeKubernetes, folder: Path
) -> None:
    (folder / "k8s-worker.yaml").mkdir(parents=True)
    (folder / "pod-monitor.yaml").mkdir()
    (folder / "pod-monitor.yaml" / "something").touch()

    refused = run_module("kubeconfig_renew", arguments(cluster, folder))
    (folder / "pod-monitor.yaml" / "something").unlink()
    result = run_module("kubeconfig_renew", arguments(cluster, folder))

    assert "is a folder with something in it" in refused["msg"]
    assert not result.get("failed")
    assert all((folder / f"{worker}.yaml").is_file() for worker in WORKERS)


def test_a_new_token_that_is_not_accepted_leaves_the_old_file(
    run_module: RunModule, cluster: FakeKubernetes, folder: Path
) -> None:
    run_module("kubeconfig_renew", arguments(cluster, folder))
    before = (folder / "k8s-worker.yaml").read_bytes()
    cluster.refuse_tokens = True

    result = run_module("kubeconfig_renew", arguments(cluster, folder))

    assert "has just issued for k8s-worker: 401" in result["msg"]
    assert (folder / "k8s-worker.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"token_lifetime_seconds": 599}, "ten minutes"),
        ({"token_lifetime_seconds": 2**33}, "4294967296"),
        ({"server": "https://10.0.0.7:6443"}, "holds an address"),
        ({"server": "https://[fd00::7]:6443"}, "holds an address"),
        ({"server": "http://host.docker.internal:6443"}, "is not https://NAME:PORT"),
        ({"server": "https://host.docker.internal"}, "is not https://NAME:PORT"),
        ({"server": "https://host.docker.internal:x"}, "is not https://NAME:PORT"),
    ],
)
def test_bad_input_is_refused_before_anything_is_asked(
    run_module: RunModule, cluster: FakeKubernetes, folder: Path, changes: dict[str, Any], message: str
) -> None:
    result = run_module("kubeconfig_renew", arguments(cluster, folder, **changes))

    assert result["failed"]
    assert message in result["msg"]
    assert "Cure:" in result["msg"]
    assert cluster.requests == []
    assert not folder.exists()


def test_a_certificate_that_does_not_name_the_server_is_refused_before_anything_changes(
    run_module: RunModule, tmp_path: Path, folder: Path
) -> None:
    with FakeKubernetes(tmp_path, names=("localhost",)) as cluster:
        predicted = run_module("kubeconfig_renew", arguments(cluster, folder), check=True)
        result = run_module("kubeconfig_renew", arguments(cluster, folder))

    assert "does not name host.docker.internal" in result["msg"]
    assert "add host.docker.internal to k3s_tls_sans" in result["msg"]
    assert not folder.exists()
    # the same run of a playbook may be about to add the name
    assert not predicted.get("failed")
    assert "k3s_tls_sans" in json.dumps(predicted["warnings"])


@given(st.text())
def test_what_is_no_token_is_never_quoted(text: str) -> None:
    with pytest.raises(files.KubeconfigError) as caught:
        files.read_claims("header." + text)

    assert str(caught.value) == "its token is not one of a service account with an expiry"
