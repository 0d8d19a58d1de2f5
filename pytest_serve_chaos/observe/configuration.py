"""Asks a cluster for what the check of its configuration needs."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_serve_chaos.analysis.configuration import ConfigWarning, Deployment, Setup, check
from pytest_serve_chaos.cluster.base import Cluster
from pytest_serve_chaos.cluster.capabilities import KnowsItsSetup
from pytest_serve_chaos.errors import ObservationError
from pytest_serve_chaos.model import Json, Topology


def check_configuration(cluster: Cluster, topology: Topology) -> tuple[ConfigWarning, ...]:
    """What should be mended, or be expected, before a fault is injected.

    What cannot be found out is not warned about.

    Args:
        cluster: The cluster.
        topology: Who is alive in it, in steady state.
    """
    setup = cluster.setup() if isinstance(cluster, KnowsItsSetup) else Setup()
    try:
        status = cluster.dashboard.serve()
    except ObservationError:
        return check(cluster.description, setup, topology, {})
    deployments = {name: _deployment(n, status.options.get(name, {})) for name, n in status.targets.items()}
    return check(cluster.description, setup, topology, deployments)


def _deployment(replicas: int, options: Mapping[str, Json]) -> Deployment:
    shutdown = options.get("graceful_shutdown_timeout_s")
    return Deployment(
        replicas=replicas,
        limited=not options or options.get("max_replicas_per_node") is not None,
        shutdown=float(shutdown) if isinstance(shutdown, int | float) else 0.0,
    )
