"""When requests of a schedule are due: by their number, the seed and the stages alone."""

from __future__ import annotations

import random
import statistics
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_serve_chaos.schedule import Schedule, Stage
from pytest_serve_chaos.traffic.arrivals import Arrivals, Timetable
from tests.unit.test_schedule import schedules


@st.composite
def timetables(draw: st.DrawFn) -> Timetable:
    """Some whose stages have begun, some whose stages have not."""
    start = draw(st.floats(0, 1e6))
    table = Timetable(start, draw(schedules()), draw(st.integers(0, 5)))
    if draw(st.booleans()):
        table.begin_stages(start + draw(st.floats(0, 100)))
    return table


START = 100.0


def begun(rate: float | str, *, steady: float = 0.0, **keywords: object) -> Timetable:
    schedule = Schedule.of(rate, keywords.get("arrivals", "constant"))  # type: ignore[arg-type]
    table = Timetable(START, schedule, keywords.get("seed", 0))
    table.begin_stages(START + steady)
    return table


@settings(max_examples=50)
@given(st.floats(0, 1e6), st.floats(0.01, 1e4), st.integers(0, 10**6))
def test_one_rate_is_due_as_constant_arrivals_are(start: float, rate: float, index: int) -> None:
    table = Timetable(start, Schedule.of(rate))
    assert table.due(index) == Arrivals(start, rate).due(index)


@settings(max_examples=200)
@given(timetables(), st.integers(0, 3000))
def test_no_request_is_due_before_the_one_ahead_of_it(table: Timetable, index: int) -> None:
    assert table.due(index) <= table.due(index + 1)


@settings(max_examples=200)
@given(timetables(), st.floats(-10, 300))
def test_those_due_by_a_moment_are_exactly_those_whose_time_has_come(table: Timetable, after: float) -> None:
    moment = table.due(0) + after
    count = table.due_by(moment)
    assert count == 0 or table.due(count - 1) <= moment
    assert table.due(count) > moment


@settings(max_examples=100)
@given(timetables(), st.integers(0, 3000))
def test_a_request_is_among_those_due_by_its_own_time(table: Timetable, index: int) -> None:
    assert table.due_by(table.due(index)) > index


@settings(max_examples=100)
@given(schedules(), st.floats(0, 200), st.floats(0.1, 200))
def test_as_many_are_due_as_the_rates_say(schedule: Schedule, since: float, lasting: float) -> None:
    table = Timetable(START, schedule, 3)
    table.begin_stages(START)
    due = table.due_by(START + since + lasting) - table.due_by(START + since)
    mean = schedule.mean(lasting, since)
    spread = 1.0 + 1e-6 if schedule.arrivals == "constant" else 6 * mean**0.5 + 8
    assert abs(due - mean) <= spread


def test_the_boundaries_of_stages_are_exact() -> None:
    table = begun("20/s for 30s, 100/s for 10s, 5/s")
    assert table.due(599) == pytest.approx(START + 29.95)
    assert table.due(600) == START + 30, "the first of the second stage"
    assert table.due(601) == START + 30.01
    assert table.due(1600) == START + 40
    assert table.due(1601) == START + 40.2
    assert table.due(1600 + 5 * 3600) == START + 40 + 3600, "the last rate goes on"


def test_until_the_stages_begin_the_first_rate_holds() -> None:
    table = Timetable(START, Schedule.of("2/s for 10s, 100/s"))
    assert table.due(200) == START + 100
    table.begin_stages(START + 42.25)
    assert table.due(104) == START + 52
    # Half a request was due since then when the rate changed.
    assert table.due(105) == pytest.approx(START + 52.25 + 0.5 / 100)


@given(schedules(), st.floats(0, 60), st.integers(0, 2))
def test_when_stages_begin_nothing_that_was_due_changes(schedule: Schedule, steady: float, seed: int) -> None:
    table = Timetable(START, schedule, seed)
    count = min(2000, table.due_by(START + steady))
    before = [table.due(n) for n in range(count)]
    table.begin_stages(START + steady)
    assert [table.due(n) for n in range(count)] == before


def test_the_seed_says_when_poisson_arrivals_are_due_in_whatever_order_somebody_asks() -> None:
    forward, backward = (begun("20/s for 5s, 90/s", arrivals="poisson", seed=7) for _ in range(2))
    moments = [forward.due(n) for n in range(500)]
    assert [backward.due(n) for n in reversed(range(500))] == moments[::-1]
    other = begun("20/s for 5s, 90/s", arrivals="poisson", seed=8)
    assert [other.due(n) for n in range(500)] != moments
    assert random.Random("7").expovariate(1.0) / 20 == pytest.approx(moments[0] - START)


def test_gaps_of_poisson_arrivals_are_those_of_independent_users() -> None:
    table = Timetable(0.0, Schedule((Stage(50.0),), "poisson"), 1)
    due = [table.due(n) for n in range(20_000)]
    gaps = [later - earlier for earlier, later in pairwise(due)]
    assert statistics.mean(gaps) == pytest.approx(1 / 50, rel=0.03)
    assert statistics.stdev(gaps) == pytest.approx(1 / 50, rel=0.03), "of an exponential distribution: the mean"
    per_second = [sum(second <= moment < second + 1 for moment in due[:3000]) for second in range(50)]
    assert statistics.variance(per_second) == pytest.approx(50, rel=0.5)


@pytest.mark.parametrize("seed", range(20))
def test_no_gap_of_poisson_arrivals_is_longer_than_the_schedule_says(seed: int) -> None:
    schedule = Schedule.of(10, "poisson")
    table = Timetable(0.0, schedule, seed)
    due = [0.0, *(table.due(n) for n in range(table.due_by(100.0)))]
    assert max(b - a for a, b in pairwise(due)) <= schedule.spacing(100)
