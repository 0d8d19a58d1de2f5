"""Whether the requests of stages, or of Poisson arrivals, are there in all of the window: by their own schedule."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_serve_chaos.analysis.record import read_record
from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.events import StagesBegan, TrafficBegan
from pytest_serve_chaos.model import NO_DEMANDS, Expectations
from pytest_serve_chaos.results import result_of
from tests.unit.histories import FAULT, Story, request
from tests.unit.test_parts import several

AVAILABLE = replace(NO_DEMANDS, availability=0.5, window=20.0)


def staged(stages: str, rates: tuple[float, float], *, begun: float, expectations: Expectations = AVAILABLE) -> Story:
    """Traffic whose second stage begins with the fault, and whose stages began before it."""
    story = Story(expectations=expectations, begin=begun - 4.0)
    first, second = rates
    due = [begun - 4.0 + n / first for n in range(int((4.0 - begun) * first))] + [n / second for n in range(240)]
    story.requests = [request(FAULT + at) for at in due if at <= 60.0]
    story.add(begun - 4.0, TrafficBegan("traffic begins", rate=first, stages=stages))
    return story.add(begun, StagesBegan("stages begin"))


def result(story: Story) -> Result:
    return result_of(story.history(), story.experiment)


def test_how_far_requests_may_be_apart_is_that_of_the_stage_in_which_the_fault_comes() -> None:
    found = result(staged("20/s for 30s, 0.5/s", (20.0, 0.5), begun=-30.0))
    assert found.outcome == "passed", found.reasons


def test_a_gap_that_a_slow_stage_would_have_left_is_found_in_a_quick_one() -> None:
    story = staged("0.5/s for 30s, 20/s", (0.5, 20.0), begun=-30.0)
    story.requests = [r for r in story.requests if not 4.0 < r.scheduled - FAULT < 7.5]
    found = result(story)
    assert found.outcome == "inconclusive"
    assert "none was sent" in found.reasons[0]


def test_an_app_that_gets_a_tenth_of_the_requests_has_gaps_of_ten_times_that() -> None:
    story = several(Story(expectations=AVAILABLE, rate=10.0), {"often": 9, "seldom": 1})
    own = [r for r in story.requests if r.app == "seldom"]
    # Of Poisson arrivals at 1/s a gap of 3 s is no rarity.
    gone = [r for r in own if 4.5 < r.scheduled - FAULT < 7.0]
    story.requests = [r for r in story.requests if r not in gone]
    story.add(-10.0, TrafficBegan("traffic begins", rate=10.0, arrivals="poisson"))
    found = result(story)
    assert found.outcome == "passed", found.reasons


@pytest.mark.parametrize("source", ["", "traffic-1"])
def test_the_schedule_is_that_of_the_traffic_that_is_judged(source: str) -> None:
    story = Story()
    story.add(-10.0, TrafficBegan("traffic begins", source=source, rate=50.0))
    story.add(-9.0, TrafficBegan("traffic begins", source="traffic-2", rate=50.0, arrivals="poisson"))
    story.events = [replace(e, source=source) if e.kind == "expectations" else e for e in story.events]  # type: ignore[call-arg]
    story.requests = [replace(r, source=source) for r in story.requests]
    assert read_record(story.history(), story.experiment).spacing.uneven is None
