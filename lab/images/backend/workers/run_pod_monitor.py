"""The pod-monitor tells what becomes of the pods. It is in no consumer group. Without a kubeconfig it ends (code 1)."""

from app.kubernetes import open_api
from app.log import log
from app.pods import PodMonitor
from app.worker import Context, run

_CYCLE_SECONDS = 5


async def _set_up(context: Context) -> None:
    api = await open_api(context.settings)
    context.at_end.push_async_callback(api.close)
    monitor = PodMonitor(api, context.broker, context.settings)
    context.periodic.append((_CYCLE_SECONDS, monitor.cycle))
    log.info("PodMonitor initialized (APScheduler interval=5s)")


if __name__ == "__main__":
    run("pod-monitor", "PodMonitor", _set_up)
