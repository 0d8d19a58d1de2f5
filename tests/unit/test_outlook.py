"""How long an experiment will take, and why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_serve_chaos.analysis.demands import patience, window_for
from pytest_serve_chaos.cluster.waits import Waits
from pytest_serve_chaos.model import Expectations
from pytest_serve_chaos.outlook import Outlook, persistent_for
from pytest_serve_chaos.schedule import Pattern, Schedule

WAITS = Waits()


def outlook(
    rate: float | str, availability: float | None = None, *, arrivals: Pattern = "constant", timeout: float = 5.0,
    at: float = 0.0,
) -> Outlook:  # fmt: skip
    schedule = Schedule.of(rate, arrivals)
    demanded = Expectations(window=20.0, availability=availability, redundancy_back=120.0)
    expected = replace(demanded, window=window_for(demanded, schedule, at))
    return Outlook(expected, schedule, timeout, 2.0, at, 6, WAITS)


def test_it_says_how_long_and_why() -> None:
    assert outlook(10, 0.99).text == (
        "about 35 s: 4 s until steady state, 31 s of traffic judged (99 % takes 300 requests, 31 s at 10/s); longer if"
        " redundancy takes more than 21 s to be back; after that persistent connections get 10 s, each replica must"
        " answer within 15 s; at most 238 s"
    )


def test_few_requests_take_longer_to_reach_each_replica() -> None:
    assert outlook(0.5).text == (
        "about 67 s: 34 s until steady state, 20 s of traffic judged; and until redundancy is back; after that each"
        " replica must answer within 120 s; at most 425 s"
    )


def test_what_no_share_is_demanded_of_needs_no_reason() -> None:
    assert "20 s of traffic judged; longer if" in outlook(50).text


def test_a_fault_in_a_later_stage() -> None:
    text = outlook("20/s for 30s, 100/s", 0.99, at=35.0).text
    assert text.startswith("about 59 s: 4 s until steady state, 35 s until the fault, 20 s of traffic judged (99 % ")
    assert "(99 % takes 300 requests, 4 s in these stages)" in text


def test_slow_answers_take_longer() -> None:
    slow = outlook(10, 0.99, timeout=60.0).after_steady(4.5)
    assert slow.startswith("answers take up to 4.5 s, so about 31 s from now: 31 s of traffic judged")


def test_an_app_that_gets_few_requests_decides_how_long_it_takes() -> None:
    """One request in twenty is for the app: 0.5 a second."""
    whole = Schedule.of(10)
    demanded = Expectations(window=20.0, availability=0.99)
    rarest = whole.of_share(0.05)
    expected = replace(demanded, window=window_for(demanded, rarest))
    text = Outlook(expected, whole, 5.0, 2.0, 0.0, 6, WAITS, app="rare", of_app=rarest).text
    assert text.startswith("about 608 s: 4 s until steady state, 604 s of traffic judged")
    assert "(99 % takes 300 requests to the app rare, which gets the fewest, 604 s at 0.5/s)" in text


def test_an_app_that_is_hardly_ever_asked_is_steady_after_its_first_request() -> None:
    text = Outlook(Expectations(), Schedule.of(10), 5.0, 2.0, 0.0, 6, WAITS, "rare", Schedule.of(0.1)).text
    assert "10 s until steady state" in text


def test_poisson_arrivals_take_longer_to_be_as_many() -> None:
    even, chance = (outlook(10, 0.99, arrivals=arrivals).expected.window for arrivals in ("constant", "poisson"))
    assert even == 31.0
    assert chance == pytest.approx(37.7, abs=0.1)


@pytest.mark.parametrize(("usual", "more"), [(0.0, 0.0), (0.99, 0.0), (1.0, 1.0), (1.5, 2.0), (12.1, 13.0)])
def test_whole_seconds_more_are_judged_where_answers_take_some(usual: float, more: float) -> None:
    assert patience(usual) == more


@pytest.mark.parametrize(
    ("rate", "usual", "seconds"),
    [(2.0, 0.01, 10.0), (2.0, 0.99, 10.0), (2.0, 1.5, 15.0), (2.0, 4.5, 30.0), (0.5, 0.01, 15.0), (2.0, 90.0, 65.0)],
)
def test_a_persistent_connection_gets_five_requests_after_redundancy(rate: float, usual: float, seconds: float) -> None:
    assert persistent_for(WAITS, rate, usual) == seconds
