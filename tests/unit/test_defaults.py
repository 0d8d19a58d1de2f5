"""What is expected of a fault unless the user says otherwise, where that depends on more than the fault."""

from __future__ import annotations

import pytest

from pytest_serve_chaos.cluster.base import ClusterSpec, Profile
from pytest_serve_chaos.faults.catalogue import BUILT_IN
from pytest_serve_chaos.model import Expectations


def expectations_for(kind: str, how: str, cluster: ClusterSpec, **keywords: object) -> Expectations:
    return BUILT_IN.choose(kind, {"how": how, **keywords}).expectations(cluster)


@pytest.mark.parametrize(
    ("profile", "seconds", "all_are_kept"),
    [("fast", 8.0, True), ("fast", 9.0, False), ("fast", 20.0, False), ("guide", 20.0, True), ("guide", 90.0, False)],
)
def test_a_freeze_of_three_health_checks_may_cost_what_is_frozen(
    profile: Profile, seconds: float, all_are_kept: bool
) -> None:
    expected = expectations_for("worker_failure", "freeze", ClusterSpec(profile=profile), for_=seconds)
    assert ("replica" in expected.kept) == all_are_kept
    assert ("replica@others" in expected.kept) != all_are_kept
    assert {"worker", "head", "controller"} <= set(expected.kept)


def test_without_fault_tolerance_nothing_is_promised_when_the_head_goes() -> None:
    assert expectations_for("head_failure", "kill", ClusterSpec(gcs="none")).kept == ()
    assert "worker" in expectations_for("head_failure", "kill", ClusterSpec()).kept


def test_the_machine_under_the_head_takes_the_head_with_it() -> None:
    machine = expectations_for("node_failure", "kill", ClusterSpec(), which="head")
    assert machine == expectations_for("head_failure", "kill", ClusterSpec())


@pytest.mark.parametrize("seconds", [5.0, 60.0])
def test_an_app_may_be_away_while_it_is_frozen_and_not_much_longer(seconds: float) -> None:
    expected = expectations_for("head_failure", "freeze", ClusterSpec(), for_=seconds)
    assert (expected.longest_outage, expected.traffic_back, expected.redundancy_back) == (
        seconds + 10,
        seconds + 30,
        seconds + 60,
    )
    assert expected.availability is None
    assert expected.demands_traffic


@pytest.mark.parametrize(("seconds", "window"), [(5.0, 20.0), (20.0, 30.0), (60.0, 70.0)])
def test_a_share_of_requests_holds_over_a_freeze_and_the_return(seconds: float, window: float) -> None:
    assert expectations_for("proxy_failure", "freeze", ClusterSpec(), for_=seconds).window == window
    assert expectations_for("worker_failure", "freeze", ClusterSpec(), for_=seconds).window == window


def test_only_of_redis_nothing_is_demanded_by_default() -> None:
    """Where nothing is demanded of the requests nothing can be passed."""
    assert [fault.name for fault in BUILT_IN if not fault.expectations.demands_traffic] == ["redis_failure"]


def test_the_profile_of_the_guide_allows_more_time_for_redundancy() -> None:
    guide = expectations_for("head_failure", "kill", ClusterSpec(profile="guide"))
    assert guide.redundancy_back == 300.0
    assert expectations_for("redis_failure", "kill", ClusterSpec(profile="guide")).redundancy_back is None


@pytest.mark.parametrize("fault", ["head_failure", "worker_failure"])
@pytest.mark.parametrize("seconds", [5.0, 90.0])
def test_a_hold_moves_the_return_and_allows_no_more_losses(fault: str, seconds: float) -> None:
    short = expectations_for(fault, "kill", ClusterSpec(), hold=True)
    long = expectations_for(fault, "kill", ClusterSpec(), hold=True, for_=seconds)
    assert (long.window, long.traffic_back, long.redundancy_back) == (20 + seconds, 30 + seconds, 120 + seconds)
    assert (long.availability, long.longest_outage, long.kept) == (short.availability, short.longest_outage, short.kept)


def test_a_machine_that_is_away_for_a_time_needs_no_hold() -> None:
    assert expectations_for("node_failure", "stop", ClusterSpec(), for_=60.0).window == 80.0
    assert expectations_for("redis_failure", "kill", ClusterSpec(), hold=True, for_=60.0).window == 80.0
