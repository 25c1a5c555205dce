"""The Kubernetes API as k8s-worker uses it, by the real program's own client library."""

from typing import Any

from kubernetes_asyncio import client, config
from kubernetes_asyncio.client.rest import ApiException

from app.events import Event, new_event
from app.log import log
from app.runtimes import all_images
from app.settings import Settings

PRE_PULLER = "runtime-image-pre-puller"
_CONFLICT = 409
_NOT_FOUND = 404
_LABEL_LENGTH = 63

_ENTRYPOINT = '#!/bin/sh\nset -e\nexec "$@"\n'


async def open_api(settings: Settings) -> client.ApiClient:
    """Read the kubeconfig; nothing is asked of the API yet.

    Args:
        settings: KUBERNETES_CONFIG_PATH.

    Returns:
        The client, to be closed by the caller.

    Raises:
        kubernetes_asyncio.config.ConfigException: no kubeconfig (`Expected key current-context`), or a bad one.
        IsADirectoryError: a folder stands in its place.
    """
    await config.load_kube_config(config_file=settings.KUBERNETES_CONFIG_PATH)
    api = client.ApiClient()
    log.info(f"Kubernetes API host: {api.configuration.host}")
    return api


class Executor:
    """Makes and removes the pods that run scripts.

    Args:
        api: the client.
        settings: K8S_NAMESPACE.

    Raises:
        ValueError: the namespace is `default`.
    """

    def __init__(self, api: client.ApiClient, settings: Settings) -> None:
        self._namespace = settings.K8S_NAMESPACE
        if self._namespace == "default":
            raise ValueError(
                "KubernetesWorker namespace 'default' is forbidden. Set K8S_NAMESPACE to a dedicated namespace."
            )
        self._core = client.CoreV1Api(api)
        self._apps = client.AppsV1Api(api)
        log.info(f"KubernetesWorker initialized for namespace {self._namespace}")

    async def ensure_pre_puller(self) -> None:
        """Create or replace the DaemonSet that pulls the run-time images. Errors are logged and forgotten."""
        manifest = _pre_puller(self._namespace)
        try:
            try:
                await self._apps.read_namespaced_daemon_set(name=PRE_PULLER, namespace=self._namespace)
                log.info(f"DaemonSet '{PRE_PULLER}' exists. Replacing to ensure it is up-to-date.")
                await self._apps.replace_namespaced_daemon_set(PRE_PULLER, self._namespace, manifest)
                log.info(f"DaemonSet '{PRE_PULLER}' replaced successfully.")
            except ApiException as error:
                if error.status != _NOT_FOUND:
                    raise
                log.info(f"DaemonSet '{PRE_PULLER}' not found. Creating...")
                await self._apps.create_namespaced_daemon_set(self._namespace, manifest)
                log.info(f"DaemonSet '{PRE_PULLER}' created successfully.")
        except ApiException as error:
            log.error(f"K8s API error applying DaemonSet '{PRE_PULLER}': {error.reason}", exception=error)
        except Exception as error:  # noqa: BLE001 - as the real program does
            log.error(f"Unexpected error applying image-puller DaemonSet: {error}", exception=error)

    async def create(self, command: Event) -> Event:
        """Make the config map and the pod of an execution.

        Args:
            command: the event `create_pod_command`.

        Returns:
            `pod_created`, or `execution_failed` with the API's complaint.
        """
        execution_id, user_id = command["execution_id"], command["metadata"]["user_id"]
        try:
            name = await self._create(command)
        except Exception as error:  # noqa: BLE001 - becomes the execution's result
            log.error(f"Failed to create pod for execution {execution_id}: {error}", exception=error)
            return new_event(
                "execution_failed",
                "k8s-worker",
                user_id,
                execution_id=execution_id,
                exit_code=-1,
                error_type="system_error",
                error_message=str(error),
                stdout="",
                stderr=f"Failed to create pod: {error}",
                resource_usage=None,
            )
        log.info(f"Successfully created pod {name} for execution {execution_id}")
        return new_event(
            "pod_created",
            "k8s-worker",
            user_id,
            execution_id=execution_id,
            pod_name=name,
            namespace=self._namespace,
        )

    async def _create(self, command: Event) -> str:
        script = _config_map(command, self._namespace)
        pod = _pod(command, self._namespace)
        try:
            await self._core.create_namespaced_config_map(self._namespace, script)
        except ApiException as error:
            if error.status != _CONFLICT:
                raise
            log.warning(f"ConfigMap {script['metadata']['name']} already exists")
        name = str(pod["metadata"]["name"])
        try:
            created = await self._core.create_namespaced_pod(self._namespace, pod)
        except ApiException as error:
            if error.status != _CONFLICT:
                raise
            log.warning(f"Pod {name} already exists")
            return name
        owner = {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": created.metadata.uid}
        try:
            await self._core.patch_namespaced_config_map(
                script["metadata"]["name"], self._namespace, {"metadata": {"ownerReferences": [owner]}}
            )
        except ApiException as error:
            log.warning(f"Failed to set ownerReference on ConfigMap: {error.reason}")
        return name

    async def delete(self, command: Event) -> None:
        """Remove the pod of an execution; its config map goes with it.

        Args:
            command: the event `delete_pod_command`.
        """
        execution_id = command["execution_id"]
        try:
            await self._core.delete_namespaced_pod(f"executor-{execution_id}", self._namespace, grace_period_seconds=30)
            log.info(f"Successfully deleted pod executor-{execution_id}")
        except ApiException as error:
            if error.status == _NOT_FOUND:
                log.warning(f"Pod for execution {execution_id} not found (may have already been deleted)")
            else:
                log.error(f"Failed to delete pod for execution {execution_id}: {error}")


def _pre_puller(namespace: str) -> dict[str, Any]:
    pulls = [
        {
            "name": f"pull-{number}-{image.replace(':', '-').replace('.', '-')}",
            "image": image,
            "command": ["/bin/sh", "-c", f'echo "Image {image} pulled."'],
            "imagePullPolicy": "Always",
        }
        for number, image in enumerate(all_images())
    ]
    labels = {"name": PRE_PULLER}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": PRE_PULLER, "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "initContainers": pulls,
                    "containers": [{"name": "pause", "image": "registry.k8s.io/pause:3.9"}],
                    "tolerations": [{"operator": "Exists"}],
                },
            },
            "updateStrategy": {"type": "RollingUpdate"},
        },
    }


def _config_map(command: Event, namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": f"script-{command['execution_id']}",
            "namespace": namespace,
            "labels": {
                "app": "integr8s",
                "component": "execution-script",
                "execution-id": command["execution_id"],
                "saga-id": command["saga_id"],
            },
        },
        "data": {command["runtime_filename"]: command["script"], "entrypoint.sh": _ENTRYPOINT},
    }


def _pod(command: Event, namespace: str) -> dict[str, Any]:
    execution_id, script = command["execution_id"], command["runtime_filename"]
    who = {"runAsNonRoot": True, "runAsUser": 1000, "runAsGroup": 1000, "seccompProfile": {"type": "RuntimeDefault"}}

    def from_config_map(key: str) -> dict[str, Any]:
        return {"name": f"script-{execution_id}", "items": [{"key": key, "path": key}]}

    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"executor-{execution_id}",
            "namespace": namespace,
            "labels": {
                "app": "integr8s",
                "component": "executor",
                "execution-id": execution_id,
                "language": command["language"],
                "user-id": command["metadata"]["user_id"][:_LABEL_LENGTH],
                "saga-id": command["saga_id"][:_LABEL_LENGTH],
            },
            "annotations": {"integr8s.io/execution-id": execution_id},
        },
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": command["timeout_seconds"],
            "enableServiceLinks": False,
            "automountServiceAccountToken": False,
            "securityContext": {**who, "fsGroup": 1000, "fsGroupChangePolicy": "OnRootMismatch"},
            "containers": [
                {
                    "name": "executor",
                    "image": command["runtime_image"],
                    "command": ["/bin/sh", "/entry/entrypoint.sh", *command["runtime_command"]],
                    "env": [
                        {"name": "EXECUTION_ID", "value": execution_id},
                        {"name": "OUTPUT_PATH", "value": "/output"},
                    ],
                    "resources": {
                        "requests": {"cpu": command["cpu_request"], "memory": command["memory_request"]},
                        "limits": {"cpu": command["cpu_limit"], "memory": command["memory_limit"]},
                    },
                    "securityContext": {
                        **who,
                        "readOnlyRootFilesystem": True,
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [
                        {"name": "script-volume", "mountPath": "/scripts", "readOnly": True},
                        {"name": "entrypoint-volume", "mountPath": "/entry", "readOnly": True},
                        {"name": "output-volume", "mountPath": "/output"},
                        {"name": "tmp-volume", "mountPath": "/tmp"},  # noqa: S108 - in the pod
                    ],
                }
            ],
            "volumes": [
                {"name": "script-volume", "configMap": from_config_map(script)},
                {"name": "entrypoint-volume", "configMap": from_config_map("entrypoint.sh")},
                {"name": "output-volume", "emptyDir": {"sizeLimit": "10Mi"}},
                {"name": "tmp-volume", "emptyDir": {"sizeLimit": "10Mi"}},
            ],
        },
    }
