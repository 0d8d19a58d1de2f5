"""Examples such as those of the README and the how-to, on a real cluster."""

from __future__ import annotations

import pytest

from pytest_serve_chaos.experiment import Experiment
from pytest_serve_chaos.faults.chaos import Chaos
from pytest_serve_chaos.fixtures import MakeTraffic


@pytest.mark.head_failure
def test_losing_the_head_costs_next_to_nothing(experiment: Experiment) -> None:
    """The marker says what breaks; the experiment does the rest, and raises unless the verdict is passed."""
    result = experiment.run(longest_outage="2s", availability=0.98)
    assert result.replaced("head")
    assert result.kept("replicas", on="workers")


@pytest.mark.controller_failure
def test_traffic_outlives_the_controller(chaos: Chaos, traffic: MakeTraffic) -> None:
    """The same by hand, for what no ready-made experiment says."""
    with traffic() as requests, chaos.controller.kill() as injection:
        injection.wait_traffic_back(timeout="10s")
        injection.wait_redundancy_back(timeout="60s")
        requests.assert_available(0.97, longest_outage="2s")
        injection.wait_settled()
    assert injection.replaced("controller")
    assert injection.kept("replicas", "proxies")


@pytest.mark.head_failure
def test_a_replica_dies_while_the_head_is_away(chaos: Chaos, traffic: MakeTraffic) -> None:
    """Faults nest: what a cluster cannot repair while it is without its head, it repairs afterwards."""
    with traffic(), chaos.head.kill(hold=True) as head:
        replica = chaos.replica("SleepyPid", on="workers").kill()
        assert replica.still_missing_after("8s")
        head.heal()
        replica.wait_redundancy_back(timeout="60s")


@pytest.mark.serve_cluster(gcs="none")
@pytest.mark.head_failure
def test_what_an_outage_costs_without_fault_tolerance(experiment: Experiment) -> None:
    measured = experiment.measure()
    assert measured.outcome == "failed"
    assert measured.longest_outage is not None
    assert measured.longest_outage > 2
    assert measured.traffic_back is not None
    assert measured.replaced("workers")
