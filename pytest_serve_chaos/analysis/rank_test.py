"""The exact rank test of two sets of trials (Wilcoxon, Mann and Whitney), with ties and with values that are infinite.

It is a permutation test: it asks how many of all ways to share out the values among the two sides differ as much as
what was seen. So it needs no shape of their distribution, which for losses is heavy-tailed, with most values at zero.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

MOST_EXACT = 120
"""Beyond so many values in all, random permutations take the place of all of them."""
_PERMUTATIONS = 1_999
_SEED = 1


@dataclass(frozen=True, slots=True)
class RankTest:
    """What it found.

    Attributes:
        p: The p-value, two-sided.
        superiority: How often a new value is higher than an old one; equal ones count half. 0.5: neither is.
    """

    p: float
    superiority: float


def rank_test(old: Sequence[float], new: Sequence[float]) -> RankTest:
    """Tests whether new values tend to be higher or lower than old ones. Both sides have at least one value."""
    ranks = _doubled_ranks([*old, *new])
    size = len(old)
    seen = sum(ranks[size:])
    least, most = len(new) * (len(new) + 1), len(new) * (2 * size + len(new) + 1)
    return RankTest(p=_p(ranks, len(new), seen), superiority=(seen - least) / (most - least))


def least_p(old: int, new: int) -> float:
    """The least p-value that so many values can have: that of sides which do not overlap."""
    least = min(1.0, 2 / math.comb(old + new, old))
    return least if old + new <= MOST_EXACT else max(least, 1 / (1 + _PERMUTATIONS))


def shift(old: Sequence[float], new: Sequence[float], confidence: float = 0.95) -> tuple[float, tuple[float, float]]:
    """By how much new values are higher: the median of all differences (Hodges and Lehmann), and its interval.

    The interval has all shifts that the rank test does not refute. It is infinite where there are too few values.
    """
    differences = sorted(_difference(after, before) for before in old for after in new)
    rank = _critical(len(old), len(new), 1 - confidence)
    middle = _median(differences)
    if rank == 0:
        return middle, (-math.inf, math.inf)
    return middle, (differences[rank - 1], differences[-rank])


def trials_needed(p: float) -> int:
    """The least number of trials on each side that can have a p-value of `p` or less."""
    n = 1
    while 2 / math.comb(2 * n, n) > p:
        n += 1
    return n


def holm(values: Sequence[float]) -> list[float]:
    """The p-values corrected for how many there are (Holm): each may be compared with the level by itself."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    corrected = [1.0] * len(values)
    so_far = 0.0
    for place, i in enumerate(order):
        so_far = max(so_far, min(1.0, values[i] * (len(values) - place)))
        corrected[i] = so_far
    return corrected


def median(values: Sequence[float]) -> float:
    """The median; of an even number of values the mean of the two in the middle."""
    return _median(sorted(values))


def _median(ordered: Sequence[float]) -> float:
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return low if low == high else 0.0 if low == -high else (low + high) / 2  # both may be infinite


def _difference(after: float, before: float) -> float:
    return 0.0 if after == before else after - before  # both may be infinite


def _doubled_ranks(values: Sequence[float]) -> list[int]:
    """Twice the rank of each value, where equal values share the mean of their ranks: a whole number."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    ranks = [0] * len(values)
    first = 0
    while first < len(order):
        last = first
        while last + 1 < len(order) and values[order[last + 1]] == values[order[first]]:
            last += 1
        for place in range(first, last + 1):
            ranks[order[place]] = first + last + 2
        first = last + 1
    return ranks


def _p(ranks: Sequence[int], size: int, seen: int) -> float:
    """How likely a sum of `size` of these ranks is as far from the middle as the one seen, or further."""
    total = sum(ranks)
    far = abs(seen * len(ranks) - total * size)  # times the number of ranks, so that it is a whole number
    if len(ranks) > MOST_EXACT:
        return _p_of_random_ones(ranks, size, far)
    ways = _ways(ranks, size)
    as_far = sum(n for rank_sum, n in enumerate(ways) if n and abs(rank_sum * len(ranks) - total * size) >= far)
    return as_far / math.comb(len(ranks), size)


def _p_of_random_ones(ranks: Sequence[int], size: int, far: int) -> float:
    chance, total = random.Random(_SEED), sum(ranks)
    shuffled = list(ranks)
    as_far = 0
    for _ in range(_PERMUTATIONS):
        chance.shuffle(shuffled)
        as_far += abs(sum(shuffled[:size]) * len(ranks) - total * size) >= far
    return (1 + as_far) / (1 + _PERMUTATIONS)


def _ways(ranks: Sequence[int], size: int) -> list[int]:
    """For each sum, in how many ways `size` of the ranks have it.

    The numbers of all sums of so many ranks are the digits of one whole number, so that a shift and an addition do the
    work of a loop over all sums.
    """
    digit = len(ranks) + 1  # bits: no number is above two to the number of ranks
    by_count = [1] + [0] * size
    for seen, rank in enumerate(ranks, 1):
        for count in range(min(seen, size), 0, -1):
            by_count[count] += by_count[count - 1] << (digit * rank)
    packed, mask = by_count[size], (1 << digit) - 1
    ways = []
    while packed:
        ways.append(packed & mask)
        packed >>= digit
    return ways


def _critical(size: int, other: int, level: float) -> int:
    """How many of the smallest differences are outside the interval, plus one; 0 where no interval is that sure."""
    ranks = [2 * rank for rank in range(1, size + other + 1)]
    if len(ranks) > MOST_EXACT:
        spread = math.sqrt(size * other * (size + other + 1) / 12)
        return max(0, math.floor(size * other / 2 - NormalDist().inv_cdf(1 - level / 2) * spread))
    ways = _ways(ranks, size)
    least, total, sofar = size * (size + 1), math.comb(size + other, size), 0
    for rank in range(size * other // 2 + 1):
        sofar += ways[least + 2 * rank]
        if 2 * sofar > level * total:
            return rank
    return size * other // 2
