"""An app whose replicas Serve scales within seconds, and what to wait for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet

if TYPE_CHECKING:
    from pytest_serve_chaos.handle import ServeCluster
    from pytest_serve_chaos.model import Json

ROUTE = "autoscaled"
DEPLOYMENT = f"{ROUTE}#SleepyPid"

WANTED_WITHIN = 60.0
"""Seconds in which Serve must scale."""


def autoscaled(*, least: int, most: int, ongoing: int, downscale_delay: float) -> dict[str, Json]:
    """An app that takes 0.2 s for each request.

    Args:
        least: Its `min_replicas`.
        most: Its `max_replicas`.
        ongoing: How many requests it answers at a time for each replica that Serve wants.
        downscale_delay: Seconds for which there must be too little traffic before Serve stops replicas.
    """
    return {
        "name": ROUTE,
        "route_prefix": f"/{ROUTE}",
        "import_path": "pytest_serve_chaos.apps.sleepy_pid:app",
        "args": {
            "start_delay": 0.0,
            "work": 0.2,
            "options": {
                "autoscaling_config": {
                    "min_replicas": least,
                    "max_replicas": most,
                    "target_ongoing_requests": ongoing,
                    "upscale_delay_s": 1,
                    "downscale_delay_s": downscale_delay,
                    "metrics_interval_s": 0.5,
                    "look_back_period_s": 2,
                },
                # One replica can answer all: what a test loses is lost with the victim, and not for lack of replicas.
                "max_ongoing_requests": 50,
                "ray_actor_options": {"num_cpus": 0.1},
                "graceful_shutdown_timeout_s": 1,
            },
        },
    }


def wait_wanted(cluster: ServeCluster, least: int, most: int) -> int:
    """Waits until the number of replicas that Serve wants is in that range, and returns it.

    Raises:
        WaitTimeout: It is not.
    """

    def wanted() -> int | NotYet:
        number = cluster.topology().wanted.get(DEPLOYMENT, 0)
        return number if least <= number <= most else NotYet(f"it wants {number}")

    return clock.wait_until(f"Serve to want {least} to {most} replicas", wanted, timeout=WANTED_WITHIN, interval=0.1)
