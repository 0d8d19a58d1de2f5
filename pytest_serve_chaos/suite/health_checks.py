"""When Serve replaces a replica whose health check fails, by the periods of its own deployment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet

if TYPE_CHECKING:
    from pytest_serve_chaos.cluster.profiles import Timing
    from pytest_serve_chaos.handle import ServeCluster
    from pytest_serve_chaos.model import Json

_FAILURES = 3
"""In a row; REPLICA_HEALTH_CHECK_UNHEALTHY_THRESHOLD of ray/serve/_private/constants.py."""
_NOTICED = 5.0
_SAID_WITHIN = 20.0


def options_by_deployment(cluster: ServeCluster) -> Mapping[str, Mapping[str, Json]]:
    """``app#Deployment`` -> the options that it runs with, as Serve says."""

    def said() -> Mapping[str, Mapping[str, Json]] | NotYet:
        return cluster.backend.dashboard.serve().options

    return clock.wait_until("Serve to say the options of its deployments", clock.patient(said), timeout=_SAID_WITHIN)


def replaced_within(options: Mapping[str, Json], mode: str, profile: Timing) -> float:
    """Seconds in which a replica must be gone whose check raises or hangs.

    A check that raises fails once a period, one that hangs once a period and a timeout.

    Args:
        options: Those of its deployment.
        mode: ``raise`` or ``hang``.
        profile: The cluster's periods, for what Serve does not say.
    """

    def period(name: str, otherwise: float) -> float:
        found = options.get(f"{name}_s")
        return float(found) if isinstance(found, int | float) else otherwise

    between = period("health_check_period", profile.health_check_period)
    timeout = period("health_check_timeout", profile.health_check_timeout)
    stop = period("graceful_shutdown_timeout", profile.graceful_shutdown_timeout)
    one_failure = between + (timeout if mode == "hang" else 0.0)
    return _FAILURES * one_failure + between + stop + _NOTICED
