"""A test that is run several times has a rate as its verdict."""

from __future__ import annotations

import math
import re
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_serve_chaos.analysis.trials import Series, TrialOutcome, rate_words

outcomes = st.lists(st.sampled_from(get_args(TrialOutcome)), max_size=30)


def series(planned: int, allowed: int, each: list[TrialOutcome]) -> Series:
    """The series until its verdict."""
    so_far = Series(planned, allowed)
    for outcome in each:
        if so_far.verdict is not None:
            break
        so_far = so_far.and_then(outcome)
    return so_far


def test_no_failure_in_20_trials_leaves_13_9_percent() -> None:
    found = series(20, 0, ["passed"] * 20)

    assert found.verdict == "passed"
    assert found.text == "0 of 20 failed: less than 13.9 % at 95 %"


def test_a_failure_decides_where_none_is_allowed() -> None:
    found = series(20, 0, ["passed", "passed", "failed", "passed"])

    assert (found.verdict, len(found.outcomes)) == ("failed", 3)
    assert found.text == "1 of 3 failed: more than 1.7 % and less than 86.5 %, each at 95 %"


def test_trials_that_showed_nothing_count_for_nothing() -> None:
    passed: list[TrialOutcome] = ["passed"] * 6
    found = series(8, 0, [*passed, "inconclusive", "inconclusive"])

    assert found.verdict == "passed"
    assert found.text == "0 of 6 failed: less than 39.3 % at 95 %; 2 showed nothing"


def test_too_many_that_showed_nothing_leave_no_verdict() -> None:
    assert series(8, 0, ["inconclusive"] * 3).verdict == "inconclusive"
    assert series(3, 0, ["passed", "inconclusive"]).verdict == "inconclusive"


@given(outcomes, st.integers(1, 12), st.integers(0, 3))
def test_more_trials_could_not_change_a_verdict(each: list[TrialOutcome], planned: int, allowed: int) -> None:
    found = series(planned, min(allowed, planned - 1), each)
    left = planned - len(found.outcomes)
    if found.verdict is None:
        assert left > 0
        return
    for outcome in get_args(TrialOutcome):
        changed = found
        for _ in range(left):
            changed = changed.and_then(outcome)
        # One that showed too little to pass could still fail, but nobody waits for that.
        assert changed.verdict == found.verdict or (found.verdict, changed.verdict) == ("inconclusive", "failed")


@pytest.mark.parametrize(
    ("failed", "of", "words"),
    [
        (0, 1, "less than 95.0 % at 95 %"),
        (3, 3, "more than 36.8 % at 95 %"),
        (3, 20, "more than 4.2 % and less than 34.4 %, each at 95 %"),
    ],
)
def test_a_rate_has_the_one_sided_bounds_of_clopper_and_pearson(failed: int, of: int, words: str) -> None:
    assert rate_words(failed, of) == words


@pytest.mark.parametrize("which", ["more than", "less than"])
@pytest.mark.parametrize("of", [5, 20])
def test_each_bound_of_a_rate_holds_at_95_percent_whatever_the_rate_is(which: str, of: int) -> None:
    said = [re.search(rf"{which} ([\d.]+) %", rate_words(failed, of)) for failed in range(of + 1)]
    bounds = [None if found is None else float(found[1]) / 100 for found in said]
    rounded = 0.0005  # to 0.1 %

    def holds(rate: float, bound: float | None) -> bool:
        return bound is None or (bound <= rate + rounded if which == "more than" else bound >= rate - rounded)

    for percent in range(1, 100):
        rate = percent / 100
        chances = [math.comb(of, n) * rate**n * (1 - rate) ** (of - n) for n in range(of + 1)]
        assert sum(chance for chance, bound in zip(chances, bounds, strict=True) if holds(rate, bound)) >= 0.95
