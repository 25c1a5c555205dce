"""The lab's HAProxy: user, entrypoint and signals of haproxy:3.0-alpine."""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from tests.lab.containers import Running, client, image, running, until

FILE = "/usr/local/etc/haproxy/haproxy.cfg"
CONFIGURATION = """
global
    log stdout format raw local0 info
    stats socket /var/lib/haproxy/admin.sock mode 600 level admin
defaults
    mode http
    log global
    option httplog
    timeout client 10s
    timeout server 10s
    timeout connect 1s
    timeout tarpit 2s
frontend web
    bind :443
    http-request return status 200 content-type text/plain string "{text}" if {{ path / }}
    http-request tarpit if {{ path /slow }}
"""


@pytest.fixture
def haproxy() -> Iterator[Running]:
    files = {FILE: (CONFIGURATION.format(text="first"), 0o644, 0)}
    with running("haproxy", files=files, ports=(443,)) as container:
        until("an answer", 10, lambda: answer(container) == "first")
        yield container


def answer(container: Running, path: str = "/") -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{container.port(443)}{path}", timeout=10) as reply:
            return str(reply.read().decode())
    except urllib.error.HTTPError as error:
        return str(error.code)
    except OSError as error:
        return f"nobody: {error}"


def reload(container: Running) -> None:
    """Signal until the master has heard it: while it starts, it executes itself again and is deaf for a moment."""

    def heard() -> bool:
        container.container.kill("SIGUSR2")
        time.sleep(0.5)
        return "Reloading HAProxy" in container.logs

    until("a reload", 15, heard)


def test_serves_port_443_as_uid_99_in_master_worker_mode(haproxy: Running) -> None:
    assert haproxy.ask(["id", "-u"]) == "99"
    assert haproxy.ask(["pwd"]) == "/var/lib/haproxy"
    assert haproxy.ask("tr '\\0' ' ' < /proc/1/cmdline").split()[:4] == ["haproxy", "-W", "-db", "-f"]
    assert haproxy.ask("haproxy -v").startswith("HAProxy version 3.0.")


def test_reload_by_sigusr2_serves_the_new_configuration_from_the_same_container(haproxy: Running) -> None:
    haproxy.put(FILE, CONFIGURATION.format(text="second"))
    reload(haproxy)
    until("the new answer", 10, lambda: answer(haproxy) == "second")
    assert haproxy.status == "running"


def test_a_broken_configuration_stops_a_start_but_not_a_reload(haproxy: Running) -> None:
    haproxy.put(FILE, "bogus\n")
    reload(haproxy)
    haproxy.wait_log("unknown keyword 'bogus'", 10)
    assert answer(haproxy) == "first"
    with running("haproxy", files={FILE: ("bogus\n", 0o644, 0)}) as broken:
        assert broken.wait_end() == 1
        assert "unknown keyword 'bogus'" in broken.logs


def test_the_images_stop_signal_lets_a_request_finish(haproxy: Running) -> None:
    assert client().images.get(image("haproxy")).attrs["Config"]["StopSignal"] == "SIGUSR1"
    replies: list[str] = []
    # the tarpit answers with 500 after two seconds
    slow = threading.Thread(target=lambda: replies.append(answer(haproxy, "/slow")))
    slow.start()
    until("the request under way", 5, lambda: current(haproxy) == 1)
    assert haproxy.stop() == 0
    slow.join(timeout=10)
    assert replies == ["500"]


STATUS = "echo show stat | socat - UNIX-CONNECT:/var/lib/haproxy/admin.sock"


def current(container: Running) -> int:
    """Sessions of the frontend just now."""
    lines = container.ask(STATUS).removeprefix("# ").splitlines()
    column = lines[0].split(",").index("scur")
    return next(int(line.split(",")[column]) for line in lines if line.startswith("web,FRONTEND,"))


def test_has_alpines_tools_only(haproxy: Running) -> None:
    assert haproxy.say("command -v curl || command -v bash")[0] != 0
    assert haproxy.ask("wget -q -O - http://127.0.0.1:443/") == "first"
    # busybox' wget, not GNU's
    assert "BusyBox" in haproxy.say("wget --help")[1]


def test_options_alone_mean_haproxy() -> None:
    with running("haproxy", ["-vv"]) as container:
        assert container.wait_end() == 0
        assert "USE_PROMEX=1" in container.logs
