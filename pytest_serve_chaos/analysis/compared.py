"""What a comparison of two sides found, as values: a row for each measure of each experiment, and the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pytest_serve_chaos.analysis.rank_test import median
from pytest_serve_chaos.analysis.trial_figures import Measure, Trial

ALPHA = 0.05
"""The probability, at most, that a comparison of two equal sides finds any difference."""

Finding = Literal["worse", "better", "no difference", "too few trials"]
Answer = Literal["worse", "no worse", "cannot say"]

Unit = Literal["pair", "run", "trial"]
"""What is compared with what: pairs of runs, runs, or the trials of one run."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One measure of one experiment on both sides.

    Attributes:
        experiment: Its name.
        measure: What was measured; less is better.
        old: The values of the old side, one for each trial that has one, or each run.
        new: Those of the new side; of pairs, the value at the same place belongs to the same pair.
        finding: What became of it.
        p: The p-value, corrected for the number of comparisons.
        change: By how much new values are higher: the median difference; of shares, the difference of their means.
        interval: That of `change`, at `Comparison.confidence`; None of shares.
        superiority: How often a new value is higher than an old one; equal ones count half.
        rises: Whether new values are the higher ones, if they differ.
        unit: What a value is of.
        needed: The least number of trials or runs on each side, or of pairs, that could show a difference.
        sent: The number of requests of which some were lost, where it is the same on both sides; else 0.
    """

    experiment: str
    measure: Measure
    old: tuple[float, ...]
    new: tuple[float, ...]
    finding: Finding
    p: float
    change: float
    interval: tuple[float, float] | None
    superiority: float
    rises: bool
    unit: Unit
    needed: int = 0
    sent: int = 0

    @property
    def decided(self) -> bool:
        """Whether a difference was found."""
        return self.finding in ("worse", "better")

    @property
    def paired(self) -> bool:
        """Whether its values are pairs."""
        return self.unit == "pair"

    @property
    def medians(self) -> tuple[float, float]:
        """Those of both sides."""
        return median(self.old), median(self.new)


@dataclass(frozen=True, slots=True)
class SideCount:
    """How many trials of an experiment a side has.

    Attributes:
        counted: Those that showed something.
        failed: Those of them that failed.
        inconclusive: All others.
        sent: The median number of requests in the window.
        runs: The runs that all of these are from.
    """

    counted: int
    failed: int
    inconclusive: int
    sent: float
    runs: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sides, compared.

    Attributes:
        old: What the old side is called.
        new: What the new side is called.
        measures: What was compared.
        rows: One for each measure of each experiment that both sides have.
        counts: Experiment -> how many trials both sides have.
        notes: What the reader must know.
        answer: What is true of all experiments together.
        tests: The number of comparisons for which p-values are corrected.
        alpha: The probability, at most, of any finding where both sides are equal.
    """

    old: str
    new: str
    measures: tuple[Measure, ...]
    rows: tuple[Compared, ...]
    counts: Mapping[str, tuple[SideCount, SideCount]]
    notes: tuple[str, ...]
    answer: Answer
    tests: int
    alpha: float = ALPHA

    def of(self, experiment: str) -> tuple[Compared, ...]:
        """The rows of an experiment."""
        return tuple(row for row in self.rows if row.experiment == experiment)

    @property
    def confidence(self) -> float:
        """That of each interval: all of them together hold with 1 - `alpha`."""
        return confidence_of_each(self.alpha, self.tests)

    @property
    def decided(self) -> frozenset[str]:
        """The experiments of which at least one measure differs."""
        return frozenset(row.experiment for row in self.rows if row.decided)

    def with_notes(self, notes: Sequence[str]) -> Comparison:
        """The same with more that the reader must know."""
        return replace(self, notes=(*self.notes, *notes))


def confidence_of_each(alpha: float, tests: int) -> float:
    """The confidence of one of so many intervals, which all together hold with 1 - `alpha` (Bonferroni)."""
    return 1 - alpha / max(1, tests)


Counts = Mapping[str, tuple[SideCount, SideCount]]
"""Experiment -> how many trials the old and the new side have."""

Trials = Mapping[str, Sequence[Trial]]
"""Experiment -> its trials."""

Sides = Mapping[str, tuple[Sequence[Trial], Sequence[Trial]]]
"""Experiment -> the trials of the old and the new side; of a run with several of them, all together as one."""

Pairs = Mapping[str, Sequence[tuple[Trial, Trial]]]
"""Experiment -> its pairs of an old and a new trial, in the order in which they ran."""
