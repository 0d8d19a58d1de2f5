"""How many requests chance may lose where so many are lost on average."""

from __future__ import annotations

import math

SURE = 0.99
"""The share of cases in which no more are lost than the prediction says."""

_LARGE = 500.0
"""Means from which the Poisson distribution is as good as normal."""

_NORMAL = 2.326
"""Standard deviations that 99 % of a normal distribution do not exceed."""


def at_most(mean: float) -> int:
    """The least number that is exceeded in one of a hundred cases at most, by a Poisson distribution.

    Requests to one victim among several are binomial, which spreads less: so the bound is on the safe side.

    Args:
        mean: How many are lost on average.
    """
    if mean <= 0:
        return 0
    if mean > _LARGE:
        return math.ceil(mean + _NORMAL * math.sqrt(mean))
    chance = total = math.exp(-mean)
    number = 0
    while total < SURE:
        number += 1
        chance *= mean / number
        total += chance
    return number
