"""The slope of a series that single values cannot bend: the median of the slopes of all pairs (Theil, Sen).

Its interval is Sen's, by Kendall's rank correlation with ties: no distribution of the values is assumed. It assumes
that they are independent, which those of a process are not; `growth` has what is needed in addition.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, median


@dataclass(frozen=True, slots=True)
class Slope:
    """A slope, in units of the values per unit of time, with its interval."""

    value: float
    low: float
    high: float


def theil_sen(times: Sequence[float], values: Sequence[float], confidence: float) -> Slope:
    """The slope of a series.

    Args:
        times: Strictly increasing; at least two.
        values: One for each.
        confidence: Of the interval, 0 to 1.
    """
    count = len(times)
    slopes = sorted(
        (values[later] - values[first]) / (times[later] - times[first])
        for first in range(count)
        for later in range(first + 1, count)
    )
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    half = z * math.sqrt(_variance(values))
    low = math.floor((len(slopes) - half) / 2) - 1
    high = math.ceil((len(slopes) + half) / 2)
    return Slope(
        median(slopes),
        slopes[low] if low >= 0 else -math.inf,
        slopes[high] if high < len(slopes) else math.inf,
    )


def _variance(values: Sequence[float]) -> float:
    """That of Kendall's S where there is no trend."""

    def term(number: int) -> int:
        return number * (number - 1) * (2 * number + 5)

    return (term(len(values)) - sum(term(ties) for ties in Counter(values).values())) / 18
