"""The periods and delays that a cluster can run with: `guide` as Ray and its guide have them, `fast` shorter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_serve_chaos.analysis.configuration import RECONNECT_TIMEOUT
from pytest_serve_chaos.cluster.base import ClusterSpec, Profile
from pytest_serve_chaos.model import minor_version

HAPROXY = "RAY_SERVE_ENABLE_HA_PROXY"
"""The environment variable that makes Serve run HAProxy on each node."""


@dataclass(frozen=True, slots=True)
class Timing:
    """The periods of one profile, in seconds.

    Attributes:
        start_delay: What a replica of the guide's app sleeps when it starts.
        health_check_period: Between two health checks of a replica.
        health_check_timeout: Until a health check of a replica counts as failed.
        graceful_shutdown_timeout: What a replica may take to stop.
        restart_delay: Until a node that died is started again (a new pod is scheduled and its images are there).
        termination_grace: Between SIGTERM and SIGKILL for a node that is stopped gracefully.
        deletion_delay: Until KubeRay deletes a RayCluster from which an upgrade has taken the traffic.
        head_env: Environment of the head.
        worker_env: Environment of the workers.
    """

    start_delay: float
    health_check_period: float
    health_check_timeout: float
    graceful_shutdown_timeout: float
    restart_delay: float
    termination_grace: float
    deletion_delay: float
    head_env: Mapping[str, str] = field(default_factory=dict, repr=False)
    worker_env: Mapping[str, str] = field(default_factory=dict, repr=False)


def timing(profile: Profile) -> Timing:
    """The periods of a profile."""
    return _guide() if profile == "guide" else _fast()


def environment(spec: ClusterSpec) -> tuple[dict[str, str], dict[str, str]]:
    """The environments of the head and of the workers, with what the spec says itself."""
    periods = timing(spec.profile)
    ours = _ingress(spec)
    return {**periods.head_env, **ours, **dict(spec.env)}, {**periods.worker_env, **ours, **dict(spec.env)}


def _ingress(spec: ClusterSpec) -> dict[str, str]:
    if spec.ingress == "python":
        return {}
    # A replica that is told to stop goes on for 30 s, so that every HAProxy has dropped it by then. How long a HAProxy
    # that was reloaded may go on (120 s) stays: it cuts requests that take longer.
    shorter = {"RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "5"} if spec.profile == "fast" else {}
    return {HAPROXY: "1", **shorter}


def drain_timeout(env: Mapping[str, str], ray_version: str) -> float | None:
    """For how many seconds a node that gets SIGTERM drains; None where it is not known of that Ray.

    Args:
        env: The node's environment.
        ray_version: ``2.60.0``.
    """
    given = env.get("RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S")
    try:
        if given is not None:
            return float(given)
        # ray/_private/ray_constants.py; of older versions it was not looked up.
        return 30.0 if minor_version(ray_version) >= (2, 60) else None
    except ValueError:
        return None


def reconnect_timeout(env: Mapping[str, str]) -> float | None:
    """Seconds after which a Ray node with that environment ends if it cannot reach the GCS; None where it is nonsense.

    60 s: ray_config_def.h, of Ray 2.60 and of those before it.
    """
    try:
        return float(env.get(RECONNECT_TIMEOUT, "60"))
    except ValueError:
        return None


def _guide() -> Timing:
    # Health checks: DEFAULT_HEALTH_CHECK_PERIOD_S and _TIMEOUT_S of ray/serve/_private/constants.py; 20 s to stop:
    # DEFAULT_GRACEFUL_SHUTDOWN_TIMEOUT_S; start delay: the guide's sleepy_pid.py. 600 s: KubeRay sets it on workers;
    # 60 s: RayClusterDeletionDelayDuration of its rayservice_controller.go.
    return Timing(
        start_delay=10.0,
        health_check_period=10.0,
        health_check_timeout=30.0,
        graceful_shutdown_timeout=20.0,
        restart_delay=5.0,
        termination_grace=30.0,
        deletion_delay=60.0,
        worker_env={"RAY_gcs_rpc_server_reconnect_timeout_s": "600"},
    )


def _fast() -> Timing:
    shared = {
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "3",
        "RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S": "5",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "10",
        # ray_config_def.h: the GCS asks each raylet every 3 s, waits 10 s and takes 5 failures for a death. Here a dead
        # raylet is found after 5 s and a frozen one after 30 s, which leaves room for a freeze of 20 s.
        "RAY_health_check_initial_delay_ms": "2000",
        "RAY_health_check_period_ms": "1000",
        "RAY_health_check_timeout_ms": "5000",
        "RAY_health_check_failure_threshold": "5",
        # What a request costs in addition to its way through proxy and replica: threads, log lines, events about tasks.
        "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
        "RAY_SERVE_LOG_TO_STDERR": "0",
        "RAY_task_events_report_interval_ms": "0",
        # On a busy machine this limit (30 s) ends a node that is only slow, and its next start makes it busier.
        "RAY_agent_register_timeout_ms": "120000",
        # An idle Python worker per CPU is started ahead of need; on two cores that only delays the replicas.
        "RAY_enable_worker_prestart": "0",
        "RAY_prestart_worker_first_driver": "0",
    }
    return Timing(
        start_delay=1.0,
        health_check_period=1.0,
        health_check_timeout=3.0,
        graceful_shutdown_timeout=2.0,
        restart_delay=2.0,
        termination_grace=15.0,
        deletion_delay=10.0,
        head_env=shared,
        worker_env={**shared, "RAY_gcs_rpc_server_reconnect_timeout_s": "600"},
    )
