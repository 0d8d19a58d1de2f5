"""The guide's "worker node failure", and how replicas are spread."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_serve_chaos.suite.on_kubernetes import (
    DELETED_WORKER,
    LOST_MACHINE,
    MOVED,
    behind_a_service,
    on_machines,
    room_for,
)
from pytest_serve_chaos.suite.with_haproxy import where_it_starts

if TYPE_CHECKING:
    from pytest_serve_chaos.experiment import Experiment
    from pytest_serve_chaos.faults.chaos import Chaos
    from pytest_serve_chaos.fixtures import MakeTraffic
    from pytest_serve_chaos.handle import ServeCluster
    from pytest_serve_chaos.model import Json


def _sleepy(name: str, replicas: int, most_per_node: int | None) -> dict[str, Json]:
    return {
        "name": name,
        "route_prefix": f"/{name}",
        "import_path": "pytest_serve_chaos.apps.sleepy_pid:app",
        "args": {
            "start_delay": 0.0,
            "options": {
                "num_replicas": replicas,
                "max_replicas_per_node": most_per_node,
                "ray_actor_options": {"num_cpus": 0.1},
                "health_check_period_s": 1,
                "graceful_shutdown_timeout_s": 1,
            },
        },
    }


@pytest.mark.worker_failure
def test_worker_lost(experiment: Experiment, serve_cluster: ServeCluster) -> None:
    """A worker is lost: the others keep their replicas, and those that it held are there again when it is back."""
    result = experiment.run(**(where_it_starts(serve_cluster) | behind_a_service(serve_cluster, DELETED_WORKER)))
    assert result.kept("replica", on="others")
    assert result.kept("head", "controller")


@pytest.mark.node_failure
def test_node_lost(experiment: Experiment, serve_cluster: ServeCluster) -> None:
    """A node stays away: replicas that `max_replicas_per_node` holds pending start when it is back, not before."""
    result = experiment.run(**(where_it_starts(serve_cluster) | on_machines(serve_cluster, LOST_MACHINE)))
    healed, back = result.measurement.healed, result.measurement.redundancy_back
    assert healed is not None
    assert back is not None
    assert back > healed


@pytest.mark.node_failure(how="drain")
def test_node_drained(experiment: Experiment) -> None:
    """A node is drained, as for maintenance: its pods end in their grace period and run again, and the rest is kept."""
    result = experiment.run(**MOVED)
    assert result.replaced("worker", on="victims")
    assert result.kept("worker", on="others")


@pytest.mark.worker_failure
def test_spread_deployments_survive_their_fullest_node(
    chaos: Chaos, traffic: MakeTraffic, serve_cluster: ServeCluster
) -> None:
    """The guide's two deployments keep `max_replicas_per_node`; each still answers when the fullest node is lost."""
    serve_cluster.deploy(_sleepy("one", 4, 3))
    serve_cluster.deploy(_sleepy("two", 2, 1))
    for name, most in (("one#SleepyPid", 3), ("two#SleepyPid", 1)):
        replicas = serve_cluster.of("replica", deployment=name)
        nodes = {c.node for c in replicas}
        assert all(sum(c.node == node for c in replicas) <= most for node in nodes)
    with traffic(), traffic(rate=5, route="one", wait=False) as one, traffic(rate=5, route="two", wait=False) as two:
        worker = chaos.worker("most_replicas").kill(hold=True)
        worker.wait_traffic_back("30s")
        since = worker.asked + 2.0
        worker.wait_at_rest()
        assert one.answered_by(since=since)
        assert two.answered_by(since=since)
        worker.heal()
        worker.wait_redundancy_back("90s")
    worker.wait_settled()


@pytest.mark.worker_failure
def test_replicas_run_again_on_the_survivor(chaos: Chaos, traffic: MakeTraffic, serve_cluster: ServeCluster) -> None:
    """Replicas of a lost worker run again on the survivor before it is back, and stay: Serve does not rebalance."""
    serve_cluster.deploy(_sleepy("unbound", 4, None))
    deployment = "unbound#SleepyPid"
    nodes = {c.node for c in serve_cluster.of("replica", deployment=deployment)}
    assert len(nodes) == 2, "with both workers there, replicas are spread over them"
    with traffic() as requests:
        worker = chaos.worker().kill(hold=True)
        serve_cluster.wait_replicas(deployment, 4, timeout="60s")
        (survivor,) = {c.node for c in serve_cluster.of("replica", deployment=deployment)}
        assert survivor not in {c.node for c in worker.fault.victims}
        assert worker.kept("replica@others")
        worker.heal()
        worker.wait_redundancy_back("90s")
        assert serve_cluster.imbalance(), "Serve rebalances now: say so in the docs"
    # Traffic lasts for some ten seconds only, so what a new HAProxy answers with 404 is a larger share.
    least = 0.95 if where_it_starts(serve_cluster) else 0.98
    room = room_for(serve_cluster, DELETED_WORKER, {"availability": least, "longest_outage": "5s"})
    requests.assert_available(**room)
    worker.wait_settled()
