from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.traffic.arrivals import Arrivals

schedules = st.builds(Arrivals, start=st.floats(0, 1e7), rate=st.floats(0.01, 1e4))
indexes = st.integers(0, 10**6)


def test_requests_are_due_at_constant_spacing_from_the_start() -> None:
    arrivals = Arrivals(start=100.0, rate=4.0)
    assert [arrivals.due(index) for index in range(4)] == [100.0, 100.25, 100.5, 100.75]


def test_a_long_run_does_not_drift() -> None:
    assert Arrivals(start=0.0, rate=3.0).due(3 * 86_400) == 86_400.0


@settings(max_examples=50)
@given(schedules, indexes)
def test_no_request_is_due_before_the_one_ahead_of_it(arrivals: Arrivals, index: int) -> None:
    assert arrivals.due(index) <= arrivals.due(index + 1)
    assert math.isclose(arrivals.due(index + 1) - arrivals.due(index), 1 / arrivals.rate, abs_tol=1e-8)


@settings(max_examples=50)
@given(schedules, st.floats(-10, 1e4))
def test_those_due_by_a_moment_are_exactly_those_whose_time_has_come(arrivals: Arrivals, after: float) -> None:
    moment = arrivals.start + after
    count = arrivals.due_by(moment)
    assert count == 0 or arrivals.due(count - 1) <= moment
    assert arrivals.due(count) > moment


@settings(max_examples=50)
@given(schedules, indexes)
def test_a_request_is_among_those_due_by_its_own_time(arrivals: Arrivals, index: int) -> None:
    assert arrivals.due_by(arrivals.due(index)) > index


@pytest.mark.parametrize("rate", [0.0, -1.0, math.inf, math.nan])
def test_a_rate_that_no_schedule_can_have_is_refused(rate: float) -> None:
    with pytest.raises(SettingsError, match="rate"):
        Arrivals(start=0.0, rate=rate)
