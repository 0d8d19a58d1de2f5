"""The guide's "replica failure" and its health checks, and a composed app."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from pytest_serve_chaos import clock, events
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.suite.health_checks import options_by_deployment, replaced_within

if TYPE_CHECKING:
    from pytest_serve_chaos.experiment import Experiment
    from pytest_serve_chaos.faults.chaos import Chaos
    from pytest_serve_chaos.fixtures import MakeTraffic
    from pytest_serve_chaos.handle import ServeCluster
    from pytest_serve_chaos.model import Json

COMPOSED: dict[str, Json] = {
    "name": "composed",
    "route_prefix": "/composed",
    "import_path": "pytest_serve_chaos.apps.composed:app",
    "args": {
        "options": {
            "num_replicas": 1,
            "ray_actor_options": {"num_cpus": 0.1},
            "health_check_period_s": 1,
            "health_check_timeout_s": 3,
            "graceful_shutdown_timeout_s": 1,
        },
        "child_options": {"num_replicas": 2},
    },
}


@pytest.mark.replica_failure(by="ray")
def test_replica_lost(experiment: Experiment) -> None:
    """A replica that is killed is replaced by one with another PID; all others are kept."""
    result = experiment.run()
    assert result.replaced("replica", on="victims")
    assert result.kept("replica", on="others")


@pytest.mark.replica_failure
def test_parent_reaches_the_new_child(chaos: Chaos, traffic: MakeTraffic, serve_cluster: ServeCluster) -> None:
    """A child of a composed app is replaced; its parent stays, and the same parent reaches the new child."""
    serve_cluster.deploy(COMPOSED)
    (parent,) = serve_cluster.of("replica", deployment="composed#Parent")
    pids: set[str] = set()

    def names_a_child(answer: object) -> bool:
        found = re.fullmatch(rb"parent (\d+) child (\d+)", getattr(answer, "body", b""))
        if found:
            pids.add(f"{found[1].decode()}>{found[2].decode()}")
        return found is not None

    composed = traffic(rate=30, route="composed", check=names_a_child, wait=False)
    with traffic(rate=20), composed:
        children = {c.replica for c in serve_cluster.of("replica", deployment="composed#Child")}
        clock.wait_until(
            "each child to answer",
            lambda: children <= composed.answered_by() or NotYet(f"{sorted(composed.answered_by())} did"),
            timeout=15.0,
        )
        child = chaos.replica("composed#Child").kill()
        child.wait_redundancy_back(timeout="60s")
        new = {c.pid for c in serve_cluster.of("replica", deployment="composed#Child")}
        reached = clock.wait_until(
            "the parent to reach the new child",
            lambda: all(f"{parent.pid}>{pid}" in pids for pid in new) or NotYet(f"it reached {sorted(pids)}"),
            timeout=15.0,
        )
    child.wait_settled()
    assert reached
    assert child.kept("replica@others")
    assert serve_cluster.topology().find(parent.identity) is not None


@pytest.mark.parametrize(
    "mode",
    [
        pytest.param("raise", marks=pytest.mark.health_check_failure(mode="raise")),
        pytest.param("hang", marks=pytest.mark.health_check_failure(mode="hang")),
    ],
)
def test_health_check_fails(experiment: Experiment, serve_cluster: ServeCluster, mode: str) -> None:
    """A replica whose check raises or hangs is replaced within the time that period, timeout and threshold say.

    A replica is unhealthy after 3 failures in a row; see `replaced_within`.
    """
    options = options_by_deployment(serve_cluster)
    deployments = {replica.identity: replica.deployment or "" for replica in serve_cluster.of("replica")}
    result = experiment.run()
    assert result.replaced("replica", on="victims")
    assert result.kept("replica", on="others")
    asked = next(e.at for e in result.events if isinstance(e, events.FaultAsked))
    gone = next(e for e in result.events if isinstance(e, events.ComponentGone) and e.component.role == "replica")
    own = options.get(deployments.get(gone.component.identity, ""), {})
    assert gone.at - asked < replaced_within(own, mode, experiment.rig.timing)
    if mode == "raise":
        assert serve_cluster.controller_log("because a test asked for it", since=asked)
