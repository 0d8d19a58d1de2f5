"""When traffic is back, and how long a replica may go without a request before that is no chance."""

from __future__ import annotations

import random

import pytest

from pytest_serve_chaos.analysis.outages import traffic_back
from pytest_serve_chaos.final_check import idle_after
from pytest_serve_chaos.model import Outage


def outage(start: float, end: float | None) -> Outage:
    return Outage(start, end, lost=1, sent=1)


def test_traffic_that_was_never_away_is_back_at_once() -> None:
    assert traffic_back([], at=100.0) == 0.0


def test_traffic_is_back_at_the_end_of_the_last_outage() -> None:
    assert traffic_back([outage(101.0, 102.0), outage(105.0, 124.0)], at=100.0) == 24.0


def test_an_outage_over_before_the_fault_does_not_count() -> None:
    assert traffic_back([outage(90.0, 91.0)], at=100.0) == 0.0


def test_an_outage_that_the_fault_found_counts() -> None:
    assert traffic_back([outage(99.9, 100.5)], at=100.0) == 0.5


def test_without_an_end_traffic_never_came_back() -> None:
    assert traffic_back([outage(101.0, 102.0), outage(105.0, None)], at=100.0) is None


@pytest.mark.parametrize(("replicas", "rate"), [(50, 5.0), (4, 0.5), (6, 20.0), (1, 50.0)])
def test_by_chance_each_replica_has_answered_by_then(replicas: int, rate: float) -> None:
    requests = int(idle_after(replicas, rate) * rate)
    for seed in range(300):
        choice = random.Random(seed)
        assert len({choice.randrange(replicas) for _ in range(requests)}) == replicas


def test_it_takes_longer_with_fewer_requests() -> None:
    assert idle_after(50, 5.0) == pytest.approx(10 * idle_after(50, 50.0))


def test_without_replicas_nobody_waits_for_long() -> None:
    assert idle_after(0, 5.0) < 60
