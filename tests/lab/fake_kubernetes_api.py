"""A Kubernetes API in miniature, run in a container: what k8s-worker and pod-monitor ask, and the two refusals.

The token decides: `good` is served, `weak` is 403, any other 401. A pod that is created has succeeded at once, so that
the way back through pod-monitor and result-processor can be seen; that is this test's doing, no stand-in does it.
"""

import json
import ssl
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PODS: list[dict[str, Any]] = []
EXECUTOR_OUTPUT = {"stdout": "hello\n", "stderr": "", "exit_code": 0, "resource_usage": {"peak_memory_kb": 1024}}
WATCH_SECONDS = 60


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing: `_answer` does."""

    def _answer(self, status: int, body: dict[str, Any] | str) -> None:
        print(f"{self.command} {self.path.split('?')[0]} {status}", flush=True)
        text = body if isinstance(body, str) else json.dumps(body)
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(body, str) else "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def _refuse(self, code: int, reason: str, message: str) -> None:
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
        self._answer(code, {**status, "message": message, "reason": reason, "code": code})

    def _allowed(self) -> bool:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token == "good":
            return True
        if token == "weak":
            self._refuse(403, "Forbidden", "pods is forbidden: User cannot do that")
        else:
            self._refuse(401, "Unauthorized", "Unauthorized")
        return False

    def do_GET(self) -> None:
        """Answer list, watch, log, and the DaemonSet that is missing."""
        if not self._allowed():
            return
        if "watch=" in self.path:
            self._watch()
        elif self.path.split("?")[0].endswith("/log"):
            self._answer(200, repr(EXECUTOR_OUTPUT))
        elif "daemonsets" in self.path:
            self._refuse(404, "NotFound", "not found")
        else:
            self._answer(
                200, {"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": PODS}
            )

    def _watch(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        sent = 0
        for _ in range(WATCH_SECONDS * 10):
            for pod in PODS[sent:]:
                self.wfile.write(json.dumps({"type": "MODIFIED", "object": pod}).encode() + b"\n")
                self.wfile.flush()
            sent = len(PODS)
            time.sleep(0.1)

    def do_POST(self) -> None:
        """Create."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self._allowed():
            return
        body["metadata"] |= {"uid": f"uid-{len(PODS)}", "resourceVersion": str(len(PODS) + 2)}
        if body["kind"] == "Pod":
            body["status"] = {"phase": "Succeeded"}
            PODS.append(body)
        self._answer(201, body)

    def do_PATCH(self) -> None:
        """Change."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self._allowed():
            self._answer(200, body)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("", 6443), Handler)
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*sys.argv[1:3])
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()
