"""Does the frontend's stand-in proxy, resolve, log and stop as the real image does?"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import requests
from docker.models.containers import Container

from tests.lab.application import Browser, Stack, certificates, ended, in_container, output, serving, stopped

# answers with the path and the headers it was asked with; at /api/v1/events/ with an event and then nothing for a while
ECHO = """
import json, ssl, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        if self.path.startswith("/api/v1/events/"):
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(b"data: first\\n\\n")
            self.wfile.flush()
            time.sleep(20)
            return
        body = json.dumps({"path": self.path, "headers": {k.lower(): v for k, v in self.headers.items()}}).encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
server = ThreadingHTTPServer(("", 443), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/certs/server.crt", "/certs/server.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


def start(stack: Stack, name: str, backend: str) -> Container:
    """Start a frontend."""
    return stack.run(
        name,
        stack.image("frontend", "2026.2.20"),
        environment={"BACKEND_URL": backend},
        files={"/etc/nginx/certs": certificates(stack)},
        port=5001,
        memory="128m",
    )


@pytest.fixture(scope="module")
def frontend(stack: Stack) -> Iterator[Container]:
    """Provide a frontend before something that shows what reaches it."""
    files = {"/echo.py": ECHO, "/certs": certificates(stack)}
    stack.run("echo", stack.image("backend", "2026.2.20"), ["python", "/echo.py"], files=files)
    yield start(stack, "frontend", "https://echo:443")
    stack.remove("frontend")
    stack.remove("echo")


@pytest.fixture
def browser(stack: Stack, frontend: Container) -> Browser:
    return serving(stack, frontend, 5001, "/")


def test_it_serves_the_page_at_every_path(browser: Browser) -> None:
    for path in ("/", "/editor", "/no/such/page"):
        answer = browser.get(path)
        assert answer.status_code == 200
        assert "<title>Integr8sCode</title>" in answer.text
        assert answer.headers["X-Frame-Options"] == "DENY"
    assert "2026.2.20" in browser.get("/build/main.js").text


def test_it_appends_to_the_clients_own_forwarded_header(browser: Browser) -> None:
    seen = json.loads(browser.get("/api/v1/some?x=1", headers={"Cookie": "a=b"}).text)
    assert seen["path"] == "/api/v1/some?x=1"
    first, _, second = seen["headers"]["x-forwarded-for"].partition(", ")
    assert first == browser.headers["X-Forwarded-For"]
    assert second == seen["headers"]["x-real-ip"] != first
    assert seen["headers"]["x-forwarded-proto"] == "https"
    assert seen["headers"]["cookie"] == "a=b"


def test_an_event_passes_at_once(browser: Browser) -> None:
    with browser.get("/api/v1/events/some", stream=True, timeout=5) as answer:
        assert next(answer.iter_lines()) == b"data: first"


def test_without_grafana_only_grafana_is_missing(browser: Browser) -> None:
    assert browser.get("/grafana/").status_code == 502
    assert browser.get("/").status_code == 200


def test_master_is_root_and_workers_are_nginx(frontend: Container, browser: Browser) -> None:
    script = "for pid in /proc/[0-9]*; do tr '\\0' ' ' < $pid/cmdline; grep Uid $pid/status; done"
    processes = in_container(frontend, "sh", "-c", script)
    assert "nginx: master process nginx -g daemon off; Uid:\t0\t" in processes
    assert "nginx: worker process Uid:\t101\t" in processes
    in_container(frontend, "curl", "-kfsS", "-o", "/dev/null", "https://localhost:5001")


def test_the_backends_address_is_found_once(stack: Stack, frontend: Container, browser: Browser) -> None:
    assert browser.get("/api/").status_code == 200
    network = stack.client.networks.get(stack.network)
    echo = stack.containers["echo"]
    network.disconnect(echo)
    # somebody else takes the address that nginx remembers
    stack.run("squatter", stack.image("redis"), memory="64m")
    network.connect(echo, aliases=["echo"])
    try:
        with pytest.raises(requests.exceptions.RequestException):
            browser.get("/api/", timeout=3).raise_for_status()
    finally:
        stack.remove("squatter")
    # a reload looks the name up again
    in_container(frontend, "nginx", "-s", "reload")
    assert serving(stack, frontend, 5001, "/api/").get("/api/").status_code == 200


def test_without_the_backends_name_it_does_not_start(stack: Stack) -> None:
    container = start(stack, "frontend-refused", "https://nobody:443")
    assert ended(container) == 1
    assert '[emerg] 1#1: host not found in upstream "nobody"' in output(container)
    stack.remove("frontend-refused")


def test_sigquit_is_its_stop_signal(stack: Stack) -> None:
    image = stack.client.images.get(stack.image("frontend", "2026.2.20"))
    assert image.attrs["Config"]["StopSignal"] == "SIGQUIT"
    container = start(stack, "frontend-stop", "https://127.0.0.1:443")
    serving(stack, container, 5001, "/")
    code, seconds = stopped(container, "SIGQUIT")
    assert code == 0
    assert seconds < 5
    stack.remove("frontend-stop")
