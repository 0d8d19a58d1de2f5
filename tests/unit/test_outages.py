from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_serve_chaos.analysis.outages import find_outages, length, until_the_first_in_flight
from pytest_serve_chaos.model import Outage, Request
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


def test_a_lost_request_counts_from_its_scheduled_time_to_that_of_the_next_good_one() -> None:
    assert find_outages(requests_of("..xx..")) == (Outage(2.0, 4.0, lost=2, sent=2),)


def test_a_third_lost_for_24_s_is_one_outage_of_24_s() -> None:
    (outage,) = find_outages(requests_of("." * 50 + "x.." * 400 + "." * 50, rate=50))
    assert length(outage, until=0.0) == pytest.approx(24.0, abs=0.05)
    assert (outage.lost, outage.sent) == (400, 1198)


def test_a_good_second_between_them_makes_two_outages() -> None:
    assert [o.start for o in find_outages(requests_of("x..x"))] == [0.0, 3.0]
    assert [o.start for o in find_outages(requests_of("x..x"), merge_gap=2.0)] == [0.0, 3.0]
    assert [o.start for o in find_outages(requests_of("x..x"), merge_gap=2.1)] == [0.0]


def test_an_outage_that_nothing_good_follows_has_no_end() -> None:
    (outage,) = find_outages(requests_of("..xx"))
    assert outage == Outage(2.0, None, lost=2, sent=2)
    assert length(outage, until=9.0) == 7.0


def test_merged_with_an_open_outage_the_end_stays_open() -> None:
    assert find_outages(requests_of("x.x", rate=4)) == (Outage(0.0, None, lost=2, sent=3),)


@given(traffic)
def test_no_loss_no_outage(requests: list[Request]) -> None:
    assert bool(find_outages(requests)) == any(r.lost for r in requests)


@given(traffic, st.floats(0, 3))
def test_every_lost_request_is_in_exactly_one_outage(requests: list[Request], merge_gap: float) -> None:
    outages = find_outages(requests, merge_gap=merge_gap)
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


def numbered(*indexes: int) -> list[Request]:
    """Requests of one stream at 10 a second that have ended; those that are left out are in flight."""
    return [replace(request(index / 10), index=index) for index in indexes]


def test_what_was_answered_after_a_request_in_flight_is_no_quiet_time_yet() -> None:
    ended = until_the_first_in_flight(numbered(7, 8, 10, 11, 12))
    assert [r.index for r in ended] == [7, 8]


def test_requests_that_have_all_ended_are_all_there_in_whatever_order_they_did() -> None:
    assert until_the_first_in_flight(numbered(9, 7, 8)) == tuple(numbered(7, 8, 9))


def test_indexes_begin_anew_with_new_traffic() -> None:
    later = [replace(r, scheduled=r.scheduled + 100.0) for r in numbered(0, 1, 3)]
    assert [r.index for r in until_the_first_in_flight([*numbered(41, 42), *later])] == [41, 42, 0, 1]


@given(st.sets(st.integers(0, 30)))
def test_all_before_the_first_that_is_left_out(indexes: set[int]) -> None:
    found = [r.index for r in until_the_first_in_flight(numbered(*indexes))]
    assert found == [i for i in sorted(indexes) if set(range(min(indexes), i)) <= set(indexes)]
