"""What is expected of a fault unless the user says otherwise, where that depends on more than the fault."""

from __future__ import annotations

import pytest

from pytest_serve_chaos.cluster.base import ClusterSpec, Profile
from pytest_serve_chaos.faults.defaults import expectations_for


@pytest.mark.parametrize(
    ("profile", "seconds", "all_are_kept"),
    [("fast", 8.0, True), ("fast", 9.0, False), ("fast", 20.0, False), ("guide", 20.0, True), ("guide", 90.0, False)],
)
def test_a_freeze_of_three_health_checks_may_cost_what_is_frozen(
    profile: Profile, seconds: float, all_are_kept: bool
) -> None:
    expected = expectations_for("worker_failure", "freeze", ClusterSpec(profile=profile), freeze_for=seconds)
    assert ("replica" in expected.kept) == all_are_kept
    assert ("replica@others" in expected.kept) != all_are_kept
    assert {"worker", "head", "controller"} <= set(expected.kept)


def test_without_fault_tolerance_nothing_is_promised_when_the_head_goes() -> None:
    assert expectations_for("head_failure", "kill", ClusterSpec(gcs="none")).kept == ()
    assert "worker" in expectations_for("head_failure", "kill", ClusterSpec()).kept


def test_the_machine_under_the_head_takes_the_head_with_it() -> None:
    machine = expectations_for("node_failure", "kill", ClusterSpec(), which="head")
    assert machine == expectations_for("head_failure", "kill", ClusterSpec())
