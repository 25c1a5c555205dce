"""Two controllers of the controller-manager that everything needs: `default` service accounts and the CA's ConfigMap.

They act on events as the real ones do, so a namespace is without them for a moment. Not started when the file holds a
real kube-controller-manager.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import logs
from .api import ApiError, Client


class NamespaceDefaults:
    """Gives each active namespace its `default` account and `kube-root-ca.crt`, also after someone deleted them."""

    def __init__(self, client: Client, ca: Path, stop: threading.Event) -> None:
        self._client = client
        self._ca = ca
        self._stop = stop

    def start(self) -> None:
        """Begin to follow namespaces, accounts and ConfigMaps in threads of their own."""
        self._follow("/api/v1/namespaces", self._namespace_changed)
        self._follow("/api/v1/serviceaccounts?fieldSelector=metadata.name%3Ddefault", self._part_changed)
        self._follow("/api/v1/configmaps?fieldSelector=metadata.name%3Dkube-root-ca.crt", self._part_changed)

    def _follow(self, path: str, handle: Callable[[str, dict[str, Any]], None]) -> None:
        thread = threading.Thread(target=self._loop, args=(path, handle), name=f"watch {path}", daemon=True)
        thread.start()

    def _loop(self, path: str, handle: Callable[[str, dict[str, Any]], None]) -> None:
        while not self._stop.is_set():
            try:
                listed = self._client.request("GET", path)
                for item in listed["items"]:
                    handle("ADDED", item)
                version = listed["metadata"]["resourceVersion"]
                for event in self._client.watch(path, version):
                    handle(event["type"], event["object"])
            except (ApiError, OSError, ValueError) as error:
                logs.debug(f"watch of {path} ended: {error}")
                self._stop.wait(1)

    def _namespace_changed(self, kind: str, namespace: dict[str, Any]) -> None:
        if kind != "DELETED" and namespace.get("status", {}).get("phase") == "Active":
            self._ensure(namespace["metadata"]["name"])

    def _part_changed(self, kind: str, part: dict[str, Any]) -> None:
        if kind == "DELETED":
            namespace = self._client.get(f"/api/v1/namespaces/{part['metadata']['namespace']}")
            if namespace is not None:
                self._namespace_changed("MODIFIED", namespace)

    def _ensure(self, namespace: str) -> None:
        base = f"/api/v1/namespaces/{namespace}"
        if self._client.get(f"{base}/serviceaccounts/default") is None:
            self._client.create(f"{base}/serviceaccounts", {"metadata": {"name": "default"}})
        if self._client.get(f"{base}/configmaps/kube-root-ca.crt") is None:
            note = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints."
            body = {
                "metadata": {"name": "kube-root-ca.crt", "annotations": {"kubernetes.io/description": note}},
                "data": {"ca.crt": self._ca.read_text()},
            }
            self._client.create(f"{base}/configmaps", body)
