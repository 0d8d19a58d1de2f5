from __future__ import annotations

from pytest_serve_chaos.analysis.outages import traffic_back
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
