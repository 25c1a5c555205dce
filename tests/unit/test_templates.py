"""The role's templates, rendered without a server, with its own defaults."""

from __future__ import annotations

import configparser
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template


@pytest.fixture
def render(project_root: Path) -> Any:
    role = project_root / "roles/integr8scode"

    def rendered(name: str, **variables: Any) -> str:
        known: dict[str, Any] = {"inventory_hostname": "app1", "role_path": str(role), "ansible_managed": "managed"}
        for source in ("defaults/main.yml", "vars/main.yml"):
            known |= DataLoader().load_from_file(str(role / source), trusted_as_template=True)
        templar = Templar(loader=DataLoader(), variables=known | variables)
        return str(templar.template(trust_as_template((role / "templates" / name).read_text())))

    return rendered


def test_the_edge_takes_clients_addresses_from_nobody(render: Any) -> None:
    sections = edge_sections(render("haproxy.cfg.j2"))
    for name in ("frontend api", "frontend web"):
        assert "http-request set-header X-Forwarded-For %[src]" in sections[name]
    assert "http-request set-header X-Forwarded-For %[req.hdr(X-Forwarded-For,1)]" in sections["frontend from_frontend"]


def edge_sections(text: str) -> dict[str, list[str]]:
    """Return the lines of each section of an HAProxy configuration."""
    sections: dict[str, list[str]] = {}
    name = ""
    for line in text.splitlines():
        if line and not line.startswith((" ", "#")):
            name = line.strip()
        elif line.strip() and not line.strip().startswith("#"):
            sections.setdefault(name, []).append(line.strip())
    return sections


def test_the_internal_listener_has_the_address_that_the_frontend_calls(render: Any, project_root: Path) -> None:
    stack = yaml.safe_load((project_root / "docker-compose.yaml").read_text())
    called = stack["services"]["frontend"]["environment"]["BACKEND_URL"]
    assert called == "https://${EDGE_PROXY_ADDRESS:-172.31.210.2}:8443"
    sections = edge_sections(render("haproxy.cfg.j2", integr8scode_edge_proxy_address="192.0.2.7"))
    assert any(line.startswith("bind 192.0.2.7:8443 ssl") for line in sections["frontend from_frontend"])


def test_a_post_is_never_repeated_nor_sent_on_a_used_connection_and_certificates_are_verified(render: Any) -> None:
    sections = edge_sections(render("haproxy.cfg.j2"))
    for name in ("backend backend", "backend frontend"):
        assert "http-request disable-l7-retry unless METH_GET || { method HEAD }" in sections[name]
        assert "option http-server-close" in sections[name]
        assert any(f"verifyhost {name.split()[1]}" in line for line in sections[name])
    assert any("ssl verify required" in line for line in sections["defaults"])


def test_the_edge_waits_longer_than_the_backend_may_take(render: Any) -> None:
    for seconds, waits in ((60, 75), (20, 75), (300, 315)):
        sections = edge_sections(render("haproxy.cfg.j2", integr8scode_web_timeout=seconds))
        assert f"timeout server {waits}s" in sections["defaults"]


def test_event_streams_have_places_of_their_own_and_are_no_post(render: Any) -> None:
    sections = edge_sections(render("haproxy.cfg.j2"))
    for name, service in (("api", "backend"), ("web", "frontend"), ("from_frontend", "backend")):
        lines = sections[f"frontend {name}"]
        assert f"use_backend {service}_streams if METH_GET {{ path_beg /api/v1/events/ }}" in lines
        assert lines[-1] == f"default_backend {service}"
    for service in ("backend", "frontend"):
        streams, plain = sections[f"backend {service}_streams"], sections[f"backend {service}"]
        # the same copies, each found and checked for itself
        assert streams[-1] == plain[-1]
        assert streams[-1].startswith(f"server-template {service} 4 {service}:")
        assert "timeout server 24h" in streams
        assert "timeout server 24h" not in plain
    checked = [
        line for name in ("backend", "backend_streams") for line in sections[f"backend {name}"] if "192.0.2" in line
    ]
    assert len(set(checked)) == 2, "two backends' checks count for one address at the rate limiter"


def test_the_switch_reaches_the_edge_and_the_edge_its_servers_after_a_reload(render: Any, project_root: Path) -> None:
    sections = edge_sections(render("haproxy.cfg.j2"))
    (api,) = [line for line in sections["global"] if line.startswith("stats socket")]
    assert api == "stats socket /etc/edge-run/admin.sock mode 600 level admin expose-fd listeners"
    assert "server-state-file /etc/edge-run/servers.state" in sections["global"]
    assert "load-server-state-from-file global" in sections["defaults"]
    assert any("init-addr last," in line for line in sections["defaults"])
    stack = yaml.safe_load((project_root / "docker-compose.yaml").read_text())
    assert "${EDGE_DIRECTORY:-./edge}/run:/etc/edge-run" in stack["services"]["edge"]["volumes"]
    # every copy must be found by name and may not own a port of the server
    for service in ("backend", "frontend"):
        assert not {"container_name", "ports"} & set(stack["services"][service])


def test_the_unit_stops_with_grace_and_does_not_follow_docker(render: Any) -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    text = render("integr8scode.service.j2", integr8scode_base="/srv/app")
    unit.read_string(text)
    assert "Requires" not in unit["Unit"]
    assert "docker.service" in unit["Unit"]["After"].split()
    assert unit["Service"]["ExecStop"].endswith("--project-directory /srv/app/current stop")
    assert "--project-directory /srv/app/current stop edge\n" in text
    # longer than the longest grace of a service, twice: workers and edge stop before Mongo and Kafka
    assert int(unit["Service"]["TimeoutStopSec"]) >= 2 * 60 + 40
