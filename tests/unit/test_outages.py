from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_serve_chaos.analysis.outages import find_outages, length
from pytest_serve_chaos.model import Outage, Request, Slowness
from tests.unit.histories import request


def requests_of(line: str, *, rate: float = 1.0) -> list[Request]:
    """A request a character: `x` is lost."""
    return [request(i / rate, "ReadTimeout" if c == "x" else None) for i, c in enumerate(line)]


# A grid of tenths makes requests with the same scheduled time, and gaps of just the limit.
traffic = st.lists(
    st.builds(
        lambda tenth, error: request(tenth / 10, error), st.integers(0, 100), st.sampled_from([None, "ReadError"])
    )
)


def test_a_lost_request_counts_from_its_scheduled_time_until_the_next_is_answered() -> None:
    assert find_outages(requests_of("..xx..")) == (Outage(2.0, 4.008, lost=2, sent=3),)
    assert find_outages(requests_of("..xx.."), slowness=Slowness(typical=0.008)) == (Outage(2.0, 4.0, lost=2, sent=2),)


def test_a_third_lost_for_24_s_is_one_outage_of_24_s() -> None:
    requests = requests_of("." * 50 + "x.." * 400 + "." * 50, rate=50)
    (outage,) = find_outages(requests, slowness=Slowness(typical=0.008))
    assert length(outage, until=0.0) == pytest.approx(24.0, abs=0.05)
    assert (outage.lost, outage.sent) == (400, 1198)


def test_a_good_second_between_them_makes_two_outages() -> None:
    prompt = Slowness(typical=0.008)
    assert [o.start for o in find_outages(requests_of("x..x"), slowness=prompt, merge_gap=1.0)] == [0.0, 3.0]
    assert [o.start for o in find_outages(requests_of("x..x"), slowness=prompt, merge_gap=2.0)] == [0.0, 3.0]
    assert [o.start for o in find_outages(requests_of("x..x"), slowness=prompt, merge_gap=2.1)] == [0.0]


def test_where_requests_are_far_apart_a_good_one_between_two_lost_ones_ends_nothing() -> None:
    (outage,) = find_outages(requests_of("...." + "x." * 30 + "...."))
    assert length(outage, until=0.0) == pytest.approx(59.0, abs=0.1)


def test_an_outage_that_nothing_good_follows_has_no_end() -> None:
    (outage,) = find_outages(requests_of("..xx"))
    assert outage == Outage(2.0, None, lost=2, sent=2)
    assert length(outage, until=9.0) == 7.0


def test_merged_with_an_open_outage_the_end_stays_open() -> None:
    assert find_outages(requests_of("x.x", rate=4)) == (Outage(0.0, None, lost=2, sent=3),)


# -- requests that wait ------------------------------------------------------------------------------------------------

PROMPT = Slowness(after=1.0, typical=0.008, usual=0.02, gap=0.06)


def waiting(seconds: float, takes: Callable[[float], float], *, rate: float = 50.0) -> list[Request]:
    """Requests from 5 s before the fault to 40 s after it; those of the first `seconds` after it take what is given."""
    times = [i / rate for i in range(round(-5 * rate), round(40 * rate))]
    return [request(t, takes=takes(t) if 0 <= t < seconds else 0.008) for t in times]


def outages_after_the_fault(requests: list[Request], slowness: Slowness = PROMPT) -> list[object]:
    return [(o.start, o.end) for o in find_outages(requests, asked=0.0, slowness=slowness)]


def test_a_stall_whose_requests_are_all_answered_at_its_end_lasts_until_then() -> None:
    assert outages_after_the_fault(waiting(4.5, lambda t: 4.5 - t)) == [(0.0, pytest.approx(4.5, abs=0.02))]


def test_a_stall_of_a_third_of_the_requests_lasts_until_they_are_answered() -> None:
    requests = waiting(4.5, lambda t: 4.5 - t if round(t * 50) % 3 == 0 else 0.008)
    assert outages_after_the_fault(requests) == [(0.0, pytest.approx(4.5, abs=0.06))]


def test_a_third_that_waits_4_s_for_half_a_minute_is_an_outage_of_half_a_minute() -> None:
    requests = waiting(30.0, lambda t: 4.0 if round(t * 50) % 3 == 0 else 0.008)
    assert outages_after_the_fault(requests) == [(0.0, pytest.approx(30.0, abs=0.06))]


def test_an_ordinary_answer_at_the_moment_of_a_slow_one_is_not_held_up_with_it() -> None:
    # Every request of a second takes 2 s; 2 s later one that takes 60 ms ends together with one of them.
    requests = [request(t, takes=0.06) if t == 2.5 else r for r in waiting(1.0, lambda t: 2.0) for t in (r.scheduled,)]
    assert outages_after_the_fault(requests) == [(0.0, pytest.approx(1.0, abs=0.02))]


def test_a_stall_of_a_third_that_is_hardly_too_long_lasts_until_they_are_answered() -> None:
    # Only the first few waited for more than a second, and all the others for nearly as long.
    requests = waiting(1.15, lambda t: 1.15 - t if round(t * 50) % 3 == 0 else 0.008)
    assert outages_after_the_fault(requests) == [(0.0, pytest.approx(1.15, abs=0.07))]


def test_what_is_answered_within_the_limit_is_no_outage() -> None:
    assert outages_after_the_fault(waiting(30.0, lambda t: 0.9)) == []


def test_nobody_answered_for_long_is_an_outage_however_long_single_requests_may_take() -> None:
    # One in fifteen takes 4 s in steady state, so one that waits 4.5 s is nothing unusual. That nobody is answered is.
    ranks = Slowness(after=5.0, typical=0.008, usual=4.0, gap=0.06)
    assert outages_after_the_fault(waiting(4.5, lambda t: 4.5 - t), ranks) == [(0.0, pytest.approx(4.5, abs=0.02))]
    assert outages_after_the_fault(waiting(0.9, lambda t: 0.9 - t), ranks) == []


def test_one_long_request_that_dies_with_the_victim_is_no_outage_of_its_length() -> None:
    requests = [request(-4.0, "RemoteProtocolError", takes=4.01), *waiting(0.0, lambda t: 0.008)]
    assert outages_after_the_fault(requests) == [(0.0, pytest.approx(0.02, abs=0.001))]


def test_what_had_ended_before_the_fault_is_none_of_its_doing() -> None:
    requests = [request(-3.0, "ReadTimeout", takes=1.0), *waiting(0.0, lambda t: 0.008)]
    assert outages_after_the_fault(requests) == []


def test_one_late_answer_at_the_end_of_traffic_leaves_no_outage_open() -> None:
    requests = [*waiting(0.0, lambda t: 0.008), request(40.0, takes=1.4)]
    assert outages_after_the_fault(requests) == [(40.0, pytest.approx(41.4))]


def test_answers_that_stay_late_never_end_the_outage() -> None:
    assert outages_after_the_fault(waiting(40.0, lambda t: 4.9)) == [(0.0, None)]


@given(traffic)
def test_no_loss_no_outage(requests: list[Request]) -> None:
    assert bool(find_outages(requests)) == any(r.lost for r in requests)


@given(traffic, st.floats(0, 3))
def test_every_lost_request_is_in_exactly_one_outage(requests: list[Request], merge_gap: float) -> None:
    outages = find_outages(requests, merge_gap=merge_gap)
    assert sum(outage.lost for outage in outages) == sum(r.lost for r in requests)
    for lost in (r for r in requests if r.lost):
        holding = [o for o in outages if o.start <= lost.scheduled and (o.end is None or lost.scheduled < o.end)]
        assert len(holding) == 1
    assert sum(o.lost for o in outages) == sum(r.lost for r in requests)


@given(traffic, st.randoms(use_true_random=False))
def test_the_order_of_the_records_does_not_matter(requests: list[Request], shuffle: random.Random) -> None:
    shuffled = requests.copy()
    shuffle.shuffle(shuffled)
    assert find_outages(shuffled) == find_outages(requests)


@given(traffic, st.floats(0.01, 3))
def test_between_two_outages_all_is_well_for_the_gap(requests: list[Request], merge_gap: float) -> None:
    outages = find_outages(requests, merge_gap=merge_gap)
    for one, other in pairwise(outages):
        assert one.end is not None
        assert other.start - one.end >= merge_gap


def test_late_answers_that_come_when_traffic_has_ended_make_no_outage() -> None:
    # Nobody asks any more, so nobody is answered; the last request had its answer long before the late one.
    requests = waiting(0.5, lambda t: 20.0)
    until_then = [*(r for r in requests if r.scheduled < 2.0), request(2.0, takes=0.006)]
    assert outages_after_the_fault(until_then) == [(0.0, pytest.approx(0.5, abs=0.02))]


def test_a_long_request_among_the_last_ones_makes_no_outage() -> None:
    # One in ten takes 0.3 s longer than the others: no answer comes between theirs and the last.
    requests = [request(i / 50, takes=0.7 if i % 10 == 9 else 0.4) for i in range(-200, 200)]
    mixed = Slowness(after=0.75, typical=0.4, usual=0.7, gap=0.02)
    assert outages_after_the_fault(requests, mixed) == []


def test_a_normal_request_is_not_away_because_a_late_answer_comes_at_the_same_moment() -> None:
    # All wait 6 s for half a second; while their answers come, one in ten takes a moment longer than is usual.
    requests = waiting(0.5, lambda t: 6.0)
    slower = [
        request(r.scheduled, takes=0.045) if i % 10 == 0 and r.scheduled > 1 else r for i, r in enumerate(requests)
    ]
    assert outages_after_the_fault(slower) == [(0.0, pytest.approx(0.5, abs=0.02))]
