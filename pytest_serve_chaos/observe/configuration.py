"""Asks a cluster for what the check of its configuration needs, and writes down what that says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pytest_serve_chaos.analysis.configuration import (
    Concerned,
    Configuration,
    Deployment,
    Setup,
    check,
)
from pytest_serve_chaos.analysis.record import warned_about
from pytest_serve_chaos.cluster.base import Cluster, Progress
from pytest_serve_chaos.cluster.capabilities import KNOWS_ITS_SETUP
from pytest_serve_chaos.cluster.rest import ServeStatus, autoscaled, seconds_of
from pytest_serve_chaos.errors import ObservationError
from pytest_serve_chaos.events import ConfigurationSeen, Warned
from pytest_serve_chaos.history import ExperimentLog, History
from pytest_serve_chaos.model import ClusterDescription, ConfigWarning, Json, Topology


def check_configuration(cluster: Cluster, topology: Topology, faults: Iterable[Concerned]) -> tuple[ConfigWarning, ...]:
    """The warnings about what should be fixed, or be expected, before a fault is injected.

    There is no warning about what cannot be found out.

    Args:
        cluster: The cluster.
        topology: Who is alive in it, in steady state.
        faults: All faults that may be injected.
    """
    setup = _setup(cluster)
    try:
        status = cluster.dashboard.serve()
    except ObservationError:
        status = None
    return warnings_about(cluster.description, setup, topology, status, faults)


def setup_now(cluster: Cluster) -> Setup | None:
    """How it is set up now, for which the API server may be asked; None where that cannot be found out."""
    try:
        return _setup(cluster)
    except ObservationError:
        return None


def workers_look_for_the_gcs(cluster: Cluster, within: float) -> float:
    """Seconds for which Ray's nodes look for a GCS that is away before they end; 0 where it is more than `within`."""
    setup = setup_now(cluster)
    lasts = None if setup is None else setup.reconnect
    return lasts if lasts is not None and lasts < within else 0.0


def _setup(cluster: Cluster) -> Setup:
    known = cluster.capability(KNOWS_ITS_SETUP)
    return Setup() if known is None else known.setup()


def warnings_about(
    description: ClusterDescription,
    setup: Setup,
    topology: Topology,
    status: ServeStatus | None,
    faults: Iterable[Concerned],
) -> tuple[ConfigWarning, ...]:
    """What should be fixed, or be expected; makes no requests.

    Args:
        description: The cluster.
        setup: What its backend knows of it.
        topology: Who is alive, in steady state.
        status: What Serve said last; None: nothing.
        faults: All faults that may be injected.
    """
    targets = {} if status is None else status.targets
    options = {} if status is None else status.options
    scaled = {} if status is None else autoscaled(status)
    deployments = {
        name: _deployment(n, options.get(name, {}), scaled.get(name, (0, 0))[1]) for name, n in targets.items()
    }
    return check(Configuration(description, setup, topology, deployments), faults)


def write_warnings(
    history: History, warnings: tuple[ConfigWarning, ...], said: set[ConfigWarning], progress: Progress
) -> None:
    """Writes the warnings into the history, and prints those that this run has not printed for any cluster."""
    for warning in warnings:
        history.add(Warned(warning.line, warning=warning))
        if warning not in said:
            said.add(warning)
            progress(f"warning: {warning.line}")


def write_what_holds(
    log: ExperimentLog, warnings: tuple[ConfigWarning, ...], said: set[ConfigWarning], progress: Progress
) -> None:
    """Writes down what holds just before a fault, and warns about what is new since this cluster was looked at."""
    known = warned_about(log.history, log.experiment)
    write_warnings(log.history, tuple(w for w in warnings if w not in known), said, progress)
    codes = ", ".join(dict.fromkeys(w.code for w in warnings)) or "nothing to warn about"
    log.add(ConfigurationSeen(codes, warnings=warnings))


def _deployment(replicas: int, options: Mapping[str, Json], most: int) -> Deployment:
    return Deployment(
        replicas=replicas,
        limited=not options or options.get("max_replicas_per_node") is not None,
        shutdown=seconds_of(options, "graceful_shutdown_timeout_s", otherwise=0.0),
        most=most,
    )
