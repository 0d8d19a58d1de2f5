"""What a schedule of rates says of the requests that are due."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.schedule import Pattern, Schedule, Stage

rates = st.sampled_from([0.1, 0.5, 2.0, 10.0, 50.0, 400.0])
lengths = st.integers(1, 600).map(lambda tenths: tenths / 10)
patterns: st.SearchStrategy[Pattern] = st.sampled_from(["constant", "poisson"])


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    stages = [Stage(draw(rates), draw(lengths)) for _ in range(draw(st.integers(0, 4)))]
    return Schedule((*stages, Stage(draw(rates))), draw(patterns))


STAGES = Schedule.of("20/s for 30s, 100/s for 1m, 5/s")


def test_a_user_writes_one_rate_or_stages() -> None:
    assert Schedule.of(50) == Schedule((Stage(50.0),))
    assert Schedule.of("20/s for 30s, 100/s for 30s").stages == (Stage(20.0, 30.0), Stage(100.0))
    assert STAGES.stages == (Stage(20.0, 30.0), Stage(100.0, 60.0), Stage(5.0))
    assert Schedule.of("20/s for 30, 1/s").stages[0].lasts == 30
    assert Schedule.of("0.5").stages == (Stage(0.5),)
    assert Schedule.of(" 2 / s  for 500ms ,4/s", "poisson") == Schedule((Stage(2.0, 0.5), Stage(4.0)), "poisson")


@pytest.mark.parametrize(
    "text",
    ["", "fast", "20/m for 30s", "20/s for", "20/s for 30s,", "20/s, 30/s", "0/s", "0/s for 3s, 2/s",
     "20/s for 0s, 3/s", "-2/s", "1/s for -3s, 2/s", "1.2.3/s", "nan/s", "20/s for 30s 100/s"],
)  # fmt: skip
def test_what_is_not_a_list_of_stages_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="is not a list of stages") as caught:
        Schedule.of(text)
    assert caught.value.fix == ("write it as '20/s for 30s, 100/s for 30s'",)


@pytest.mark.parametrize("rate", [0.0, -1.0, math.inf, math.nan])
def test_a_rate_that_no_schedule_can_have_is_refused(rate: float) -> None:
    with pytest.raises(SettingsError, match="is not a rate"):
        Schedule.of(rate)


def test_a_schedule_needs_an_endless_stage_and_a_pattern_that_there_is() -> None:
    for stages in ((), (Stage(1.0, 3.0),)):
        with pytest.raises(SettingsError):
            Schedule(stages)
    with pytest.raises(SettingsError, match="constant, poisson"):
        Schedule.of(1, "bursts")  # type: ignore[arg-type]


@given(schedules())
def test_what_it_writes_it_reads(schedule: Schedule) -> None:
    assert Schedule.of(str(schedule), schedule.arrivals) == schedule


def test_in_words() -> None:
    assert Schedule.of(50).words == "50 requests/s"
    assert Schedule.of("20/s for 30s, 100/s", "poisson").words == (
        "20 requests/s for 30 s, then 100 requests/s, Poisson arrivals"
    )


def test_rates_of_a_span() -> None:
    assert (STAGES.first, STAGES.most, STAGES.least()) == (20.0, 100.0, 5.0)
    assert STAGES.least(0, 30) == 20
    assert STAGES.least(0, 31) == 20
    assert STAGES.least(30, 60) == 100, "the first stage has ended by then"
    assert STAGES.least(30, 60.1) == 5
    assert STAGES.least(1000, 1) == 5
    assert STAGES.mean(60, 15) == 15 * 20 + 45 * 100
    assert STAGES.mean(10) == STAGES.surely(10) == 200


@given(schedules(), st.floats(0, 1e4), st.floats(0, 100))
def test_in_the_seconds_for_some_requests_so_many_are_due(schedule: Schedule, requests: float, since: float) -> None:
    lasting = schedule.seconds_for(requests, since)
    mean = schedule.mean(lasting, since)
    if schedule.arrivals == "constant":
        assert mean == pytest.approx(requests, abs=1e-5)
    else:
        assert mean - 3.5 * math.sqrt(mean) == pytest.approx(requests, abs=1e-4)
        assert schedule.surely(lasting, since) >= math.floor(requests - 1e-3)


@given(schedules(), lengths, st.floats(0, 100))
def test_requests_of_a_span_are_between_those_of_its_rates(schedule: Schedule, lasting: float, since: float) -> None:
    least, mean = schedule.least(since, lasting) * lasting, schedule.mean(lasting, since)
    assert least - 1e-6 <= mean <= schedule.at_most(lasting) + 1e-6
    assert schedule.surely(lasting, since) <= mean + 1e-6


def test_gaps() -> None:
    assert Schedule.of(4).spacing(20) == 0.25
    assert STAGES.spacing(20) == 0.05
    assert STAGES.spacing(20, 80) == 0.2
    # Of 1000 gaps of a Poisson stream at 50/s the longest is most often some 0.14 s.
    assert Schedule.of(50, "poisson").spacing(20) == pytest.approx(0.238, abs=0.001)
