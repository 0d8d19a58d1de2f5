"""Over which time traffic by hand is judged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_serve_chaos.events import FaultAsked, FaultHealed
from pytest_serve_chaos.history import ExperimentLog, History
from pytest_serve_chaos.judged_time import JudgedTime
from pytest_serve_chaos.model import Expectations
from pytest_serve_chaos.schedule import Schedule

BEGUN, ASKED = 100.0, 110.0


def judged(*events: FaultAsked | FaultHealed, rate: float | str = 50.0) -> JudgedTime:
    log = ExperimentLog(History(), "it")
    for event in events:
        log.add(event)
    return JudgedTime(log, BEGUN, BEGUN, Schedule.of(rate, "constant"), usual=0.02)


def fault(*, at: float = ASKED, held_for: float = 0.0, injection: int = 1) -> FaultAsked:
    return FaultAsked("down", at=at, held_for=held_for, injection=injection)


def test_it_begins_with_the_first_fault_since_the_traffic_began() -> None:
    assert judged(fault(at=BEGUN - 1), fault(), fault(at=ASKED + 5)).asked == ASKED
    assert judged(fault(at=BEGUN - 1)).asked is None


@pytest.mark.parametrize(
    ("events", "needed"),
    [
        ((fault(),), 10.0),
        ((fault(held_for=30.0),), 40.0),
        ((fault(held_for=30.0), FaultHealed("healed", at=ASKED + 12, injection=1)), 22.0),
        ((fault(), fault(at=ASKED + 5, held_for=20.0, injection=2)), 35.0),
    ],
    ids=["ends at once", "lasts", "healed before its time", "the last of two"],
)
def test_traffic_is_needed_for_as_long_as_faults_last_and_then_as_long_as_usual(
    events: tuple[FaultAsked | FaultHealed, ...], needed: float
) -> None:
    assert judged(*events).usual_window(Expectations(window=20.0, availability=None), judged_for=10.0) == needed


@given(lasted=st.floats(0.0, 200.0), window=st.floats(1.0, 100.0))
def test_no_time_is_judged_in_which_nothing_was_sent(lasted: float, window: float) -> None:
    demanded = Expectations(window=window, availability=None)
    found = judged(fault()).window(demanded, last=ASKED + lasted)
    assert found == pytest.approx(min(window, max(lasted, 0.1)), abs=0.101)


def test_as_many_requests_as_an_availability_needs_take_their_time() -> None:
    demanded = Expectations(window=20.0, availability=0.99)
    assert judged(fault(), rate=5).usual_window(demanded, judged_for=10.0) > 50.0, "300 requests"
