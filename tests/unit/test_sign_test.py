"""The sign test of pairs holds at every look: what it says of two equal sides is known exactly."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pytest_serve_chaos.analysis.sign_test import (
    Signs,
    evidence,
    median_interval,
    median_interval_of_all_looks,
    pairs_needed,
    share_interval,
    share_interval_of_all_looks,
)

counts = st.integers(0, 200)


def test_nine_pairs_that_all_go_one_way_show_a_difference() -> None:
    signs = Signs.of([14.0 - 1.0] * 9)

    assert signs.p == pytest.approx(0.0105, abs=1e-4)
    assert pairs_needed(0.05) == 7


def test_equal_pairs_say_nothing() -> None:
    assert Signs.of([0.0] * 50).p == 1
    assert Signs.of([0.0, 3.0, 0.0, 3.0]).p == Signs.of([3.0, 3.0]).p


@given(counts, counts)
def test_the_stake_is_fair_where_neither_side_is_higher_more_often(higher: int, lower: int) -> None:
    after = [math.exp(evidence(higher + 1, lower)), math.exp(evidence(higher, lower + 1))]

    assert math.fsum(after) / 2 == pytest.approx(math.exp(evidence(higher, lower)), rel=1e-6)


def test_two_equal_sides_differ_in_less_than_one_of_twenty_comparisons_of_300_looks() -> None:
    limit = math.log(20)
    going = {0: 1.0}  # higher -> how likely it is that nothing was found so far
    for pairs in range(1, 301):
        after: dict[int, float] = {}
        for higher, chance in going.items():
            for one in (higher, higher + 1):
                if evidence(one, pairs - one) < limit:
                    after[one] = after.get(one, 0.0) + chance / 2
        going = after

    assert 0.95 < math.fsum(going.values()) < 1


@given(counts, counts)
def test_the_interval_of_the_share_has_what_was_seen(higher: int, lower: int) -> None:
    least, most = share_interval(higher, lower, 0.95)

    assert 0 <= least <= most <= 1
    if higher + lower:
        assert least - 1e-9 <= higher / (higher + lower) <= most + 1e-9


@given(counts, counts)
def test_both_sides_are_treated_alike(higher: int, lower: int) -> None:
    least, most = share_interval(higher, lower, 0.95)

    assert share_interval(lower, higher, 0.95) == pytest.approx((1 - most, 1 - least), abs=1e-6)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=40))
def test_a_difference_and_an_interval_without_zero_come_together(differences: list[float]) -> None:
    least, most = median_interval(differences)
    now = evidence(sum(d > 0 for d in differences), sum(d < 0 for d in differences))

    if least > 0 or most < 0:
        assert now >= math.log(20)


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=40))
def test_the_share_and_the_p_value_of_all_looks_agree(differences: list[float]) -> None:
    """Also where the evidence was greater at an earlier look."""
    signs = Signs.of(differences)
    assume(not (signs.p <= 0.05 and (signs.higher > signs.lower) != signs.rises))
    least, most = share_interval_of_all_looks(differences, 0.95)

    assert (least > 0.5 or most < 0.5) == (signs.p <= 0.05)


def test_what_an_early_look_has_ruled_out_stays_ruled_out() -> None:
    """Twelve pairs went up, then nine went down: the p-value is that of the twelve, and the interval is too."""
    differences = [3.0] * 12 + [-3.0] * 9

    assert Signs.of(differences).p < 0.05
    assert median_interval(differences) == (-3.0, 3.0)
    assert median_interval_of_all_looks(differences, 0.95) == (3.0, 3.0)


def test_too_few_pairs_have_no_interval() -> None:
    assert median_interval([1.0] * 6) == (-math.inf, math.inf)


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), max_size=60), st.integers(0, 30))
def test_the_best_that_can_still_come_is_no_worse_than_what_is_there(differences: list[float], more: int) -> None:
    signs = Signs.of(differences)

    assert 0 <= signs.least_p(more) <= signs.p <= 1
