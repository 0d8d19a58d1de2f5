"""The guide's "controller failure"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_serve_chaos.suite.autoscaled import DEPLOYMENT, ROUTE, autoscaled
from pytest_serve_chaos.suite.known_defects import STALE_PROXIES, expected_failure

if TYPE_CHECKING:
    from pytest_serve_chaos.experiment import Experiment
    from pytest_serve_chaos.faults.chaos import Chaos
    from pytest_serve_chaos.fixtures import MakeTraffic
    from pytest_serve_chaos.handle import ServeCluster


@pytest.mark.controller_failure
def test_controller_lost(experiment: Experiment) -> None:
    """Traffic outlives the controller; Ray restarts the same actor, and replicas and proxies are kept."""
    # A late answer is not a lost one: Serve on two busy cores may take some seconds.
    result = experiment.sending(timeout=20.0).run(lost_beyond_in_flight=0)
    assert result.replaced("controller")


@pytest.mark.controller_failure(replacement="new_actor")
def test_controller_killed_as_in_the_guide(
    experiment: Experiment, serve_cluster: ServeCluster, request: pytest.FixtureRequest
) -> None:
    """The guide's own step, `ray.kill(no_restart=True)`: a new actor takes over, and all hear it."""
    request.applymarker(expected_failure(STALE_PROXIES, serve_cluster.description.ray_version))
    experiment.run(lost_beyond_in_flight=0)


@pytest.mark.controller_failure(how="freeze")
def test_nothing_is_replaced_or_scaled_while_the_controller_is_away(
    chaos: Chaos, traffic: MakeTraffic, serve_cluster: ServeCluster
) -> None:
    """While the controller is away a dead replica is not replaced and load does not scale; afterwards both happen."""
    serve_cluster.deploy(autoscaled(least=1, most=2, ongoing=1, downscale_delay=600))
    with traffic() as requests:
        controller = chaos.controller.freeze(for_="120s")
        victim = chaos.replica("sleepy_pid#SleepyPid").kill()
        with traffic(rate=8, route=ROUTE, wait=False):
            assert victim.still_missing_after("8s")
            assert len(serve_cluster.of("replica", deployment=DEPLOYMENT)) == 1
            controller.heal()
            serve_cluster.wait_replicas(DEPLOYMENT, 2, timeout="60s")
        victim.wait_redundancy_back(timeout="60s")
    requests.assert_available(0.98, longest_outage="2s")
    controller.wait_settled()
    assert controller.kept("controller", "proxies")
    assert victim.replaced("replica@victims")
