"""Faults in the middle of autoscaling: neither what Serve adds nor what it takes away is the fault's doing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_serve_chaos.suite.autoscaled import DEPLOYMENT, ROUTE, autoscaled, wait_wanted

if TYPE_CHECKING:
    from pytest_serve_chaos.faults.chaos import Chaos
    from pytest_serve_chaos.fixtures import MakeTraffic
    from pytest_serve_chaos.handle import ServeCluster

LEAST, MOST = 2, 4
ONGOING = 2
FEW, MANY = 8.0, 24.0
"""Requests a second that leave Serve at its least, and how many more make it scale up to its most.

Persistent connections send some in addition: with three proxies 6 a second for each of the two traffics.
"""


@pytest.mark.replica_failure
def test_a_replica_is_lost_while_serve_scales_up(
    chaos: Chaos, traffic: MakeTraffic, serve_cluster: ServeCluster
) -> None:
    """Serve replaces a replica in addition to those that it starts for the traffic, and loses no other one."""
    serve_cluster.deploy(autoscaled(least=LEAST, most=MOST, ongoing=ONGOING, downscale_delay=600))
    with traffic(rate=FEW, route=ROUTE) as requests:
        assert len(serve_cluster.of("replica", deployment=DEPLOYMENT)) == LEAST
        with traffic(rate=MANY, route=ROUTE, wait=False):
            wait_wanted(serve_cluster, LEAST + 1, MOST)
            victim = chaos.replica(DEPLOYMENT).kill()
            victim.wait_redundancy_back(timeout="60s")
            wait_wanted(serve_cluster, MOST, MOST)
            serve_cluster.wait_replicas(DEPLOYMENT, MOST, timeout="60s")
        requests.assert_available(0.9, longest_outage="5s")
    assert victim.replaced("replica@victims")
    assert victim.kept("replica@others")


@pytest.mark.replica_failure
def test_a_replica_is_lost_while_serve_scales_down(
    chaos: Chaos, traffic: MakeTraffic, serve_cluster: ServeCluster
) -> None:
    """Serve replaces a replica that was to stay while it stops others, and goes no lower than its least."""
    serve_cluster.deploy(autoscaled(least=LEAST, most=MOST, ongoing=ONGOING, downscale_delay=3))
    with traffic(rate=FEW, route=ROUTE) as requests:
        with traffic(rate=MANY, route=ROUTE, wait=False):
            serve_cluster.wait_replicas(DEPLOYMENT, MOST, timeout="60s")
        wait_wanted(serve_cluster, LEAST, MOST - 1)
        victim = chaos.replica(DEPLOYMENT).kill()
        victim.wait_redundancy_back(timeout="60s")
        wait_wanted(serve_cluster, LEAST, LEAST)
        serve_cluster.wait_replicas(DEPLOYMENT, LEAST, timeout="60s")
        requests.assert_available(0.9, longest_outage="5s")
    assert victim.replaced("replica@victims")
    assert victim.kept("replica@others")
