"""Whether trials are like those of one side or of the other, which are known to differ: Wald's sequential test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Like = Literal["good", "bad"]


@dataclass(frozen=True, slots=True)
class Likeness:
    """Tells the trials of a bad side from those of a good one by one limit.

    Attributes:
        limit: A value above it is of the kind that the bad side has more often.
        good: How often a good trial is above it, with half a trial added on each side, so that it is never 0 or 1.
        bad: How often a bad trial is above it.
    """

    limit: float
    good: float
    bad: float

    @classmethod
    def between(cls, good: Sequence[float], bad: Sequence[float]) -> Likeness:
        """The limit that tells them apart best. Both sides have at least one trial.

        It is chosen among the values themselves: the good trials may have all values up to it.
        """

        def apart(limit: float) -> float:
            return _share_above(bad, limit) - _share_above(good, limit)

        best = max(sorted({*good, *bad}), key=apart)
        return cls(best, _share_above(good, best), _share_above(bad, best))

    def evidence(self, values: Sequence[float]) -> float:
        """The logarithm of how much likelier these are on the bad side than on the good one."""
        if self.bad <= self.good:
            return 0.0
        above = math.log(self.bad / self.good)
        below = math.log((1 - self.bad) / (1 - self.good))
        return math.fsum(above if value > self.limit else below for value in values)

    def like(self, values: Sequence[float], error: float) -> Like | None:
        """Which side they are like; None while that is not sure enough.

        Args:
            values: Of the trials so far.
            error: The probability of a wrong answer, about.
        """
        evidence, needed = self.evidence(values), math.log((1 - error) / error)
        if abs(evidence) < needed:
            return None
        return "bad" if evidence > 0 else "good"


def _share_above(values: Sequence[float], limit: float) -> float:
    return (sum(value > limit for value in values) + 0.5) / (len(values) + 1)
