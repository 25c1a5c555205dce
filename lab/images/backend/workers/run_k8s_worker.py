"""The k8s-worker: makes the pods that `create_pod_command` asks for. Without a kubeconfig it ends with code 1."""

from app.events import Event
from app.idempotency import once
from app.kubernetes import Executor, open_api
from app.log import log
from app.redis_client import open_redis
from app.worker import Context, run

_GROUP = "k8s-worker"
_REMEMBERED_SECONDS = 3600


async def _set_up(context: Context) -> None:
    redis = open_redis(context.settings)
    context.at_end.push_async_callback(redis.aclose)
    api = await open_api(context.settings)
    context.at_end.push_async_callback(api.close)
    executor = Executor(api, context.settings)

    async def create(command: Event) -> None:
        await context.answer(await executor.create(command))

    for topic, handler in (("create_pod_command", create), ("delete_pod_command", executor.delete)):
        context.broker.subscribe([topic], _GROUP, once(redis, _REMEMBERED_SECONDS, handler))
    # whatever it meets there is only logged: an unreachable API, 401 and 403 do not stop this program
    await executor.ensure_pre_puller()
    log.info("KubernetesWorker initialized with pre-puller daemonset")


if __name__ == "__main__":
    run("k8s-worker", "KubernetesWorker", _set_up)
