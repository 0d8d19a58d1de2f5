"""The guide's "head node failure", with GCS fault tolerance and without."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.errors import CommandFailed, WaitTimeout
from pytest_serve_chaos.suite.on_kubernetes import DEAD_HEAD, behind_a_service, room_for
from pytest_serve_chaos.suite.with_haproxy import where_it_starts

if TYPE_CHECKING:
    from pytest_serve_chaos.experiment import Experiment
    from pytest_serve_chaos.faults.chaos import Chaos
    from pytest_serve_chaos.fixtures import MakeTraffic
    from pytest_serve_chaos.handle import ServeCluster


@pytest.mark.head_failure
def test_head_lost(experiment: Experiment, serve_cluster: ServeCluster) -> None:
    """With GCS fault tolerance, the workers keep serving while the head is down, and keep their replicas."""
    result = experiment.run(**(where_it_starts(serve_cluster) | behind_a_service(serve_cluster, DEAD_HEAD)))
    assert result.replaced("head")
    assert result.kept("replicas", "proxies", on="workers")


@pytest.mark.head_failure
def test_no_updates_while_the_head_is_away(chaos: Chaos, traffic: MakeTraffic, serve_cluster: ServeCluster) -> None:
    """While the GCS is away nothing can be updated and a dead replica is not replaced; afterwards both work."""
    app = serve_cluster.of("replica")[0].deployment or ""
    with traffic() as requests:
        head = chaos.head.kill(hold=True)
        # Ray itself refuses it; KubeRay writes it down, and then nothing happens.
        with pytest.raises((CommandFailed, WaitTimeout)):
            serve_cluster.update(app, num_replicas=5, timeout="8s")
        replica = chaos.replica(on="workers").kill()
        assert replica.still_missing_after("8s")
        head.heal()
        replica.wait_redundancy_back(timeout="90s")
    room = room_for(serve_cluster, DEAD_HEAD, {"availability": 0.97, "longest_outage": "5s"})
    requests.assert_available(**room)
    head.wait_settled()
    assert head.kept("worker")
    assert replica.replaced("replica@victims")


@pytest.mark.head_failure
def test_storage_namespace(chaos: Chaos, serve_cluster: ServeCluster) -> None:
    """A new head finds its state under its own namespace, and another run with the same Redis inherits nothing."""
    namespace, *_ = serve_cluster.redis_keys()
    head = chaos.head.kill()
    head.wait_redundancy_back()
    assert head.replaced("head", "gcs")
    assert head.kept("workers")
    now, *keys = serve_cluster.redis_keys()
    assert now == namespace
    assert keys
    assert not [key for key in keys if not key.startswith(f"RAY{namespace}@")]
    with contextlib.closing(serve_cluster.alongside()) as another:
        assert len(another.dashboard.nodes()) == 1
        assert not another.dashboard.actors()
        assert not another.dashboard.serve().apps
    # A dashboard that is busy may have left the last question unanswered.
    clock.wait_until("nothing to be missing", lambda: _all_there(serve_cluster), timeout=15.0)


def _all_there(cluster: ServeCluster) -> bool | NotYet:
    missing = cluster.missing()
    return NotYet("; ".join(missing)) if missing else True


@pytest.mark.head_failure
@pytest.mark.serve_cluster(gcs="none")
def test_head_lost_without_fault_tolerance(experiment: Experiment) -> None:
    """Without GCS fault tolerance all workers restart with the head, and the app is away until they are back."""
    result = experiment.measure(redundancy_back="240s")
    assert result.verdict.outcome == "failed", result.verdict
    assert result.replaced("worker")
    assert result.replaced("replicas")
    assert result.longest_outage is not None
    assert result.longest_outage > 2.0
    assert result.settled is not None, result.verdict
