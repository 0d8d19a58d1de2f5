"""What got worse or better from one set of trials to another, beyond noise.

The trial is the unit: the requests of one trial share one fault, and are lost together, so that a thousand of them say
no more about the next fault than one trial does. Every p-value is corrected for the number of comparisons (Holm).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pytest_serve_chaos.analysis.rank_test import holm, median, rank_test, shift, trials_needed
from pytest_serve_chaos.analysis.sign_test import Signs, median_interval, pairs_needed
from pytest_serve_chaos.analysis.statistics import availability_interval
from pytest_serve_chaos.analysis.trial_figures import Measure, Trial
from pytest_serve_chaos.analysis.words import listing, number

ALPHA = 0.05
"""The probability, at most, that a comparison of two equal sides finds any difference."""

Finding = Literal["worse", "better", "no difference", "too few trials"]
Answer = Literal["worse", "no worse", "cannot say"]


@dataclass(frozen=True, slots=True)
class Compared:
    """One measure of one experiment on both sides.

    Attributes:
        experiment: Its name.
        measure: What was measured; less is better.
        old: The values of the old side, one for each trial that has one.
        new: Those of the new side; of pairs, the value at the same place belongs to the same pair.
        finding: What became of it.
        p: The p-value, corrected for the number of comparisons.
        change: By how much new values are higher: the median difference.
        interval: The 95 % interval of `change`.
        superiority: How often a new value is higher than an old one; equal ones count half.
        paired: Whether the trials are pairs.
        needed: The least number of trials on each side, or of pairs, that could show a difference.
        sent: The number of requests of which some were lost, where it is the same on both sides; else 0.
    """

    experiment: str
    measure: Measure
    old: tuple[float, ...]
    new: tuple[float, ...]
    finding: Finding
    p: float
    change: float
    interval: tuple[float, float]
    superiority: float
    paired: bool
    needed: int
    sent: int = 0

    @property
    def decided(self) -> bool:
        """Whether a difference was found."""
        return self.finding in ("worse", "better")

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
    """

    counted: int
    failed: int
    inconclusive: int
    sent: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sides, compared.

    Attributes:
        old: What the old side is called.
        new: What the new side is called.
        rows: One for each measure of each experiment that both sides have.
        counts: Experiment -> how many trials both sides have.
        notes: What the reader must know.
        answer: What is true of all experiments together.
        alpha: The probability, at most, of any finding where both sides are equal.
    """

    old: str
    new: str
    rows: tuple[Compared, ...]
    counts: Mapping[str, tuple[SideCount, SideCount]]
    notes: tuple[str, ...]
    answer: Answer
    alpha: float = ALPHA

    def of(self, experiment: str) -> tuple[Compared, ...]:
        """The rows of an experiment."""
        return tuple(row for row in self.rows if row.experiment == experiment)

    @property
    def decided(self) -> frozenset[str]:
        """The experiments of which at least one measure differs."""
        return frozenset(row.experiment for row in self.rows if row.decided)

    def with_notes(self, notes: Sequence[str]) -> Comparison:
        """The same with more that the reader must know."""
        return replace(self, notes=(*self.notes, *notes))


Counts = Mapping[str, tuple[SideCount, SideCount]]
"""Experiment -> how many trials the old and the new side have."""

Trials = Mapping[str, Sequence[Trial]]
"""Experiment -> its trials."""

Pairs = Mapping[str, Sequence[tuple[Trial, Trial]]]
"""Experiment -> its pairs of an old and a new trial, in the order in which they ran."""


def compare_sets(
    old: Trials, new: Trials, measures: Sequence[Measure], *, names: tuple[str, str], alpha: float = ALPHA
) -> Comparison:
    """Compares two sets of trials that were not run in pairs, by the exact rank test."""
    common = [name for name in old if name in new]
    rows = []
    for name in common:
        for measure in measures:
            before, after = _values(old[name], measure), _values(new[name], measure)
            if before and after:
                rows.append(_unpaired(name, measure, before, after))
    rows = _corrected(rows, alpha, trials_needed, tests=len(rows))
    counts = {name: (_count(old[name]), _count(new[name])) for name in common}
    missing = [name for name in old if name not in new]
    notes = [*_about_missing(old, new, names), *_about_counts(counts, names), *_differences(old, new, common)]
    notes += [text for name in common for text in _by_requests(name, old[name], new[name], names)]
    answer = _answer(rows, counts, missing)
    return Comparison(*names, tuple(_with_sent(rows, counts)), counts, tuple(notes), answer, alpha)


def compare_pairs(
    pairs: Pairs,
    measures: Sequence[Measure],
    *,
    names: tuple[str, str],
    experiments: int = 0,
    alpha: float = ALPHA,
) -> Comparison:
    """Compares pairs of trials by the sign test that holds at every look, so that it may be asked after each pair.

    Args:
        pairs: The pairs so far.
        measures: What is compared.
        names: What the sides are called.
        experiments: How many experiments there are at least, also those that have no pairs yet.
        alpha: The probability, at most, of any finding where both sides are equal.
    """
    rows = []
    for name, of_it in pairs.items():
        for measure in measures:
            values = _paired_values(of_it, measure)
            if values:
                rows.append(_paired(name, measure, values))
    # As many tests at each look: what has no values yet may have some later.
    rows = _corrected(rows, alpha, pairs_needed, tests=max(len(pairs), experiments) * len(measures))
    old = {name: [before for before, _ in of_it] for name, of_it in pairs.items()}
    new = {name: [after for _, after in of_it] for name, of_it in pairs.items()}
    counts = {name: (_count(old[name]), _count(new[name])) for name in pairs}
    notes = [*_about_counts(counts, names), *_differences(old, new, list(pairs))]
    return Comparison(*names, tuple(_with_sent(rows, counts)), counts, tuple(notes), _answer(rows, counts, []), alpha)


def undecidable(pairs: Pairs, measures: Sequence[Measure], *, more: int, tests: int, alpha: float = ALPHA) -> bool:
    """Whether so many more pairs could not decide anything, even if all of them went the same way.

    Args:
        pairs: The pairs so far.
        measures: What is compared.
        more: How many more pairs there will be at most.
        tests: The number of comparisons for which p-values are corrected.
        alpha: As for `compare_pairs`.
    """
    signs = [
        Signs.of([_less(after, before) for before, after in _paired_values(of_it, measure)])
        for of_it in pairs.values()
        for measure in measures
    ]
    return all(one.least_p(more) * tests > alpha for one in signs)


def _values(trials: Sequence[Trial], measure: Measure) -> tuple[float, ...]:
    return tuple(trial.values[measure.name] for trial in trials if trial.counts and measure.name in trial.values)


def _paired_values(pairs: Sequence[tuple[Trial, Trial]], measure: Measure) -> list[tuple[float, float]]:
    return [
        (before.values[measure.name], after.values[measure.name])
        for before, after in pairs
        if before.counts and after.counts and measure.name in before.values and measure.name in after.values
    ]


def _less(after: float, before: float) -> float:
    return 0.0 if after == before else after - before  # both may be infinite


def _unpaired(name: str, measure: Measure, old: tuple[float, ...], new: tuple[float, ...]) -> Compared:
    found = rank_test(old, new)
    change, interval = shift(old, new)
    return Compared(name, measure, old, new, "no difference", found.p, change, interval, found.superiority, False, 0)


def _paired(name: str, measure: Measure, values: Sequence[tuple[float, float]]) -> Compared:
    differences = [_less(after, before) for before, after in values]
    signs = Signs.of(differences)
    superiority = (signs.higher + signs.equal / 2) / len(differences)
    old, new = tuple(before for before, _ in values), tuple(after for _, after in values)
    interval = median_interval(differences)
    return Compared(
        name, measure, old, new, "no difference", signs.p, median(differences), interval, superiority, True, 0
    )


def _corrected(rows: Sequence[Compared], alpha: float, needed: Callable[[float], int], *, tests: int) -> list[Compared]:
    """The rows with their findings, each p-value corrected for the number of tests."""
    if not rows:
        return []
    least = needed(alpha / tests)
    p_values = holm([*(row.p for row in rows), *[1.0] * (tests - len(rows))])
    corrected = []
    for row, p in zip(rows, p_values, strict=False):
        finding: Finding = "no difference"
        if p <= alpha:
            finding = "worse" if row.superiority > 0.5 else "better"
        elif min(len(row.old), len(row.new)) < least:
            finding = "too few trials"
        corrected.append(replace(row, p=p, finding=finding, needed=least))
    return corrected


def _count(trials: Sequence[Trial]) -> SideCount:
    counted = [trial for trial in trials if trial.counts]
    sent = median([trial.sent for trial in counted]) if counted else math.nan
    failed = sum(trial.outcome == "failed" for trial in counted)
    return SideCount(len(counted), failed, len(trials) - len(counted), sent)


def _with_sent(rows: Sequence[Compared], counts: Counts) -> Iterator[Compared]:
    for row in rows:
        old, new = (side.sent for side in counts[row.experiment])
        like = row.measure.unit == "requests" and abs(old - new) <= 0.02 * old
        yield replace(row, sent=round(old)) if like else row


def _answer(
    rows: Sequence[Compared], counts: Mapping[str, tuple[SideCount, SideCount]], missing: Sequence[str]
) -> Answer:
    """What is true of all experiments together; what one of them cannot say, all of them cannot."""
    if any(row.finding == "worse" for row in rows):
        return "worse"
    shown = {row.experiment for row in rows if row.finding != "too few trials"}
    silent = [name for name in counts if name not in shown or _mostly_inconclusive(counts[name])]
    return "cannot say" if silent or missing or not rows else "no worse"


def _mostly_inconclusive(counts: tuple[SideCount, SideCount]) -> bool:
    return any(side.inconclusive > side.counted for side in counts)


# -- notes -------------------------------------------------------------------------------------------------------------


def _about_missing(old: Trials, new: Trials, names: tuple[str, str]) -> list[str]:
    notes = []
    for side, here, there in ((names[0], old, new), (names[1], new, old)):
        alone = [name for name in here if name not in there]
        if alone:
            notes.append(f"only {side} has {listing(alone)}, which cannot be compared")
    return notes


def _about_counts(counts: Counts, names: tuple[str, str]) -> list[str]:
    notes = []
    for experiment, sides in counts.items():
        for side, count in zip(names, sides, strict=True):
            if count.inconclusive:
                of = count.counted + count.inconclusive
                notes.append(f"{experiment}: {count.inconclusive} of {number(of, 'trial')} of {side} showed nothing")
        if any(side.failed for side in sides):
            failed = (f"{side.failed} of {side.counted} with {name}" for name, side in zip(names, sides, strict=True))
            notes.append(f"{experiment}: failed trials: {', '.join(failed)}")
        old, new = (side.sent for side in sides)
        if min(old, new) > 0 and max(old, new) > 1.25 * min(old, new):
            notes.append(
                f"{experiment}: {names[0]} sent {old:g} requests in the window and {names[1]} {new:g}, so their losses"
                " are not of the same number of requests"
            )
    return notes


def _differences(old: Trials, new: Trials, experiments: Sequence[str]) -> list[str]:
    """What differs between the clusters of both sides, where each side is the same all the time."""
    seen: dict[str, tuple[str, str]] = {}
    for name in experiments:
        before, after = (_said(trials) for trials in (old[name], new[name]))
        for key in before.keys() & after.keys():
            if before[key] != after[key]:
                seen[key] = before[key], after[key]
    return [f"{key.replace('_', ' ')}: {before} against {after}" for key, (before, after) in sorted(seen.items())]


def _said(trials: Sequence[Trial]) -> dict[str, str]:
    values: dict[str, set[str]] = {}
    for trial in trials:
        for key, value in trial.cluster.items():
            values.setdefault(key, set()).add(value)
    return {key: ", ".join(sorted(each)) for key, each in values.items()}


def _by_requests(name: str, old: Sequence[Trial], new: Sequence[Trial], names: tuple[str, str]) -> list[str]:
    """What the requests alone say of one trial against one, with the warning that this is not enough."""
    before, after = ([trial for trial in trials if trial.counts and trial.sent] for trials in (old, new))
    if len(before) != 1 or len(after) != 1:
        return []
    a, b = before[0], after[0]
    low, high = availability_interval(a.lost, a.sent), availability_interval(b.lost, b.sent)
    apart = low[0] > high[1] or high[0] > low[1]
    figures = f"{names[0]} lost {a.lost} of {a.sent} requests, {names[1]} {b.lost} of {b.sent}"
    verdicts = "" if a.outcome == b.outcome else f"; the verdicts are {a.outcome} and {b.outcome}"
    beyond = "more than requests lost one by one would differ" if apart else "no more than chance can explain"
    return [
        f"{name}: one trial against one has no p-value, because all requests of a trial share one fault; {figures}"
        f" ({beyond}){verdicts}"
    ]
