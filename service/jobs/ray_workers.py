"""Workers on the machines of a Ray cluster: Ray Serve places them, counts them and starts them anew.

Jobs stay in the table: Ray carries none of them, so that whatever becomes of it loses none. A replica runs the same
`Worker` as a process of its own does; on its machine it needs the shared `home` and a signer.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from guardrails.errors import UnavailableError
from service import tracing
from service.observation import log_to_stderr
from service.settings import Settings

APPLICATION = "guardrails-workers"
_log = logging.getLogger(__name__)

_HEALTH_SECONDS = 10.0
_LOOK_SECONDS = 1.0


class Replica:
    """One worker in the hands of Ray Serve.

    Args:
        settings: `Settings` as JSON.
    """

    def __init__(self, settings: str) -> None:
        from service.jobs.opening import open_worker

        self._settings = Settings.model_validate_json(settings)
        log_to_stderr(self._settings.log_level)
        tracing.start("worker")
        self._stopping = threading.Event()
        worker = open_worker(self._settings)
        self._name = worker.name
        self._thread = threading.Thread(target=worker.run, args=(self._stopping,), daemon=True)
        self._thread.start()

    def __call__(self) -> str:
        """The name that the worker's jobs carry in the table."""
        return self._name

    def check_health(self) -> None:
        """Ray Serve asks this every few seconds, and replaces a replica that raises."""
        if not self._thread.is_alive():
            raise RuntimeError("the worker has ended")

    def __del__(self) -> None:
        """Ray Serve calls this before it ends a replica: the jobs at hand are finished first."""
        if hasattr(self, "_thread"):
            self._stopping.set()
            self._thread.join(self._settings.drain_seconds)
            tracing.stop()


def run_on_ray(settings: Settings, stopping: threading.Event) -> None:
    """`settings.workers` workers in the cluster that RAY_ADDRESS names, or on this machine; until `stopping` is set.

    Raises:
        UnavailableError: they do not start, or Ray is gone.
    """
    import ray
    from ray import serve
    from ray.serve.config import ProxyLocation
    from ray.serve.schema import ApplicationStatus

    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
    # Clients speak to our API; nothing listens for Ray.
    serve.start(proxy_location=ProxyLocation.Disabled)
    deployment = serve.deployment(
        Replica,
        name="worker",
        num_replicas=settings.workers,
        ray_actor_options={"num_gpus": settings.ray_gpus, "num_cpus": 1},
        health_check_period_s=_HEALTH_SECONDS,
        graceful_shutdown_timeout_s=settings.drain_seconds + _HEALTH_SECONDS,
    )
    bound: Any = deployment.bind(settings.model_dump_json())
    try:
        serve.run(bound, name=APPLICATION, route_prefix=None)
        while not stopping.wait(_LOOK_SECONDS):
            status = serve.status().applications[APPLICATION].status
            if status in (ApplicationStatus.UNHEALTHY, ApplicationStatus.DEPLOY_FAILED):
                _log.warning("the workers on Ray are %s", status.value.lower())
    except (RuntimeError, ray.exceptions.RayError) as error:
        raise UnavailableError(
            f"the workers on Ray did not start: {type(error).__name__}", hint="see the log of Ray; does a signer run?"
        ) from error
    finally:
        serve.delete(APPLICATION)
