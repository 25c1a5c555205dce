"""Grafana, Jaeger, the OpenTelemetry Collector or Kafdrop, as far as the stack meets them.

Each listens where the real one does, answers its health and metrics paths, and ends with a message where the real one
would not start: a file that is missing or no YAML, a component that a pipeline names and nothing defines, an unknown
option, a broker that is not reached. The collector sends the server's memory to the exporter of its configuration, in
VictoriaMetrics' text format instead of remote write.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn

import yaml

PROGRAM = os.environ["STANDIN_PROGRAM"]
SEND_SECONDS = 5.0
Pages = Mapping[str, Callable[[], tuple[str, str]]]


def fail(text: str) -> NoReturn:
    """End the container with a message."""
    print(f"error: {text}", file=sys.stderr, flush=True)
    raise SystemExit(1)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML or JSON file that has to be a mapping."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as problem:
        fail(f"{path}: {problem}")
    if not isinstance(found, dict):
        fail(f"{path} is no mapping")
    return found


def serve(port: int, pages: Pages) -> None:
    """Answer GET on a port in a thread; a path that is not there is 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = pages.get(self.path.partition("?")[0])
            kind, text = page() if page else ("text/plain", "404 page not found\n")
            data = text.encode()
            self.send_response(200 if page else 404)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Keep quiet: health checks would fill the log."""

    server = ThreadingHTTPServer(("", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def accept(port: int) -> None:
    """Listen on a port without ever answering, as where OTLP by gRPC comes in."""
    listener = socket.create_server(("", port))

    def work() -> None:
        while True:
            listener.accept()[0].close()

    threading.Thread(target=work, daemon=True).start()


def metrics() -> tuple[str, str]:
    """What somebody who scrapes gets."""
    return "text/plain", f"process_start_time_seconds {STARTED:.0f}\n"


def html(title: str) -> Callable[[], tuple[str, str]]:
    """A page with a title."""
    return lambda: ("text/html", f"<!doctype html><title>{title}</title>\n")


def memory_used() -> float:
    """Share of the server's memory in use, as the collector counts it."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
    found = {words[0].rstrip(":"): int(words[1]) for words in lines}
    free = found["MemFree"] + found["Buffers"] + found["Cached"] + found.get("SReclaimable", 0)
    return (found["MemTotal"] - free) / found["MemTotal"]


def send(endpoint: str) -> None:
    """Send the memory's use for ever; one that is away is tried again."""
    url = endpoint.replace("/api/v1/write", "/api/v1/import/prometheus")
    while True:
        try:
            text = f'system_memory_utilization{{state="used"}} {memory_used():.4f}\n'
            urllib.request.urlopen(url, text.encode(), timeout=5).close()  # noqa: S310 - of the configuration
        except OSError as problem:
            print(f"warn: exporting failed: {problem}", file=sys.stderr, flush=True)
        time.sleep(SEND_SECONDS)


def collector() -> None:
    """The OpenTelemetry Collector: its one option, its configuration, its ports."""
    options = [argument.partition("=") for argument in sys.argv[1:]]
    if [name for name, _, _ in options] != ["--config"]:
        fail(f"unknown flag in {sys.argv[1:]}")
    config = read_yaml(Path(options[0][2]))
    for unknown in set(config) - {"receivers", "processors", "exporters", "extensions", "connectors", "service"}:
        fail(f"'' has invalid keys: {unknown}")
    for name, pipeline in config["service"]["pipelines"].items():
        for kind in ("receivers", "processors", "exporters"):
            for one in pipeline.get(kind, []):
                if one not in (config.get(kind) or {}):
                    fail(f"service::pipelines::{name}: references {kind.rstrip('s')} {one!r} which is not configured")
    for one in config["service"].get("extensions", []):
        if one not in config.get("extensions", {}):
            fail(f"service::extensions: references extension {one!r} which is not configured")
    accept(4317)
    accept(4318)
    serve(8888, {"/metrics": metrics})
    serve(13133, {"/": lambda: ("application/json", json.dumps({"status": "Server available"}))})
    endpoint = config["exporters"]["prometheusremotewrite"]["endpoint"]
    threading.Thread(target=send, args=(endpoint,), daemon=True).start()


def jaeger() -> None:
    """Jaeger's page and metrics; OTLP where it is switched on."""
    if os.environ.get("COLLECTOR_OTLP_ENABLED") == "true":
        accept(4317)
        accept(4318)
    serve(14269, {"/metrics": metrics, "/": lambda: ("application/json", '{"status":"Server available"}')})
    serve(16686, {"/": html("Jaeger UI")})


def grafana() -> None:
    """Grafana: reads everything that is provisioned, keeps a database in its volume."""
    provisioning = Path("/etc/grafana/provisioning")
    for path in sorted(provisioning.glob("*/*.yaml")):
        found = read_yaml(path)
        if found.get("apiVersion") != 1:
            fail(f"{path}: apiVersion is not 1")
        for provider in found.get("providers", []):
            for dashboard in sorted(Path(provider["options"]["path"]).glob("*.json")):
                if not read_yaml(dashboard).get("title"):
                    fail(f"{dashboard}: Dashboard title cannot be empty")
    try:
        Path("/var/lib/grafana/grafana.db").touch()
    except OSError as problem:
        fail(f"GF_PATHS_DATA='/var/lib/grafana' is not writable: {problem}")
    health = json.dumps({"database": "ok", "version": os.environ["STANDIN_VERSION"]})
    serve(3000, {"/": html("Grafana"), "/metrics": metrics, "/api/health": lambda: ("application/json", health)})


def kafdrop() -> None:
    """Kafdrop: ends when it reaches no broker."""
    host, _, port = os.environ.get("KAFKA_BROKERCONNECT", "localhost:9092").partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as problem:
        fail(f"no broker at {host}:{port}: {problem}")
    serve(9000, {"/": html("Kafdrop"), "/actuator/health": lambda: ("application/json", '{"status":"UP"}')})


STARTED = time.time()
PROGRAMS = {"otel-collector": collector, "jaeger": jaeger, "grafana": grafana, "kafdrop": kafdrop}

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    PROGRAMS[PROGRAM]()
    print(f"{PROGRAM} {os.environ['STANDIN_VERSION']} is ready", flush=True)
    while True:
        signal.pause()
