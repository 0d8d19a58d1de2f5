"""The exact rank test agrees with a count of all ways to share out the values."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_serve_chaos.analysis.rank_test import holm, least_p, rank_test, shift, trials_needed

values = st.lists(st.sampled_from([0.0, 0.0, 1.0, 2.0, 30.0, math.inf]), min_size=1, max_size=5)
p_values = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def p_of_all_ways(old: list[float], new: list[float]) -> float:
    everything = [*old, *new]
    ranks = [
        sum(b < a for b in everything) + (sum(b == a for b in everything) + 1) / 2 for a in everything
    ]  # fmt: skip
    middle = sum(ranks) * len(new) / len(ranks)
    seen = abs(sum(ranks[len(old) :]) - middle)
    ways = [abs(sum(way) - middle) for way in itertools.combinations(ranks, len(new))]
    return sum(way >= seen - 1e-9 for way in ways) / len(ways)


@given(values, values)
@settings(max_examples=60)
def test_it_counts_all_ways_to_share_out_the_values(old: list[float], new: list[float]) -> None:
    assert rank_test(old, new).p == pytest.approx(p_of_all_ways(old, new))


@given(values, values)
def test_both_sides_are_treated_alike(old: list[float], new: list[float]) -> None:
    there, back = rank_test(old, new), rank_test(new, old)

    assert there.p == pytest.approx(back.p)
    assert there.superiority == pytest.approx(1 - back.superiority)


def test_four_against_four_without_overlap_is_the_one_in_textbooks() -> None:
    found = rank_test([1, 2, 3, 4], [5, 6, 7, 8])

    assert found.p == least_p(4, 4) == pytest.approx(2 / 70)
    assert found.superiority == 1


def test_the_interval_of_the_shift_is_the_one_in_textbooks() -> None:
    # Hollander and Wolfe: with 5 against 5 values it has the 3rd smallest to the 3rd greatest difference.
    middle, (low, high) = shift([1, 2, 3, 4, 5], [11, 12, 13, 14, 25])
    differences = sorted(b - a for a in (1, 2, 3, 4, 5) for b in (11, 12, 13, 14, 25))

    assert (low, high) == (differences[2], differences[-3])
    assert middle == 10


def test_what_never_came_back_is_higher_than_all_that_did() -> None:
    assert rank_test([5.0] * 5, [math.inf] * 5).superiority == 1
    assert shift([math.inf] * 5, [math.inf] * 5) == (0.0, (0.0, 0.0))


def test_three_trials_against_three_cannot_show_anything() -> None:
    assert rank_test([1, 1, 1], [9, 9, 9]).p == pytest.approx(0.1)
    assert trials_needed(0.05) == 4


def test_hundreds_of_trials_take_no_longer_than_a_moment() -> None:
    low = [float(i % 17) for i in range(150)]

    assert rank_test(low, [one + 8 for one in low]).p < 0.001
    assert rank_test(low, low).p == 1


@given(p_values)
def test_corrected_p_values_are_no_smaller_and_in_the_same_order(given_p: list[float]) -> None:
    corrected = holm(given_p)

    assert all(p <= one <= 1 for p, one in zip(given_p, corrected, strict=True))
    order = sorted(range(len(given_p)), key=lambda i: given_p[i])
    assert [corrected[i] for i in order] == sorted(corrected)


def test_holm_multiplies_the_least_by_all_and_the_next_by_one_less() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
