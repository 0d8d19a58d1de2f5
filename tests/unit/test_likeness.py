"""Whether trials are like good or bad ones."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from pytest_serve_chaos.analysis.likeness import Likeness

some = st.lists(st.sampled_from([0.0, 1.0, 2.0, 14.0, 40.0]), min_size=1, max_size=9)


def test_clear_cut_trials_need_no_more_than_two() -> None:
    likeness = Likeness.between(good=[0, 1, 1, 0, 2, 1, 0], bad=[14, 15, 9, 30, 14, 12, 18])

    assert likeness.like([13], 0.05) is None
    assert likeness.like([13, 16], 0.05) == "bad"
    assert likeness.like([1, 0], 0.05) == "good"


@given(some, some, some)
def test_higher_values_never_make_a_release_better(good: list[float], bad: list[float], seen: list[float]) -> None:
    likeness = Likeness.between(good, bad)

    assert likeness.evidence([value + 1 for value in seen]) >= likeness.evidence(seen)


def test_sides_that_do_not_differ_tell_nothing() -> None:
    assert Likeness.between([1.0, 2.0], [1.0, 2.0]).like([1.0] * 50, 0.05) is None


def test_a_release_is_seldom_taken_for_the_other_kind() -> None:
    chance = random.Random(7)

    def lost(bad: bool) -> float:
        return float(chance.choice([9, 14, 30, 60, 1]) if bad else chance.choice([0, 0, 1, 2, 12]))

    wrong = 0
    for _ in range(300):
        likeness = Likeness.between([lost(False) for _ in range(9)], [lost(True) for _ in range(9)])
        bad = chance.random() < 0.5
        values: list[float] = []
        while likeness.like(values, 0.02) is None and len(values) < 12:
            values.append(lost(bad))
        wrong += (likeness.evidence(values) > 0) != bad
    assert wrong <= 300 * 0.1
