"""The verdict of a test that is run several times: a rate of failures, with its bounds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from pytest_serve_chaos.analysis.statistics import lower_bound

TrialOutcome = Literal["passed", "failed", "inconclusive"]

_MOST_INCONCLUSIVE = 4
"""One in so many trials may show nothing."""


@dataclass(frozen=True, slots=True)
class Series:
    """The trials of a test so far.

    Attributes:
        planned: How many there shall be.
        allowed: How many of them may fail.
        outcomes: What each showed, in their order.
    """

    planned: int
    allowed: int = 0
    outcomes: tuple[TrialOutcome, ...] = ()

    def and_then(self, outcome: TrialOutcome) -> Series:
        """The series after one more trial."""
        return replace(self, outcomes=(*self.outcomes, outcome))

    @property
    def failed(self) -> int:
        """Trials that failed."""
        return self.outcomes.count("failed")

    @property
    def inconclusive(self) -> int:
        """Trials that showed nothing, and count for nothing."""
        return self.outcomes.count("inconclusive")

    @property
    def counted(self) -> int:
        """Trials that showed something."""
        return len(self.outcomes) - self.inconclusive

    @property
    def may_be_inconclusive(self) -> int:
        """How many trials may show nothing, so that the test still has a verdict."""
        return self.planned // _MOST_INCONCLUSIVE

    @property
    def verdict(self) -> TrialOutcome | None:
        """The verdict of the test; None while more trials can change it. An inconclusive one can no longer pass."""
        left = max(0, self.planned - len(self.outcomes))
        if self.failed > self.allowed:
            return "failed"
        if self.inconclusive > self.may_be_inconclusive:
            return "inconclusive"
        if self.failed + left <= self.allowed and self.inconclusive + left <= self.may_be_inconclusive:
            return "passed"
        return None if left else "passed"

    @property
    def text(self) -> str:
        """The rate with its bounds: ``0 of 20 failed: less than 13.9 % at 95 %``."""
        nothing = f"; {self.inconclusive} showed nothing" if self.inconclusive else ""
        if not self.counted:
            return f"no trial of {len(self.outcomes)} showed anything"
        return f"{self.failed} of {self.counted} failed: {rate_words(self.failed, self.counted)}{nothing}"


def rate_words(failed: int, of: int, confidence: float = 0.95) -> str:
    """What a number of failures says of the share of all trials that fail (Clopper and Pearson).

    Each bound is one-sided, however many failed. If bounds were two-sided where there are both, the number of failures
    would choose between two methods, and what they say at 95 % would hold less often than that.
    """
    sure = f"at {100 * confidence:g} %"
    least_share, most_share = rate_bounds(failed, of, confidence)
    least, most = f"more than {_percent(least_share)}", f"less than {_percent(most_share)}"
    if failed == 0:
        return f"{most} {sure}"
    return f"{least} {sure}" if failed == of else f"{least} and {most}, each {sure}"


def rate_bounds(failed: int, of: int, confidence: float = 0.95) -> tuple[float, float]:
    """The share of all trials that fail, at least and at most, 0 to 1: each holds with that confidence."""
    return lower_bound(of - failed, of, confidence), 1 - lower_bound(failed, of, confidence)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
