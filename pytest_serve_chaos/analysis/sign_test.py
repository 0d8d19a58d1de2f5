"""A sign test for pairs that may be looked at after each pair: it holds however often one looks, whenever one stops.

It bets on which side of a pair is larger. Where neither is larger more often, the stake is a martingale, so it ever
grows to 1/p with a probability of p at most (Ville's inequality). The bet is the average over all shares of pairs, by a
Beta(1/2, 1/2) distribution (Krichevsky and Trofimov's estimator), so that it needs no guess of how large the difference
is. Pairs with two equal values say nothing, and are left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

_HALVINGS = 50


@dataclass(frozen=True, slots=True)
class Signs:
    """How the pairs came out so far.

    Attributes:
        higher: Pairs whose difference is above zero.
        lower: Pairs whose difference is below zero.
        equal: Pairs whose difference is zero.
        most_evidence: The logarithm of the highest stake after any pair so far.
        rises: Whether more differences were above zero than below when the stake was highest.
    """

    higher: int = 0
    lower: int = 0
    equal: int = 0
    most_evidence: float = 0.0
    rises: bool = False

    @classmethod
    def of(cls, differences: Sequence[float]) -> Signs:
        """Those of these differences, in the order in which they were seen."""
        signs = cls()
        for difference in differences:
            signs = signs.and_then(difference)
        return signs

    def and_then(self, difference: float) -> Signs:
        """Those after one more pair."""
        if difference == 0:
            return replace(self, equal=self.equal + 1)
        higher, lower = self.higher + (difference > 0), self.lower + (difference < 0)
        now = evidence(higher, lower)
        if now <= self.most_evidence:
            return replace(self, higher=higher, lower=lower)
        return Signs(higher, lower, self.equal, now, higher > lower)

    @property
    def unequal(self) -> int:
        """The pairs that say something."""
        return self.higher + self.lower

    @property
    def p(self) -> float:
        """A p-value that holds at every look, two-sided."""
        return math.exp(-self.most_evidence)

    def least_p(self, more: int) -> float:
        """The p-value if all of so many further pairs went the way of the majority."""
        most, least = max(self.higher, self.lower), min(self.higher, self.lower)
        return min(self.p, math.exp(-max(0.0, evidence(most + more, least))))


def evidence(higher: int, lower: int) -> float:
    """The logarithm of the stake after so many pairs of each kind."""
    return _log_mixture(higher, lower) + (higher + lower) * math.log(2)


def share_interval(higher: int, lower: int, confidence: float) -> tuple[float, float]:
    """All shares that the stake has not refuted: those against which it has not grown to 1 / (1 - confidence)."""
    if not higher + lower:
        return 0.0, 1.0
    most = _log_mixture(higher, lower) + math.log(1 - confidence)

    def refuted(share: float) -> bool:
        return _log_likelihood(higher, lower, share) < most

    seen = higher / (higher + lower)
    return _edge(seen, 0.0, refuted), _edge(seen, 1.0, refuted)


def median_interval(differences: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """An interval that holds at every look, of the median of the differences; infinite where there are too few."""
    ordered = sorted(differences)
    n = len(ordered)
    least = math.log(1 / (1 - confidence))
    needed = next((k for k in range((n + 1) // 2, n + 1) if evidence(k, n - k) >= least), None)
    if needed is None:
        return -math.inf, math.inf
    return ordered[n - needed], ordered[needed - 1]


def share_interval_of_all_looks(differences: Sequence[float], confidence: float) -> tuple[float, float]:
    """`share_interval` of the unequal pairs, narrowed by each look, as the p-value is the best of all looks."""
    higher = lower = 0
    looks = []
    for difference in differences:
        higher, lower = higher + (difference > 0), lower + (difference < 0)
        looks.append(share_interval(higher, lower, confidence))
    return _in_all(looks, (0.0, 1.0))


def median_interval_of_all_looks(differences: Sequence[float], confidence: float) -> tuple[float, float]:
    """`median_interval`, narrowed by each look, as the p-value is the best of all looks."""
    looks = [median_interval(differences[:seen], confidence) for seen in range(1, len(differences) + 1)]
    return _in_all(looks, (-math.inf, math.inf))


def _in_all(intervals: Sequence[tuple[float, float]], widest: tuple[float, float]) -> tuple[float, float]:
    """What lies in all of these, which hold together; what lies between them where something changed on the way."""
    low, high = max([widest[0], *(low for low, _ in intervals)]), min([widest[1], *(high for _, high in intervals)])
    return min(low, high), max(low, high)


def pairs_needed(p: float) -> int:
    """The least number of pairs, all of which go one way, that have a p-value of `p` or less."""
    n = 1
    while evidence(n, 0) < -math.log(p):
        n += 1
    return n


def _log_mixture(higher: int, lower: int) -> float:
    """The logarithm of the Beta function of both, by that of the distribution over which is averaged."""
    above, below = higher + 0.5, lower + 0.5
    return math.lgamma(above) + math.lgamma(below) - math.lgamma(above + below) - math.log(math.pi)


def _log_likelihood(higher: int, lower: int, share: float) -> float:
    if (higher and share <= 0) or (lower and share >= 1):
        return -math.inf
    above = higher * math.log(share) if higher else 0.0
    return above + (lower * math.log1p(-share) if lower else 0.0)


def _edge(inside: float, end: float, refuted: Callable[[float], bool]) -> float:
    """Where the shares that are refuted begin, between one that is not and an end."""
    if not refuted(end):
        return end
    outside = end
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        if refuted(middle):
            outside = middle
        else:
            inside = middle
    return outside
