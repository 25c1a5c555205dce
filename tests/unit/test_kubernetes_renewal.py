"""kubernetes_renewal: k3s restarts only for its own certificates, workers only for new content; errors name a cure."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import jinja2
import pytest
import yaml
from ansible.module_utils import k3s_certificates, kubernetes_renewal
from ansible.module_utils.atomic_files import Access
from ansible.module_utils.backups.k3s_parts import layout
from ansible.module_utils.certificate_tools import certificate_pem, make_ca, make_leaf, new_key
from ansible.module_utils.integr8scode_docker import EngineUnavailableError
from ansible.module_utils.k3s_common import K3sError
from ansible.module_utils.k3s_node import UnitState, monotonic
from ansible.module_utils.kubernetes_renewal import Job, RenewalError
from ansible.module_utils.maintenance import renew_kubeconfig, state, timer
from ansible.module_utils.releases import lock

from tests.unit.support.fake_kubernetes import FakeKubernetes

if TYPE_CHECKING:
    from tests.unit.conftest import RunModule

ROOT = Path(__file__).resolve().parents[2]
WORKERS = ["k8s-worker", "pod-monitor"]
HOUR = 3600.0
READ_CERTIFICATES = k3s_certificates.read_certificates


class Container:
    """What docker-py's container offers and the renewal uses; `dies` is what happens after its restart."""

    def __init__(self, service: str, *, running: bool = True, dies: str = "") -> None:
        self.id = self.service = service
        self.dies = dies
        self.restarts = 0
        self.attrs: dict[str, Any] = {"Config": {}}
        self._start(time.time() - HOUR)
        self.attrs["State"]["Running"] = running

    def _start(self, when: float) -> None:
        moment = dt.datetime.fromtimestamp(when, dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")
        self.attrs["State"] = {"Running": True, "StartedAt": f"{moment}123Z", "ExitCode": 0}

    def restart(self, timeout: int) -> None:
        assert timeout > 0
        self.restarts += 1
        self._start(time.time())
        if self.dies == "at once":
            self.attrs["State"]["Running"] = False

    def reload(self) -> None:
        if self.restarts and self.dies == "later":
            self.attrs["State"].update(Running=False, ExitCode=1)
        elif self.restarts and self.dies == "again and again":
            self._start(time.time() + 9)

    def logs(self, **_: Any) -> bytes:
        return b"Expected key current-context\n"


class Server:
    """A server with a cluster, k3s' certificates and containers. `job` is what the program is told there."""

    def __init__(self, folder: Path, cluster: FakeKubernetes) -> None:
        self.cluster = cluster
        self.containers = [Container(name) for name in (*WORKERS, "coordinator")]
        self.tls = folder / "rancher/server/tls"
        self.tls.mkdir(parents=True)
        self.authority_key = new_key()
        self.restarts = 0
        self.started = time.time() - HOUR
        self.running = True
        # days that a certificate has when k3s has signed it at its start; 0: it leaves it as it is
        self.signs_for_days = 365
        self.signs_below_days = 120
        self.authority(3650)
        self.leaf("serving-kube-apiserver", 200)
        self.leaf("client-admin", 200)
        self.timers_unit = UnitState(True, False, "inactive", "dead", 0, "id", False, 0)
        self.job = Job(
            host="server1",
            workers=WORKERS,
            namespace="integr8scode",
            server="https://host.docker.internal:6443",
            directory=str(folder / "kubeconfig"),
            token_lifetime_seconds=2592000,
            admin_kubeconfig=str(cluster.admin_path),
            api_timeout_seconds=1,
            project="integr8scode",
            worker_stable_seconds=0,
            k3s_node_name="",
            k3s_restart_days=30,
            k3s_stable_seconds=0,
            k3s_timeout_seconds=1,
            authority_warning_days=180,
        )

    def authority(self, days: int) -> None:
        self.authority_certificate = make_ca(self.authority_key, "k3s-server-ca", days)
        (self.tls / "server-ca.crt").write_bytes(certificate_pem(self.authority_certificate))

    def leaf(self, name: str, days: float, *, written: float | None = None) -> Path:
        end = dt.datetime.now(dt.timezone.utc) + dt.timedelta(days=days)
        leaf = make_leaf(
            new_key(),
            self.authority_certificate,
            self.authority_key,
            common_name=name,
            names=frozenset([name]),
            end=end,
        )
        path = self.tls / f"{name}.crt"
        # the issuer follows, as in k3s' own files
        path.write_bytes(certificate_pem(leaf) + certificate_pem(self.authority_certificate))
        if written is not None:
            os.utime(path, (written, written))
        return path

    def restart(self, **_: Any) -> None:
        self.restarts += 1
        certificates, _problems = k3s_certificates.read_certificates()
        for one in certificates:
            if not one.authority and one.days_left(time.time()) < self.signs_below_days and self.signs_for_days:
                self.leaf(Path(one.path).stem, self.signs_for_days)
        self.started = time.time()

    def unit(self) -> UnitState:
        active = "active" if self.running else "activating"
        since = monotonic() - (time.time() - self.started)
        return UnitState(True, True, active, "running" if self.running else "start", 0, "id", False, since)

    def run_timers_unit(self, subcommand: str) -> None:
        assert subcommand == "renew-kubeconfig"
        self.timers_unit = dataclasses.replace(self.timers_unit, active="inactive")

    def connect(self) -> Any:
        def find(filters: dict[str, list[str]], **_: Any) -> list[Container]:
            service = filters["label"][1].partition("=")[2]
            return [one for one in self.containers if one.service == service and one.attrs["State"]["Running"]]

        return SimpleNamespace(containers=SimpleNamespace(list=find))

    def restarted(self) -> list[str]:
        """Services whose containers were restarted since this was last asked."""
        names = [one.service for one in self.containers if one.restarts]
        for one in self.containers:
            one.restarts = 0
        return names

    def settled(self) -> None:
        """A first run was made, some time ago."""
        kubernetes_renewal.perform(self.job)
        self.restarted()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    access = Access(os.geteuid(), os.getegid(), 0o400)
    settings = functools.partial(kubernetes_renewal.Settings, access=access)
    monkeypatch.setattr(kubernetes_renewal, "Settings", settings)
    with FakeKubernetes(tmp_path) as cluster:
        for worker in WORKERS:
            body = {"kind": "ServiceAccount", "metadata": {"name": worker}}
            cluster.put_object(f"/api/v1/namespaces/integr8scode/serviceaccounts/{worker}", body)
        made = Server(tmp_path, cluster)
        monkeypatch.setattr(kubernetes_renewal, "connect", made.connect)
        monkeypatch.setattr(kubernetes_renewal, "unit_state", made.unit)
        monkeypatch.setattr(lock, "switch_active", lambda: False)
        monkeypatch.setattr(timer, "unit_state", lambda _: made.timers_unit)
        monkeypatch.setattr(timer, "run_again", made.run_timers_unit)
        monkeypatch.setattr(k3s_certificates, "restart", made.restart)
        read = functools.partial(k3s_certificates.read_certificates, made.tls.parents[1])
        monkeypatch.setattr(k3s_certificates, "read_certificates", read)
        yield made


def age_token(server: Server, worker: str, *, left: int) -> None:
    """Puts a token into the worker's file that has so many seconds left."""
    token = server.cluster.issue_token("integr8scode", worker, 2592000, issued=time.time() - 2592000 + left)
    path = Path(server.job.directory) / f"{worker}.yaml"
    document = yaml.safe_load(path.read_text())
    document["users"][0]["user"]["token"] = token
    path.chmod(0o600)
    path.write_text(yaml.safe_dump(document))
    path.chmod(0o400)
    past = time.time() - 2 * HOUR
    os.utime(path, (past, past))


# -- tokens and their readers


def test_exactly_the_workers_with_new_content_restart(server: Server) -> None:
    first = kubernetes_renewal.perform(server.job)
    assert (first.restarted, server.restarted()) == (WORKERS, WORKERS)

    again = kubernetes_renewal.perform(server.job)
    assert (again.changed, again.restarted, server.restarted()) == (False, [], [])

    age_token(server, "pod-monitor", left=600)
    third = kubernetes_renewal.perform(server.job)
    assert (third.changed, third.restarted, server.restarted()) == (True, ["pod-monitor"], ["pod-monitor"])
    assert "less than a third" in "".join(third.sentences())
    assert server.restarts == 0


@pytest.mark.parametrize("life", [600, 3600])
def test_a_token_that_was_issued_for_a_short_life_is_renewed_as_well(server: Server, life: int) -> None:
    """All its life is left, and yet it ends before a daily timer looks again."""
    kubernetes_renewal.perform(dataclasses.replace(server.job, token_lifetime_seconds=life))
    server.restarted()
    assert kubernetes_renewal.perform(server.job).restarted == WORKERS


def test_a_restart_that_an_interrupted_run_left_undone_is_made_up_for(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.settled()
    age_token(server, "k8s-worker", left=600)

    def away() -> Any:
        raise EngineUnavailableError("the Docker Engine does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(kubernetes_renewal, "connect", away)
        with pytest.raises(RenewalError, match="could not be restarted: the Docker Engine does not answer"):
            kubernetes_renewal.perform(server.job)
    for container in server.containers:
        container._start(time.time() - HOUR)

    future = time.time()
    os.utime(Path(server.job.directory) / "pod-monitor.yaml", (future - 2 * HOUR, future - 2 * HOUR))
    assert kubernetes_renewal.perform(server.job).restarted == ["k8s-worker"]


@pytest.mark.parametrize(
    ("dies", "message"),
    [
        ("at once", "k8s-worker does not run after its restart"),
        ("later", r"k8s-worker does not stay up .*exit code 1.*\nExpected key current-context"),
        ("again and again", "k8s-worker does not stay up"),
    ],
)
def test_a_worker_that_does_not_come_back_is_an_error(server: Server, dies: str, message: str) -> None:
    server.containers[0].dies = dies
    with pytest.raises(RenewalError, match=message):
        kubernetes_renewal.perform(server.job)


def test_a_switch_of_releases_ends_before_a_worker_restarts(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[list[str]] = []
    server.settled()
    monkeypatch.setattr(lock, "wait_for_switch", lambda: waited.append(server.restarted()))
    kubernetes_renewal.perform(server.job)
    assert waited == [], "for nothing"
    kubernetes_renewal.perform(server.job, force=True)
    assert (waited, server.restarted()) == ([[]], WORKERS)


def test_a_worker_that_does_not_run_is_left_alone(server: Server) -> None:
    server.containers[0].attrs["State"]["Running"] = False
    assert kubernetes_renewal.perform(server.job).restarted == ["pod-monitor"]


def test_an_api_that_is_down_is_told_with_the_recovery(server: Server) -> None:
    server.cluster.__exit__(None, None, None)
    with pytest.raises(RenewalError, match=r"no token was renewed.*playbooks/recover-k3s\.yml --limit server1"):
        kubernetes_renewal.perform(server.job)
    server.cluster.__exit__ = lambda *_: None  # type: ignore[method-assign]


# -- k3s' own certificates


def test_k3s_is_left_alone_while_its_certificates_are_good(server: Server) -> None:
    # k3s itself would sign it again at a start: that is no reason to make one
    server.leaf("client-admin", 40)
    report = kubernetes_renewal.perform(server.job)
    assert (server.restarts, report.certificates) == (0, {})
    assert report.certificate_end.startswith(
        (dt.datetime.now(dt.timezone.utc) + dt.timedelta(days=40)).date().isoformat()
    )


@pytest.mark.parametrize("days", [20, -0.002])
def test_a_certificate_near_or_past_its_end_restarts_k3s_once(server: Server, days: float) -> None:
    server.settled()
    path = server.leaf("client-admin", days, written=server.started - HOUR)
    server.started = time.time() - 60 * 24 * HOUR
    os.utime(path, (server.started - HOUR, server.started - HOUR))

    predicted = kubernetes_renewal.perform(server.job, apply=False)
    assert (server.restarts, list(predicted.certificates), predicted.changed) == (0, [str(path)], True)
    report = kubernetes_renewal.perform(server.job)
    again = kubernetes_renewal.perform(server.job)

    assert list(report.certificates) == [str(path)]
    assert "would be restarted to renew" in predicted.sentences(applied=False)[0]
    assert (server.restarts, again.certificates, server.restarted()) == (1, {}, [])


def test_a_restart_that_does_not_help_is_an_error(server: Server) -> None:
    server.signs_for_days = 0
    server.leaf("client-admin", 20)
    with pytest.raises(RenewalError, match=r"has not renewed .*client-admin\.crt.*k3s certificate rotate"):
        kubernetes_renewal.perform(server.job)
    assert server.restarts == 1


def test_k3s_is_not_restarted_for_what_its_last_start_has_left(server: Server) -> None:
    server.leaf("client-admin", 20, written=server.started - HOUR)
    for apply in (False, True):
        with pytest.raises(RenewalError, match="has not renewed"):
            kubernetes_renewal.perform(server.job, apply=apply)
    assert server.restarts == 0


def test_certificates_that_are_left_keep_no_token_from_its_renewal(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.settled()
    server.leaf("unused", 20, written=server.started - HOUR)
    age_token(server, "pod-monitor", left=600)
    with pytest.raises(state.MaintenanceError, match=r"has not renewed .*unused\.crt"):
        renew_kubeconfig.run(dataclasses.asdict(server.job))
    assert server.restarted() == ["pod-monitor"]
    assert "pod-monitor: new token" in capsys.readouterr().out


def test_all_that_failed_is_told(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> Any:
        raise EngineUnavailableError("the Docker Engine does not answer")

    monkeypatch.setattr(kubernetes_renewal, "connect", away)
    server.leaf("unused", 20, written=server.started - HOUR)
    with pytest.raises(RenewalError, match=r"has not renewed .* / the workers could not be restarted"):
        kubernetes_renewal.perform(server.job)


def test_a_k3s_without_certificates_is_a_problem(server: Server) -> None:
    for path in server.tls.glob("*.crt"):
        path.unlink()
    with pytest.raises(RenewalError, match="no certificate of k3s was found below"):
        kubernetes_renewal.perform(server.job)


def test_certificates_are_those_of_the_data_folder_that_is_set(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "etc/rancher/k3s/config.yaml"
    config.parent.mkdir(parents=True)
    config.write_text(f"data-dir: {server.tls.parents[1]}\n")
    monkeypatch.setattr(k3s_certificates, "layout", lambda: layout(tmp_path))
    monkeypatch.setattr(k3s_certificates, "read_certificates", READ_CERTIFICATES)
    found, _ = k3s_certificates.read_certificates()
    assert str(server.tls / "client-admin.crt") in [one.path for one in found]


def test_a_k3s_that_does_not_run_is_not_restarted(server: Server) -> None:
    server.running = False
    server.leaf("client-admin", 20)
    assert kubernetes_renewal.perform(server.job).certificates == {}
    assert server.restarts == 0


def test_an_authority_near_its_end_is_told_and_restarts_nothing(server: Server) -> None:
    server.authority(100)
    (server.tls / "client-k3s-controller.crt").write_text("no certificate")
    report = kubernetes_renewal.perform(server.job)
    assert server.restarts == 0
    assert any("server-ca.crt ends" in warning for warning in report.warnings)
    assert any("client-k3s-controller.crt is no certificate" in warning for warning in report.warnings)


def test_a_restart_of_k3s_that_fails_names_the_recovery(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: Any) -> None:
        raise K3sError("k3s was restarted, and was not up after 1 s")

    monkeypatch.setattr(k3s_certificates, "restart", fail)
    server.leaf("client-admin", 20)
    with pytest.raises(RenewalError, match=r"not up after 1 s\. Cure: .*recover-k3s\.yml"):
        kubernetes_renewal.perform(server.job)


# -- module and subcommand


def test_the_module_predicts_what_it_then_does(run_module: RunModule, server: Server) -> None:
    job = {"job": dataclasses.asdict(server.job)}

    predicted = run_module("kubernetes_renewal", job, check=True)
    assert server.cluster.writes() == []
    done = run_module("kubernetes_renewal", job, diff=True)
    forced = run_module("kubernetes_renewal", {**job, "force": True})

    assert predicted["workers_restarted"] == done["workers_restarted"] == forced["workers_restarted"] == WORKERS
    assert run_module("kubernetes_renewal", job)["changed"] is False
    assert forced["tokens"]["k8s-worker"]["reasons"] == ["asked for"]
    for token in server.cluster.tokens:
        assert token.split(".")[1] not in json.dumps([predicted, done, forced])


def test_a_failed_run_of_the_timer_is_made_up_for(run_module: RunModule, server: Server) -> None:
    server.settled()
    job = {"job": dataclasses.asdict(server.job)}
    server.timers_unit = dataclasses.replace(server.timers_unit, active="failed")

    predicted = run_module("kubernetes_renewal", job, check=True)
    assert server.timers_unit.active == "failed"
    done = run_module("kubernetes_renewal", job)
    again = run_module("kubernetes_renewal", job)

    assert (predicted["changed"], done["changed"], again["changed"]) == (True, True, False)
    assert "would be started once more" in predicted["sentences"][-1]
    assert "was started once more" in done["sentences"][-1]
    assert "once more" not in again["sentences"][-1]


def test_the_module_names_settings_that_do_not_fit(run_module: RunModule) -> None:
    assert "does not hold what it must" in run_module("kubernetes_renewal", {"job": {"workers": []}})["msg"]


def test_the_subcommand_says_and_remembers_what_it_did(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(state, "DIRECTORY", tmp_path / "state")
    monkeypatch.setattr(state, "FOLDER_ACCESS", Access(os.geteuid(), os.getegid(), 0o700))
    monkeypatch.setattr(state, "FILE_ACCESS", Access(os.geteuid(), os.getegid(), 0o600))

    assert renew_kubeconfig.run(dataclasses.asdict(server.job)) == 0

    assert "restarted: k8s-worker, pod-monitor" in capsys.readouterr().out
    facts = state.read_state("renew-kubeconfig")["facts"]
    assert facts["workers_restarted"] == WORKERS
    assert facts["tokens"]["pod-monitor"]["expires"].endswith("Z")
    with pytest.raises(state.MaintenanceError, match="settings are not those of this release"):
        renew_kubeconfig.run({})


def test_the_roles_settings_are_those_of_the_job_and_of_kubernetes_access() -> None:
    def load(path: str) -> dict[str, Any]:
        loaded: dict[str, Any] = yaml.safe_load((ROOT / "roles" / path).read_text())
        return loaded

    variables = load("maintenance/defaults/main.yml") | {"inventory_hostname": "server1"}
    internal = load("maintenance/vars/main.yml")
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701
    variables["__maintenance_kubeconfig_directory"] = environment.from_string(
        internal["__maintenance_kubeconfig_directory"]
    ).render(variables)
    found = {
        key: environment.from_string(value).render(variables) if isinstance(value, str) else value
        for key, value in internal["__maintenance_renew_kubeconfig"].items()
    }
    assert set(found) == {one.name for one in dataclasses.fields(Job)}
    access = load("kubernetes_access/defaults/main.yml")
    for key, variable in (
        ("namespace", "namespace"),
        ("server", "server"),
        ("directory", "directory"),
        ("token_lifetime_seconds", "token_lifetime_seconds"),
        ("admin_kubeconfig", "admin_kubeconfig"),
        ("api_timeout_seconds", "timeout_seconds"),
    ):
        assert found[key] == str(access[f"kubernetes_access_{variable}"]), key
    assert found["workers"] == load("kubernetes_access/vars/main.yml")["__kubernetes_access_workers"]
